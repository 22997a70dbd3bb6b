"""Workers that fail: demoted before they are ejected, ejected for longer each time, never all of them, and forgiven."""

from __future__ import annotations

from random import Random

import pytest
from harness import DONE, HELLO, House, spec
from objective_houses import proven, rule, served, went_to

from controller.core.commands import Command, Publish
from controller.core.health import EJECTION_S, LONGEST_S
from subjects.answers import Fault, Garbage
from subjects.errors import ErrorKind

BROKEN, NOT_MINE = Fault(500, "broken"), Fault(422, "no such page")


def fails(house: House, worker_id: str, times: int, answer: object = BROKEN) -> list[Command]:
    """It fails so many times, one after the other, whoever else is there."""
    given = []
    for _ in range(times):
        for _ in range(200):
            call = house.request()
            if call.workers == [worker_id]:
                given += house.answers(call, answer)  # type: ignore[arg-type]
                break
            house.answers(call, DONE)
        else:
            break  # nobody asks it any more
    return given


def changes(house: House) -> list[tuple[str, str]]:
    """What was told of ejections so far."""
    events = [c for c in house.log if isinstance(c, Publish) and c.name in ("ejected", "restored")]
    return [(c.name, c.body["worker_id"]) for c in events]


def fleet(size: int = 4, **fields: object) -> House:
    """Equal workers, all known and beating."""
    house = House()
    for number in range(size):
        proven(house, f"w-{number}", 10, **fields)
        house.beating.add(f"w-{number}")
    return house


@pytest.mark.parametrize("answer", [BROKEN, Garbage("no header")])
def test_a_worker_that_fails_is_demoted(answer: object) -> None:
    """It gets nothing while others are free, or will be soon, and still gets what would wait for long."""
    house = fleet(2, max_concurrency=3)
    fails(house, "w-0", 4, answer)
    assert house.offer("w-0").demoted
    for _ in range(200):
        house.world.health.answered(house.offer("w-1"), 10, house.now)
    calls = [house.request() for _ in range(14)]
    assert [call.workers for call in calls[:4]] == [["w-1"], ["w-1"], ["w-1"], []]
    assert went_to(calls) == {"w-0", "w-1"}


def test_one_failure_may_be_chance() -> None:
    """So may two, or errors that are the caller's own."""
    house = fleet()
    fails(house, "w-0", 2)
    fails(house, "w-1", 30, NOT_MINE)
    assert not house.offer("w-0").demoted
    assert not house.offer("w-1").demoted


def test_a_few_failures_among_many_answers_are_no_reason() -> None:
    """One in twenty is what an objective may allow."""
    house = House()
    offer = proven(house, "w-0", 10, times=100)
    for _ in range(5):
        for _ in range(19):
            house.world.health.answered(offer, 10, house.now)
        house.world.health.failed(offer, 10, house.now)
    assert not offer.demoted


def test_whoever_did_much_is_found_out_as_soon() -> None:
    """Thousands of answers a moment ago do not make up for failing half of the work now."""
    house = House()
    offer = proven(house, "w-0", 10, times=10_000)
    for _ in range(6):
        house.world.health.answered(offer, 10, house.now)
        house.world.health.failed(offer, 10, house.now)
    assert offer.demoted


@pytest.mark.parametrize(("share", "demoted"), [(0.005, False), (0.01, False), (0.3, True), (0.5, True)])
def test_the_share_that_fails_decides_and_not_bad_luck(share: float, demoted: bool) -> None:
    """Thousands of answers of a worker that fails now and then, and a hundred of one that fails often."""
    for seed in range(5):
        house, dice = House(), Random(seed)
        offer = proven(house, "w-0", 10)
        for _ in range(100 if demoted else 3000):
            if dice.random() < share:
                house.world.health.failed(offer, 10, house.now)
            else:
                house.world.health.answered(offer, 10, house.now)
            if offer.demoted:
                break
        assert offer.demoted is demoted


