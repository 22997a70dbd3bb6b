"""nats-server is killed and restarted with the same store, under load: keyed, durable and plain requests go on."""

from __future__ import annotations

from pathlib import Path

from chaos.laws import judge
from chaos.plan import SERVER, Trouble
from chaos.run import Plan, run


async def test_a_server_that_is_killed_and_restarted_under_load_costs_no_promise(tmp_path: Path) -> None:
    """Killed, stopped in order, and frozen, while 150 operations a second come; every law of chaos holds."""
    troubles = (
        Trouble(0.8, SERVER, "kill", 0.4),
        Trouble(2.2, SERVER, "restart", 0.0),
        Trouble(3.2, SERVER, "short freeze", 0.5),
    )
    plan = Plan(5.5, 150.0, 1, troubles, workers=("w-1", "w-2"))
    story, _ = await run(plan, tmp_path, lambda progress: None)
    assert judge(story) == {}
    assert len(story.troubles) == 3
    back = max(trouble.until for trouble in story.troubles)
    answered = {
        (story.operations[one.operation].kind, story.operations[one.operation].keyed)
        for one in story.attempts
        if one.sent > back and one.outcome == "answer" and one.what != "result"
    }
    assert {("request", True), ("request", False), ("job", True), ("stream", False)} <= answered
