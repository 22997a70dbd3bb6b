"""Who goes first, who waits, and who is turned away at once because the objective or its time cannot be met."""

from __future__ import annotations

import pytest
from harness import BUSY, HELLO, Call, House, spec
from hypothesis import given
from hypothesis import strategies as st
from objective_houses import proven, rule, served, went_to

from controller.core import dispatching
from controller.core.compliance import Standing
from controller.core.objectives import Excused
from controller.core.stored import AppendJob
from controller.core.world import Limits
from subjects.errors import ErrorKind

TAKES_S = 0.02


def busy(**fields: object) -> House:
    """One worker whose only place is taken; it is known to take 20 ms."""
    house = House(timeout_ms=60_000)
    proven(house, "w-1", 20, max_concurrency=1, **fields)
    house.beating.add("w-1")
    house.request()
    return house


def order(house: House, calls: list[Call]) -> list[int]:
    """In which order those who wait are served, by their place in ``calls``."""
    served_first = []
    running = next(iter(house.calls.values()))
    for _ in calls:
        house.answers(running)
        running = next(call for call in calls if call.dispatches and not call.replies)
        served_first.append(calls.index(running))
    return served_first


# Who goes first ---------------------------------------------------------------------


def test_higher_priority_goes_first_and_then_the_earlier_deadline() -> None:
    """First come, first served among equals."""
    house = busy()
    asked = [("low", 9000), ("normal", 9000), ("high", 9000), ("normal", 5000), ("high", 5000), ("normal", 9000)]
    calls = [house.request(priority=priority, timeout_ms=ms) for priority, ms in asked]
    assert order(house, calls) == [4, 2, 3, 1, 5, 0]


@given(st.lists(st.tuples(st.sampled_from(["low", "normal", "high"]), st.integers(1000, 60_000)), max_size=20))
def test_the_line_is_sorted_by_priority_and_deadline(asked: list[tuple[str, int]]) -> None:
    """Whatever arrives, in whatever order."""
    house = busy()
    calls = [house.request(priority=priority, timeout_ms=ms) for priority, ms in asked]
    ranks = {"high": 0, "normal": 1, "low": 2}
    expected = sorted(range(len(asked)), key=lambda at: (ranks[asked[at][0]], asked[at][1], at))
    assert order(house, calls) == expected


def test_an_objective_of_its_own_makes_a_request_due_sooner() -> None:
    """Whoever asks for a quicker answer is served before one that has the same deadline."""
    house = busy()
    calls = [house.request(), house.request(latency_ms=3000)]
    assert order(house, calls) == [1, 0]


def test_in_a_full_queue_the_urgent_take_the_place_of_the_least_urgent() -> None:
    """The last in line of the lowest priority is told so; among equals nobody is."""
    house = House(timeout_ms=60_000, limits=Limits(queue_limit=2))
    house.register("w-1")
    house.request()
    low, normal = house.request(priority="low"), house.request()
    urgent = house.request(priority="high")
    assert low.kind is ErrorKind.OVERLOADED
    assert "a more urgent request took this one's place" in low.refusal.detail
    assert not normal.terminal
    assert not urgent.terminal
    refused = house.request()
    assert "(2 requests wait)" in refused.refusal.detail
    assert house.world.registry.groups[HELLO].waiting == 2


# Who is refused at once ---------------------------------------------------------------


def test_what_cannot_be_done_in_its_time_is_refused_at_once() -> None:
    """And not after it has waited; it says how long it would take."""
    house = busy()
    for _ in range(9):
        house.request(priority="high")
    refused = house.request(timeout_ms=100)
    assert refused.kind is ErrorKind.OVERLOADED
    assert refused.refusal.retry_after_ms
    assert "would take about 220 ms now, and 100 ms are left (9 requests wait). Nothing ran." in refused.refusal.detail
    assert not house.request(timeout_ms=300).terminal
    assert not house.request(timeout_ms=100, priority="high").terminal, "it goes first: its deadline is the earliest"


