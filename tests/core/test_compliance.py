"""What a request's end counts for, for the objective of its capability."""

from __future__ import annotations

from typing import Any

import pytest
from harness import DONE, HELLO, House, spec
from objective_houses import proven, served

from controller.core.burn import Standing
from controller.core.events import RulesChanged
from controller.core.model import Request, Verdict
from controller.core.objectives import Objective, Rules
from controller.core.world import Limits
from subjects.answers import Fault, Frame
from subjects.errors import ErrorKind
from subjects.tokens import CapabilityId

ASKED = Objective(HELLO, p99_ms=100, availability=0.99, budget=0.01)
Counted = tuple[int, int, int, int]
"""Requests, bad, served, slow."""


def house(objective: Objective = ASKED, **options: Any) -> House:
    """A house with one worker and an objective."""
    made = House(**options)
    made.register("w-1", spec(max_concurrency=8))
    made.feed(RulesChanged(Rules({objective.capability: objective})))
    return made


def counted(made: House, capability: CapabilityId = HELLO) -> Counted:
    """All that was counted."""
    measured = made.world.compliance.measured[capability]
    measured.fold(29_000_000)
    totals = measured.day[1]
    return totals.requests, totals.bad, totals.served, totals.slow


def test_an_answer_is_served_and_slow_when_the_caller_waited_longer_than_the_target() -> None:
    """From its arrival to the last word; the histogram holds it."""
    made = house()
    call = made.request()
    made.advance(0.05)
    made.answers(call)
    assert counted(made) == (1, 0, 1, 0)
    call = made.request()
    made.advance(0.2)
    made.answers(call)
    assert counted(made) == (2, 0, 2, 1)
    assert sum(made.world.compliance.measured[HELLO].windows.hour.values()) == 2


def test_a_streamed_answer_is_served_when_it_ends() -> None:
    """Frames on the way count for nothing."""
    made = House()
    made.register("w-1", spec(streaming=True))
    made.feed(RulesChanged(Rules({HELLO: ASKED})))
    call = made.request()
    made.answers(call, Frame("chunk", 0, b"1"))
    assert counted(made) == (0, 0, 0, 0)
    made.answers(call, Frame("end", 1))
    assert counted(made) == (1, 0, 1, 0)


@pytest.mark.parametrize(("code", "bad"), [(500, 1), (503, 1), (400, 0), (422, 0), (499, 0)])
def test_a_workers_error_is_bad_unless_it_means_the_caller(code: int, bad: int) -> None:
    """An error below 500 is the caller's fault and counts as good; its time is no latency of an answer."""
    made = house()
    made.answers(made.request(), Fault(code, "no"))
    assert counted(made) == (1, bad, 0, 0)


def test_what_the_caller_brought_about_counts_for_nothing() -> None:
    """Refused for a version nobody has or a budget nobody meets, cancelled, or tried without running it."""
    made = house()
    made.request(version="^9")
    made.request(budget_tokens=-1.0)
    call = made.request(request_id="r-9")
    made.cancel("r-9")
    assert call.kind.suffix == "cancelled"
    made.request(dry_run=True)
    made.submit(idempotency_key="k")
    assert counted(made) == (0, 0, 0, 0)


def test_an_answer_from_before_counts_for_nothing() -> None:
    """A replay says nothing of how the capability does."""
    made = house()
    made.answers(made.request(idempotency_key="k"))
    made.request(idempotency_key="k")
    assert counted(made) == (1, 0, 1, 0)


def test_too_late_is_bad_unless_the_caller_had_less_patience_than_the_objective_asks_for() -> None:
    """Whoever waits 50 ms for what may take 100 spends nobody's budget."""
    made = house()
    made.request(timeout_ms=200)
    made.request(timeout_ms=50)
    made.advance(1.0)
    assert counted(made) == (1, 1, 0, 0)


def test_nobody_there_and_no_room_are_bad() -> None:
    """A capability whose workers are away fails its callers, and so does a full queue."""
    made = house(limits=Limits(queue_limit=0))
    for _ in range(9):
        made.request()
    assert counted(made) == (1, 1, 0, 0)
    made.deregister("w-1")
    assert made.request().kind.suffix == "no_worker"
    assert counted(made)[:2] == (2, 2)


def test_a_policy_that_cannot_be_asked_is_bad_and_a_denial_is_not() -> None:
    """The first is ours, the second the caller's."""
    words = [Verdict(False, "no answer", 0.0, unavailable=True), Verdict(False, "no", 0.0)]

    def policy(request: Request) -> Verdict:
        return words.pop()

    made = house(policy=policy)
    assert [made.request().kind.suffix for _ in range(2)] == ["policy_denied", "policy_unavailable"]
    assert counted(made) == (1, 1, 0, 0)


def test_an_objective_of_some_versions_counts_those_alone() -> None:
    """What another version answers is none of its requests."""
    made = House()
    made.register("w-1", spec(version="1.0.0"), spec(version="2.0.0"))
    made.feed(RulesChanged(Rules({HELLO: Objective(HELLO, version="^2", budget=0.01)})))
    made.answers(made.request(version="^1"))
    assert counted(made) == (0, 0, 0, 0)
    made.answers(made.request(version="^2"))
    assert counted(made) == (1, 0, 1, 0)


def test_a_capability_nothing_is_asked_of_is_not_counted() -> None:
    """Nor does it stand anywhere."""
    made = House()
    made.register("w-1")
    made.answers(made.request(), DONE)
    assert not made.world.compliance.measured
    assert made.world.compliance.burning(HELLO) is Standing.UNMEASURED


def test_counts_stay_when_the_objective_changes_or_goes_and_comes_back() -> None:
    """Another target is no other history; without one there is none to be seen."""
    made = house()
    made.answers(made.request())
    made.feed(RulesChanged(Rules({HELLO: Objective(HELLO, p99_ms=5)})))
    assert counted(made) == (1, 0, 1, 0)
    made.feed(RulesChanged(Rules()))
    assert not made.world.compliance.measured
    made.feed(RulesChanged(Rules({HELLO: ASKED})))
    assert counted(made) == (1, 0, 1, 0)


def test_what_enforcement_would_have_refused_is_counted_beside_what_was_served() -> None:
    """So that who looks at it knows what the next phase would do."""
    made = house(Objective(HELLO, p99_ms=10))
    proven(made, "w-1", 20)
    served(made, 3, 0.02)
    assert counted(made) == (3, 0, 3, 3)
    assert made.world.compliance.measured[HELLO].day[1].would == 3


def test_a_refusal_because_nobody_is_quick_enough_is_bad() -> None:
    """What no worker meets is not met, however it is said; a caller's own wish that nobody meets is the caller's."""
    made = house(Objective(HELLO, p99_ms=10, reject_on_violation=True, phase="enforce"))
    proven(made, "w-1", 20)
    assert made.request().kind is ErrorKind.NO_MATCH
    assert counted(made) == (1, 1, 0, 0)
    made.request(version="^9")
    made.request(latency_ms=5)
    assert counted(made) == (1, 1, 0, 0)


def test_whoever_makes_room_while_it_burns_does_not_keep_it_burning() -> None:
    """Low priority is refused on purpose then."""
    made = house(Objective(HELLO, p99_ms=500, reject_on_violation=True, phase="enforce"))
    proven(made, "w-1", 20, max_concurrency=1)
    made.world.compliance.measured[HELLO].standing = Standing.PAGE
    made.request()
    assert made.request(priority="low").terminal
    assert counted(made) == (0, 0, 0, 0)