def test_what_was_long_ago_is_forgotten() -> None:
    """One failure an hour is no reason, however many they become."""
    house = House()
    offer = proven(house, "w-0", 10)
    for hour in range(20):
        house.world.health.failed(offer, 10, house.now + 3600 * hour)
    assert not offer.demoted


def test_an_objective_that_allows_more_failures_forgives_more() -> None:
    """Five times its budget is no reason, where that is more than one in seven."""
    house = House()
    rule(house, availability=0.9, budget=0.1)
    offer = proven(house, "w-0", 10)
    for _ in range(100):
        house.world.health.failed(offer, 10, house.now)
        for _ in range(3):
            house.world.health.answered(offer, 10, house.now)
    assert not offer.demoted
    for _ in range(3):
        house.world.health.failed(offer, 10, house.now)
    assert offer.demoted


def test_a_demoted_worker_is_forgiven_after_a_while() -> None:
    """Without news it gets its share again."""
    house = fleet(2)
    fails(house, "w-0", 4)
    house.advance(60)
    assert not house.offer("w-0").demoted
    assert went_to(served(house, 50)) == {"w-0", "w-1"}


def test_a_worker_that_fails_again_soon_after_is_demoted_for_longer() -> None:
    """Twice as long each time, up to five minutes; and the count begins anew when it did well for long enough."""
    house = fleet(2)
    offer, lengths = house.offer("w-0"), []
    for _ in range(6):
        for _ in range(3):
            house.world.health.failed(offer, 10, house.now)
        lengths.append(round(offer.demoted_until - house.now))
        house.advance(offer.demoted_until - house.now + 1)
        assert not offer.demoted
    assert lengths == [30, 60, 120, 240, 300, 300]
    house.advance(301)
    fails(house, "w-0", 4)
    assert round(offer.demoted_until - house.now) == 30


def test_a_worker_that_goes_on_failing_is_ejected() -> None:
    """It gets nothing at all, and everybody is told."""
    house = fleet(2, max_concurrency=2)
    for _ in range(8):
        house.world.health.failed(house.offer("w-0"), 10, house.now)
    assert house.offer("w-0").ejected_until > house.now
    house.advance(0.1)
    assert changes(house) == [("ejected", "w-0")]
    calls = [house.request() for _ in range(3)]
    assert [call.workers for call in calls] == [["w-1"], ["w-1"], []], "rather nobody"


def test_a_worker_that_nearly_always_fails_is_ejected_at_once() -> None:
    """Those whom nobody else takes are not sent to it again and again."""
    house = House()
    house.register("w-0", spec(max_concurrency=100))
    house.register("w-1", spec(max_concurrency=100))
    offer = house.offer("w-0")
    for _ in range(10):
        house.world.health.failed(offer, 10, house.now)
    assert offer.ejected_until == house.now + EJECTION_S


def test_every_ejection_is_twice_as_long_up_to_a_limit() -> None:
    """And the count begins anew when it did well for long enough."""
    house = fleet(2)
    offer = house.offer("w-0")
    lengths = []
    for _ in range(8):
        for _ in range(60):
            if offer.ejected_until:
                break
            house.world.health.failed(offer, 10, house.now)
        lengths.append(round(offer.ejected_until - house.now))
        house.advance(offer.ejected_until - house.now + 0.1)
        assert not offer.ejected_until
    assert lengths == [10, 20, 40, 80, 160, 300, 300, 300]
    assert max(lengths) == LONGEST_S
    for _ in range(500):
        house.advance(2)
        house.world.health.answered(offer, 10, house.now)
    for _ in range(4):
        house.world.health.failed(offer, 10, house.now)
    assert (offer.demoted, offer.ejected_until) == (True, 0.0), "it is demoted first, as ever"


def test_half_of_a_capability_s_workers_are_never_ejected() -> None:
    """Whatever they do: the set never empties."""
    house = fleet(5)
    for number in range(5):
        for _ in range(60):
            house.world.health.failed(house.offer(f"w-{number}"), 10, house.now)
    assert sum(house.offer(f"w-{number}").ejected_until > 0 for number in range(5)) == 2
    assert house.request().dispatches