def test_nobody_is_refused_by_a_guess() -> None:
    """Before the work was measured a few times nobody knows how long it takes."""
    house = House()
    house.register("w-1")
    house.request()
    assert not [call for call in (house.request(timeout_ms=20) for _ in range(50)) if call.terminal]


def test_who_has_waited_until_it_is_too_late_makes_way() -> None:
    """A place is not wasted on what cannot be done any more."""
    house = busy()
    hung = next(iter(house.calls.values()))
    late, later = house.request(timeout_ms=100), house.request(timeout_ms=5000)
    house.advance(0.095)
    house.answers(hung)
    assert late.kind is ErrorKind.OVERLOADED
    assert "5 ms are left" in late.refusal.detail
    assert later.workers == ["w-1"]


# Objectives and their phases -----------------------------------------------------------


def crowded(**asked: object) -> House:
    """One worker that takes 20 ms where 50 are allowed, and so many waiting that nobody else is in time."""
    house = House(timeout_ms=60_000)
    rule(house, **{"p99_ms": 50, "reject_on_violation": True, **asked})
    proven(house, "w-1", 20, max_concurrency=1)
    house.beating.add("w-1")
    for _ in range(4):
        house.request(priority="high")
    return house


def test_enforced_an_objective_refuses_what_cannot_meet_it() -> None:
    """503 with how to go on; the urgent are done late rather than never."""
    house = crowded(phase="enforce")
    refused = house.request()
    assert refused.kind is ErrorKind.OVERLOADED
    assert "greet:hello is too busy for an answer within 50 ms" in refused.refusal.detail
    assert refused.refusal.retry_after_ms
    assert house.request(priority="low").kind is ErrorKind.OVERLOADED
    assert not house.request(priority="high").terminal


@pytest.mark.parametrize("asked", [{"phase": "log"}, {"phase": "enforce", "enforced_from_s": 1e12}])
def test_before_that_the_record_tells_what_would_have_been(asked: dict[str, object]) -> None:
    """In the log phase, and in the grace period."""
    house = crowded(**asked)
    call = house.request()
    assert not call.terminal
    for waiting in house.calls.values():
        house.answers(waiting)
    assert call.record.status == "success"
    assert call.record.aim is not None
    assert (call.record.aim.objective_ms, call.record.aim.would) == (50, "overloaded")


def test_without_rejection_an_objective_only_steers() -> None:
    """Nothing is refused; what it could not meet is noted all the same."""
    house = crowded(phase="enforce", reject_on_violation=False)
    call = house.request()
    for waiting in house.calls.values():
        house.answers(waiting)
    assert call.record.aim is not None
    assert (call.record.outcome, call.record.aim.would) == ("answered", "overloaded")


def test_exceptions_excuse_a_caller_until_their_day_is_over() -> None:
    """Others are refused meanwhile."""
    house = crowded(phase="exceptions", exceptions=(Excused("ann", 2000.0, "moving"),))
    assert not house.request(caller="ann").terminal
    assert house.request(caller="bob").kind is ErrorKind.OVERLOADED
    house.world.wall_offset_s = 5000.0
    assert house.request(caller="ann").kind is ErrorKind.OVERLOADED
    assert crowded(phase="enforce", exceptions=(Excused("ann", 2000.0, ""),)).request().terminal


def test_while_it_burns_the_least_urgent_do_not_even_wait() -> None:
    """They make room for the others; who finds a free worker is served."""
    house = House(timeout_ms=60_000)
    rule(house, p99_ms=500, reject_on_violation=True, phase="enforce")
    proven(house, "w-1", 20, max_concurrency=1)
    house.world.compliance.measured[HELLO].standing = Standing.PAGE
    assert house.request(priority="low").workers == ["w-1"]
    refused = house.request(priority="low")
    assert refused.kind is ErrorKind.OVERLOADED
    assert "is burning" in refused.refusal.detail
    assert not house.request().terminal


