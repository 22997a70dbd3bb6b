"""Waiting for a free worker: who waits, in which order they are served, and what ends the waiting."""

from __future__ import annotations

import pytest
from harness import BUSY, HELLO, House, spec

from controller.core.world import Limits
from simulation.books import check_all
from subjects.answers import Fault
from subjects.errors import ErrorKind

RETRYABLE = Fault(500, "try again", retryable=True)


def test_requests_wait_when_every_worker_is_full_and_are_served_in_order() -> None:
    """The longest waiting request gets the place that an answer frees."""
    house = House()
    house.register("w-1")
    first, second, third = (house.request() for _ in range(3))
    assert (len(first.dispatches), len(second.dispatches), len(third.dispatches)) == (1, 0, 0)
    assert house.world.registry.groups[HELLO].waiting == 2
    house.answers(first)
    assert (len(second.dispatches), len(third.dispatches)) == (1, 0)
    house.answers(second)
    house.answers(third)
    assert first.answer.body == second.answer.body == third.answer.body == b'"done"'
    assert house.world.registry.groups[HELLO].waiting == 0


def test_the_record_tells_waiting_from_working() -> None:
    """``queued_ms`` ends when the request is dispatched; what follows is the worker's time."""
    house = House()
    house.register("w-1")
    first, second = house.request(), house.request()
    house.advance(0.2)
    house.answers(first)
    house.advance(0.3)
    house.answers(second)
    timings = second.record.timings
    assert timings.queued_ms == pytest.approx(200)
    assert timings.worker_ms == pytest.approx(300)
    assert timings.total_ms == pytest.approx(500)


def test_waiting_twice_adds_up() -> None:
    """A request that has to wait again has waited both times."""
    house = House()
    house.register("w-1")
    first, second = house.request(), house.request()
    house.advance(0.1)
    house.answers(first)
    house.advance(0.1)
    house.answers(second, BUSY)  # it waits for 50 ms more
    house.advance(0.1)
    house.answers(second)
    assert second.record.timings.queued_ms == pytest.approx(150)


def test_a_full_queue_refuses_more() -> None:
    """503 ``overloaded``, which says when to come again; whoever waits goes on waiting."""
    house = House(limits=Limits(queue_limit=2))
    house.register("w-1")
    waiting = [house.request() for _ in range(3)]
    refused = house.request()
    assert refused.kind is ErrorKind.OVERLOADED
    assert refused.refusal.retry_after_ms
    assert "(2 requests wait)" in refused.refusal.detail
    house.answers(waiting[0])
    assert waiting[1].dispatches


def test_the_deadline_ends_the_waiting_and_nothing_ran() -> None:
    """504, ``maybe_executed`` false, and where the time went."""
    house = House()
    house.register("w-1")
    house.request(timeout_ms=5000)
    waiting = house.request(timeout_ms=300)
    house.advance(0.31)
    assert waiting.kind is ErrorKind.DEADLINE
    assert waiting.refusal.maybe_executed is False
    assert "waiting for a free worker" in waiting.refusal.detail
    assert house.world.registry.groups[HELLO].waiting == 0


def test_a_worker_that_joins_takes_the_waiting() -> None:
    """As many as it has room for, the longest waiting first."""
    house = House()
    house.register("w-1")
    calls = [house.request() for _ in range(5)]
    house.register("w-2", spec(max_concurrency=2))
    assert [len(call.dispatches) for call in calls] == [1, 1, 1, 0, 0]


def test_a_heartbeat_with_more_capacity_takes_the_waiting() -> None:
    """A worker's own capacity holds across its capabilities, and is believed when it grows."""
    house = House()
    house.register("w-1", spec(max_concurrency=8), spec("greet:bye", max_concurrency=8))
    house.beat("w-1", capacity=1)
    first, second, third = house.request(), house.request(), house.request("greet:bye")
    assert not second.dispatches
    assert not third.dispatches
    house.beat("w-1", capacity=2)
    assert second.dispatches
    assert not third.dispatches
    house.answers(first)
    assert third.dispatches, "an answer frees the worker for all that it offers"


def test_a_worker_that_registers_with_more_room_takes_the_waiting() -> None:
    """A manifest that replaces another counts at once."""
    house = House()
    house.register("w-1", spec(max_concurrency=1))
    _, second = house.request(), house.request()
    house.register("w-1", spec(max_concurrency=2))
    assert second.workers == ["w-1"]