def test_what_all_suffer_is_no_reason_to_refuse() -> None:
    """Where all fail now and then, an enforced objective has them work as if none were demoted, each its share."""
    house = fleet(3, max_concurrency=2)
    rule(house, p99_ms=50, reject_on_violation=True, phase="enforce")
    for _ in range(8):
        for number in range(3):
            house.world.health.answered(house.offer(f"w-{number}"), 10, house.now)
            house.world.health.failed(house.offer(f"w-{number}"), 10, house.now)
    assert all(house.offer(f"w-{number}").demoted for number in range(3))
    calls = [house.request() for _ in range(7)]
    assert went_to(calls) == {"w-0", "w-1", "w-2"}
    assert not any(call.terminal for call in calls), "the last one waits"


def test_one_that_fails_often_is_better_than_a_refusal() -> None:
    """Where an objective is enforced, and the sound ones are too busy for it."""
    house = fleet(2, max_concurrency=1)
    rule(house, p99_ms=15, reject_on_violation=True, phase="enforce")
    for _ in range(5):
        house.world.health.failed(house.offer("w-0"), 10, house.now)
    assert house.offer("w-0").demoted
    calls = [house.request() for _ in range(3)]
    assert [call.workers for call in calls[:2]] == [["w-1"], ["w-0"]]
    assert calls[2].kind is ErrorKind.OVERLOADED


def test_the_only_worker_is_never_ejected() -> None:
    """Its errors are the callers' answers."""
    house = House()
    house.register("w-0", spec())
    for _ in range(50):
        call = house.request()
        assert call.workers == ["w-0"]
        house.answers(call, BROKEN)
        assert call.kind is ErrorKind.WORKER_ERROR
        house.advance(0.1)
        house.beat("w-0")


def test_an_ejected_worker_comes_back_when_it_is_the_last_one() -> None:
    """Before a request is refused for want of anybody else."""
    house = fleet(2)
    for _ in range(60):
        house.world.health.failed(house.offer("w-0"), 10, house.now)
    assert house.offer("w-0").ejected_until
    house.deregister("w-1")
    assert house.request().workers == ["w-0"]
    assert changes(house) == [("ejected", "w-0"), ("restored", "w-0")]


def test_a_worker_that_was_restarted_begins_anew() -> None:
    """What another process did is not held against it."""
    house = House()
    for worker_id in ("w-0", "w-1"):
        house.register(worker_id, spec(), instance="first")
    for _ in range(60):
        house.world.health.failed(house.offer("w-0"), 10, house.now)
    house.advance(7)
    house.register("w-0", spec(), instance="second")
    offer = house.offer("w-0")
    assert (offer.demoted, offer.ejected_until, offer.ejections, offer.strain) == (False, 0.0, 0, 0.0)


def test_a_time_out_is_held_against_a_worker_unless_the_caller_was_impatient() -> None:
    """Whoever waits for less than the work usually takes has no claim against who does it."""
    house = House(timeout_ms=5000)
    offer = proven(house, "w-0", 500)
    for _ in range(5):
        house.request(timeout_ms=100)
        house.advance(0.2)
        house.beat("w-0")
    assert offer.strain == 0.0
    house.request(timeout_ms=2000)
    house.advance(2.1)
    assert offer.strain > 3


def test_who_waits_gets_a_worker_that_comes_back() -> None:
    """The end of an ejection wakes them."""
    house = fleet(2, max_concurrency=1)
    for _ in range(60):
        house.world.health.failed(house.offer("w-0"), 10, house.now)
    first, second = house.request(timeout_ms=60_000), house.request(timeout_ms=60_000)
    assert (first.workers, second.workers) == (["w-1"], [])
    house.advance(EJECTION_S + 1)
    assert second.workers == ["w-0"]


def test_the_state_of_an_ejected_worker_is_told_with_the_candidates() -> None:
    """A dry run says who is left out, and why."""
    house = fleet(2)
    for _ in range(60):
        house.world.health.failed(house.offer("w-0"), 10, house.now)
    told = house.request(dry_run=True).answer.body.decode()
    assert "is ejected for a while: its work failed again and again" in told
    assert HELLO in told