def test_an_objective_that_nobody_meets_is_no_match() -> None:
    """412 names the quickest; that is no use waiting for."""
    house = House()
    rule(house, p99_ms=10, reject_on_violation=True, phase="enforce")
    proven(house, "w-1", 20)
    refused = house.request()
    assert refused.kind is ErrorKind.NO_MATCH
    assert "gives an answer within 10 ms; the quickest takes about 20 ms" in refused.refusal.detail
    assert house.request(priority="high").workers == ["w-1"]


def test_an_objective_that_the_budget_does_not_pay_for_names_what_would() -> None:
    """402 with the best offer of those that meet it."""
    house = House()
    rule(house, p99_ms=50, reject_on_violation=True, phase="enforce")
    proven(house, "cheap", 90, cost_tokens_per_invocation=1)
    proven(house, "dear", 5, cost_tokens_per_invocation=10)
    proven(house, "dearer", 5, cost_tokens_per_invocation=20)
    refused = house.request(budget_tokens=5.0)
    assert refused.kind is ErrorKind.OVER_BUDGET
    assert "gives an answer within 50 ms for 5 tokens; the best offer is 10" in refused.refusal.detail
    rule(house, p99_ms=50)
    assert house.request(budget_tokens=5.0).workers == ["cheap"], "not enforced, it is late and within the budget"


def test_who_is_overtaken_is_refused_when_it_could_not_be_in_time_any_more() -> None:
    """And not a second later: whoever called may still ask somebody else."""
    house = House(timeout_ms=60_000)
    rule(house, p99_ms=200, reject_on_violation=True, phase="enforce")
    proven(house, "w-1", 20, max_concurrency=1)
    house.request()
    overtaken = house.request()
    for _ in range(20):
        house.request(priority="high")
    house.advance(0.1)
    assert not overtaken.terminal, "it may be in time yet, if the others are quick"
    house.advance(0.1)
    assert overtaken.kind is ErrorKind.OVERLOADED


def test_those_who_have_still_to_show_it_are_waited_for() -> None:
    """At the very beginning nobody has met the objective, and nothing says that nobody will."""
    house = House(timeout_ms=60_000)
    rule(house, p99_ms=50, reject_on_violation=True, phase="enforce")
    for number in range(4):
        house.register(f"w-{number}", spec(max_concurrency=4))
    calls = [house.request() for _ in range(20)]
    house.advance(0.01)
    for call in calls[:8]:
        house.answers(call)
    assert house.world.registry.groups[HELLO].service.answers >= 5
    for _ in range(8):
        call = house.request()
        assert not call.terminal or call.kind is ErrorKind.OVERLOADED


# Late or in line ------------------------------------------------------------------------


def two_paces(slow_places: int = 9) -> House:
    """50 ms are asked for: one worker takes 10 and does one at a time, one takes 100."""
    house = House(timeout_ms=60_000)
    rule(house, p99_ms=50)
    proven(house, "quick", 10, max_concurrency=1)
    proven(house, "slow", 100, max_concurrency=slow_places)
    return house


def test_a_short_wait_for_a_quick_worker_beats_a_slow_one_that_is_free() -> None:
    """It is in time all the same."""
    house = two_paces()
    first, second = house.request(), house.request()
    assert (first.workers, second.workers) == (["quick"], [])
    house.answers(first)
    assert second.workers == ["quick"]


def test_when_the_wait_is_longer_than_the_slow_one_takes_that_is_taken() -> None:
    """Late, and as little late as can be."""
    house = two_paces(slow_places=1)
    calls = [house.request() for _ in range(20)]
    assert went_to(calls) == {"quick", "slow"}
    slow = next(at for at, call in enumerate(calls) if call.workers == ["slow"])
    assert 4 <= slow <= 12


def test_who_waits_for_a_quick_worker_that_goes_away_takes_the_slow_one() -> None:
    """It thinks again, though nobody became free."""
    house = two_paces()
    house.beating.add("slow")
    house.request()
    waiting = house.request()
    assert not waiting.dispatches
    house.deregister("quick")
    house.advance(0.06)
    assert waiting.workers == ["slow"]


