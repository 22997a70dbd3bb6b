"""The one hole that no claim can close: a controller that freezes between an acknowledged claim and its dispatch."""

from __future__ import annotations

from simulation.plan import Call, Mishap, Plan, Trouble
from simulation.world import run
from subjects.tokens import CapabilityId

ONCE = CapabilityId("run:once")
FROZEN = (Mishap("gap", 1, "frozen"),)


def test_a_dispatch_that_lay_frozen_runs_after_its_claim_was_over() -> None:
    """Others called it unknown, an operator released its key, and the key was used again. It is counted, not forbidden.

    Within each life of the key it ran once, which the laws see to.
    """
    result = run(
        Plan(
            seed=1,
            controllers=(1, 2),
            workers=(1, 2, 3),
            noise=False,
            happenings=(
                Call(4.0, 1, ONCE, key="k", mishaps=FROZEN),
                Call(4.5, 100, ONCE, key="k", timeout_ms=15000),
                Trouble(10.5, "operator", 0, "release", 0.1),
                Call(11.0, 101, ONCE, key="k", timeout_ms=5000),
            ),
        )
    )
    assert (result.law, result.detail) == ("", "")
    assert result.keys["claim unknown"] == result.keys["claim released"] == 1
    assert result.keys["ran when its claim was over"] == 1


def test_without_an_operator_nothing_runs_twice() -> None:
    """However long it lay: its key stays unknown until its own answer comes, which is what the others get."""
    calls = (Call(4.0, 1, ONCE, key="k", mishaps=FROZEN), Call(4.5, 100, ONCE, key="k", timeout_ms=15000))
    later = Call(30.0, 102, ONCE, key="k")
    result = run(Plan(1, (1, 2), (1, 2, 3), False, (*calls, later)))
    assert (result.law, result.detail) == ("", "")
    assert result.keys["claim dispatching"] == result.keys["claim done"] == 1
    assert "ran when its claim was over" not in result.keys
    assert (result.outcomes["outcome_unknown"], result.outcomes["replayed"]) == (1, 1)
