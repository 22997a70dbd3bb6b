"""How much a caller may ask for: token buckets, shared by all live controllers."""

from __future__ import annotations

from random import Random

from harness import House, spec
from hypothesis import given
from hypothesis import strategies as st
from objective_houses import rule

from controller.core.objectives import Rate, Rates
from controller.core.rates import MAX_CALLERS, Buckets
from subjects.errors import ErrorKind


def test_a_caller_over_its_rate_is_told_how_long_to_wait() -> None:
    """429 with ``Retry-After``; after that it may go on."""
    house = House()
    house.register("w-1", spec(max_concurrency=100))
    rule(house, rates=Rates(Rate(2.0, 3.0)))
    calls = [house.request() for _ in range(4)]
    assert [bool(call.dispatches) for call in calls] == [True, True, True, False]
    refusal = calls[3].refusal
    assert (refusal.kind, refusal.retry_after_ms) == (ErrorKind.RATE_LIMITED, 500)
    assert "ann may ask 2 times a second, and 3 times at once, which is used up; wait 0.5 s" in refusal.detail
    house.advance(0.5)
    assert house.request().dispatches
    assert house.request(caller="bob").dispatches, "each has its own"


def test_a_caller_s_own_rate_takes_the_place_of_everybody_s() -> None:
    """Without either there is no limit."""
    house = House()
    house.register("w-1", spec(max_concurrency=1000))
    rule(house, rates=Rates(callers={"ann": Rate(1.0, 1.0)}))
    assert [bool(house.request().dispatches) for _ in range(2)] == [True, False]
    assert all(house.request(caller="bob").dispatches for _ in range(300))


def test_jobs_count_and_asking_for_their_results_does_not() -> None:
    """Whoever waits for what was accepted asks for nothing new."""
    house = House()
    house.register("w-1", spec())
    rule(house, rates=Rates(Rate(1.0, 1.0)))
    assert house.submit().answer.meta
    assert house.submit().kind is ErrorKind.RATE_LIMITED
    assert house.result("a" * 52).kind is ErrorKind.NO_SUCH_JOB


def test_a_caller_over_its_rate_is_refused_before_the_policy_is_asked() -> None:
    """It costs next to nothing."""
    asked = []
    house = House(policy=lambda request: asked.append(request))  # type: ignore[func-returns-value]
    rule(house, rates=Rates(Rate(1.0, 1.0)))
    house.request()
    assert house.request().kind is ErrorKind.RATE_LIMITED
    assert len(asked) == 1


@given(
    st.integers(1, 5),
    st.floats(0.5, 100),
    st.floats(1, 50),
    st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_no_caller_gets_more_than_its_rate_from_all_controllers_together(
    controllers: int, per_s: float, burst: float, pauses: list[float]
) -> None:
    """Burst and rate times the time, and of a burst as much more as chance may send to one of them."""
    rates, buckets = Rates(Rate(per_s, burst)), [Buckets() for _ in range(controllers)]
    now, granted = 100.0, 0
    for number, pause in enumerate(pauses):
        now += pause
        granted += buckets[number % controllers].take("ann", rates, controllers, now) is None
    more = 2 * (burst * (controllers - 1)) ** 0.5
    assert granted <= max(burst + more, controllers) + per_s * sum(pauses) + 1e-6


def test_a_burst_that_is_allowed_is_nearly_always_granted_however_it_is_spread() -> None:
    """Chance sends more of it to one controller than to another."""
    rates, dice, refused = Rates(Rate(1.0, 20.0)), Random(1), 0
    for _ in range(500):
        buckets = [Buckets(), Buckets(), Buckets()]
        refused += sum(dice.choice(buckets).take("ann", rates, 3, 1.0) is not None for _ in range(20))
    assert refused < 500 * 20 * 0.02


@given(st.floats(0.5, 100), st.floats(1, 50), st.integers(1, 5))
def test_whoever_waits_as_long_as_it_is_told_is_served(per_s: float, burst: float, controllers: int) -> None:
    """``Retry-After`` is true."""
    rates, buckets, now = Rates(Rate(per_s, burst)), Buckets(), 5.0
    while (short := buckets.take("ann", rates, controllers, now)) is None:
        pass
    assert buckets.take("ann", rates, controllers, now + short[1] * 1.000001) is None


def test_the_buckets_of_made_up_callers_take_no_more_room_than_is_given() -> None:
    """Whoever asked last is remembered."""
    rates, buckets = Rates(Rate(1.0, 1.0)), Buckets()
    assert buckets.take("ann", rates, 1, 1.0) is None
    for number in range(MAX_CALLERS):
        buckets.take(f"c-{number}", rates, 1, 1.0)
    assert buckets.take("ann", rates, 1, 1.0) is None, "forgotten"
    assert buckets.take(f"c-{MAX_CALLERS - 1}", rates, 1, 1.0) is not None