def test_who_waits_for_a_quick_worker_that_hangs_takes_the_slow_one() -> None:
    """What takes longer than it was predicted to is believed to take long, with a key as without."""
    house = two_paces()
    house.beating |= {"quick", "slow"}
    house.request()
    waiting = [house.request(), house.request(idempotency_key="k")]
    house.advance(0.05)
    assert [call.workers for call in waiting] == [[], []]
    house.advance(0.2)
    assert [call.workers for call in waiting] == [["slow"], ["slow"]]


def test_a_fleet_that_is_too_slow_as_a_whole_does_its_best() -> None:
    """The quickest of those that are free, not the cheapest."""
    house = House()
    rule(house, p99_ms=1)
    proven(house, "cheap", 80, cost_tokens_per_invocation=1)
    proven(house, "quick", 20, cost_tokens_per_invocation=10)
    assert went_to(served(house, 20, 0.02)) == {"quick"}


def test_another_objective_is_in_force_at_once_for_those_who_wait() -> None:
    """What was too slow yesterday may be quick enough today."""
    house = two_paces(slow_places=1)
    house.request()
    waiting = house.request()
    assert not waiting.dispatches
    rule(house, p99_ms=200)
    assert waiting.workers == ["slow"]


def test_a_default_patience_comes_from_the_objective_s_file() -> None:
    """Where the caller names none."""
    house = House(timeout_ms=1000)
    rule(house, timeout_ms=200)
    house.register("w-1", spec())
    call = house.request()
    assert call.dispatches[0].timeout_ms == 200
    assert house.request(timeout_ms=700).dispatches == []
    house.answers(call, BUSY)


def test_a_caller_with_less_patience_than_the_objective_is_not_refused_for_it() -> None:
    """Nobody has broken a promise: it is sent, and may be too late; that counts for nothing."""
    house = House()
    rule(house, p99_ms=200, reject_on_violation=True, phase="enforce")
    proven(house, "w-1", 50)
    house.beating.add("w-1")
    call = house.request(timeout_ms=20)
    assert call.workers == ["w-1"]
    house.advance(0.03)
    assert call.kind is ErrorKind.DEADLINE
    measured = house.world.compliance.measured[HELLO]
    measured.fold(29_000_000)
    assert measured.day[1].bad == 0


def test_a_wish_that_nobody_meets_is_told_what_to_wish_for() -> None:
    """A larger one: the quickest worker is named."""
    house = House()
    rule(house, p99_ms=200, reject_on_violation=True, phase="enforce")
    proven(house, "w-1", 50)
    refused = house.request(latency_ms=10).refusal
    assert refused.kind is ErrorKind.NO_MATCH
    assert refused.detail.endswith("takes about 50 ms. Send a larger Crank-Latency-Ms, or leave it out.")


# What an objective does not speak of ------------------------------------------------------


def test_an_objective_says_nothing_of_requests_for_other_versions() -> None:
    """They are neither refused for it nor counted."""
    house = House()
    rule(house, p99_ms=50, version="<2", reject_on_violation=True, phase="enforce")
    proven(house, "old", 10)
    proven(house, "new", 500, version="2.0.0")
    call = house.request(version=">=2")
    assert call.workers == ["new"]
    house.deregister("new")
    house.advance(0.1)
    assert house.request(version=">=2").terminal
    measured = house.world.compliance.measured[HELLO]
    measured.fold(29_000_000)
    assert measured.day[1].requests == 0


def test_a_job_is_done_however_long_it_takes() -> None:
    """Nobody waits for it, so an enforced objective refuses none."""
    house = House(timeout_ms=60_000)
    rule(house, p99_ms=10, reject_on_violation=True, phase="enforce")
    proven(house, "w-1", 20)
    house.submit()
    job = next(command for command in house.log if isinstance(command, AppendJob))
    assert house.deliver(job).workers == ["w-1"]