def test_an_orphan_keeps_its_place_until_nobody_believes_in_it() -> None:
    """A dispatch that timed out counts as in flight for ten seconds more, unless its worker answers."""
    house = House()
    house.beating = {"w-1"}
    house.register("w-1")
    house.request(timeout_ms=100)
    house.advance(0.2)
    waiting = house.request(timeout_ms=60_000)
    house.advance(9)
    assert not waiting.dispatches
    house.advance(2)
    assert waiting.dispatches
    assert house.router.in_flight == 1


def test_work_that_its_worker_no_longer_offers_gives_its_place_to_what_it_does() -> None:
    """The last of an offer that a new manifest left out comes back, and the worker has room again."""
    house = House()
    house.register("w-1", spec("greet:old", max_concurrency=2), spec(max_concurrency=2))
    old = house.request("greet:old")
    house.register("w-1", spec(max_concurrency=2))
    house.beat("w-1", capacity=1)
    call = house.request()
    assert not call.dispatches, "the old work takes the only place"
    house.answers(old)
    assert call.workers == ["w-1"]
    check_all(house.router)


def test_those_who_ask_for_different_versions_wait_apart() -> None:
    """A place that does not fit the one does not keep the other waiting."""
    house = House()
    house.register("w-1", spec(version="1.0.0"))
    house.register("w-2", spec(version="2.0.0"))
    one, two = house.request(version="^1"), house.request(version="^2")
    wants_one, wants_two = house.request(version="^1"), house.request(version="^2")
    house.answers(two)
    assert not wants_one.dispatches
    assert wants_two.workers == ["w-2"]
    house.answers(one)
    assert wants_one.workers == ["w-1"]


def test_whoever_cannot_use_a_free_worker_keeps_nobody_else_from_it() -> None:
    """A request that failed at the free worker waits for the other one, and those behind it pass."""
    house = House()
    house.register("w-1", spec(idempotent=True))
    failed = house.request(timeout_ms=5000)
    house.register("w-2", spec(idempotent=True))
    long = house.request(timeout_ms=5000)
    behind = house.request(timeout_ms=5000)
    assert (failed.workers, long.workers, behind.workers) == (["w-1"], ["w-2"], [])
    house.answers(failed, RETRYABLE)
    assert behind.workers == ["w-1"], "the place goes to who waited"
    assert failed.workers == ["w-1"], "which tried it, and waits for the other"
    house.answers(behind)
    newcomer = house.request(timeout_ms=5000)
    assert newcomer.workers == ["w-1"], "it is free, and nobody who waits can use it"
    later = house.request(timeout_ms=5000)
    house.answers(newcomer)
    assert later.workers == ["w-1"]
    house.answers(long)
    assert failed.workers == ["w-1", "w-2"]


def test_a_request_that_is_told_busy_waits_its_turn_and_goes_on() -> None:
    """A single worker that says *busy* is asked again after 50 ms."""
    house = House()
    house.register("w-1")
    call = house.request()
    house.answers(call, BUSY)
    house.advance(0.049)
    assert len(call.dispatches) == 1
    house.advance(0.007)
    assert len(call.dispatches) == 2
    house.answers(call)
    assert call.answer.meta.attempts == 2


def test_a_busy_worker_is_asked_again_when_it_answers_something_else() -> None:
    """An answer says that there is room again, before the pause is over."""
    house = House()
    house.register("w-1", spec(max_concurrency=2))
    working, told_busy = house.request(), house.request()
    house.answers(told_busy, BUSY)
    assert house.offer("w-1").paused
    house.answers(working)
    assert len(told_busy.dispatches) == 2
    assert not house.offer("w-1").paused
    house.advance(0.1)
    assert len(told_busy.dispatches) == 2


def test_waiting_survives_that_the_last_worker_leaves_and_another_comes() -> None:
    """Who waits already is served by whoever comes before its deadline."""
    house = House(timeout_ms=5000)
    house.register("w-1")
    house.request()
    waiting = house.request()
    house.deregister("w-1")
    assert not waiting.replies
    house.register("w-2")
    assert waiting.workers == ["w-2"]