def test_while_it_burns_low_priority_makes_room_where_only_availability_is_asked() -> None:
    """What burns need not be latency."""
    house = House(timeout_ms=60_000)
    rule(house, availability=0.99, budget=0.01, reject_on_violation=True, phase="enforce")
    proven(house, "w-1", 20, max_concurrency=1)
    house.world.compliance.measured[HELLO].standing = Standing.EXHAUSTED
    house.request()
    assert house.request(priority="low").kind is ErrorKind.OVERLOADED
    assert not house.request().terminal


def test_those_who_wait_for_the_same_workers_with_other_wishes_are_ahead_too() -> None:
    """What they cannot be done in time for is refused at once."""
    house = House(timeout_ms=600_000)
    proven(house, "w-1", 1000, max_concurrency=1, cost_tokens_per_invocation=1)
    proven(house, "other", 1000, max_concurrency=1, version="2.0.0", cost_tokens_per_invocation=1)
    house.beating |= {"w-1", "other"}
    house.request(version="^1")
    for number in range(49):
        house.request(version="^1", budget_tokens=2.0 + number, priority="high")
    assert house.request(version="~1.0", timeout_ms=5000).kind is ErrorKind.OVERLOADED
    assert house.request(version="^2", timeout_ms=5000).workers == ["other"], "nobody waits for that one"


def test_a_thousand_who_wait_do_not_think_again_all_the_time() -> None:
    """The first in line does, and the others the less the farther behind they are."""
    house = House(timeout_ms=600_000)
    rule(house, p99_ms=1_000_000)
    proven(house, "quick", 2, max_concurrency=1)
    proven(house, "slow", 2_000_000, max_concurrency=1)
    house.beating |= {"quick", "slow"}
    calls = [house.request() for _ in range(300)]
    thought = []
    admit = dispatching.admit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatching, "admit", lambda *given: thought.append(1) or admit(*given))
        house.advance(1.0)
    assert sum(not call.terminal for call in calls) == 300
    assert 0 < len(thought) < 1500


def test_a_quick_worker_among_many_prices_is_found() -> None:
    """Whoever is in time may be one of the dearest."""
    house = House(timeout_ms=60_000)
    for number in range(80):
        latency_ms = 10 if number % 4 == 3 and number > 40 else 300
        proven(house, f"w-{number}", latency_ms, cost_tokens_per_invocation=number)
    found = went_to([house.request(latency_ms=100) for _ in range(20)])
    assert all(house.offer(worker).latency.mean_ms == 10 for worker in found)


def test_budgets_that_pay_for_the_same_workers_share_a_pool() -> None:
    """Whoever names another number each time costs no more than whoever names one."""
    house = House(timeout_ms=60_000)
    for number in range(3):
        proven(house, f"w-{number}", 10, cost_tokens_per_invocation=number + 1)
    for number in range(100):
        house.request(budget_tokens=1 + number / 60)
    assert house.request(budget_tokens=0.5).kind is ErrorKind.OVER_BUDGET
    budgets = {pool.budget_tokens for pool in house.world.registry.groups[HELLO].pools.values()}
    assert budgets == {None, 1.0, 2.0, -1.0}


def test_a_dry_run_brings_nobody_back() -> None:
    """It decides and changes nothing."""
    house = House()
    for worker_id in ("w-1", "w-2"):
        proven(house, worker_id, 10)
    for _ in range(30):
        house.world.health.failed(house.offer("w-1"), 10, house.now)
    house.deregister("w-2")
    house.request(dry_run=True)
    assert house.offer("w-1").ejected_until
    assert house.request().workers == ["w-1"]


def test_who_is_the_last_of_a_version_is_not_ejected() -> None:
    """It would be brought back by the next request for that, again and again."""
    house = House()
    house.register("w-1", spec(max_concurrency=9), spec(version="2.0.0", max_concurrency=9))
    house.register("w-2", spec(version="2.0.0", max_concurrency=9))
    house.request(version="^1")
    for _ in range(60):
        house.world.health.failed(house.offer("w-1"), 10, house.now)
    assert not house.offer("w-1").ejected_until
