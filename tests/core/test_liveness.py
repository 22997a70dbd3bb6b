"""Alive, suspect, gone, forgotten: by the clock, with an interval of two seconds."""

from __future__ import annotations

import pytest
from harness import HELLO, House, controls, manifest_of, registration, spec, stored, told

from controller.core.events import TICK, EntrySeen
from controller.core.fleet import State
from controller.core.registry import FORGET_AFTER_S
from subjects.answers import NO_RESPONDERS, Frame
from subjects.errors import ErrorKind


def states(house: House, *times: float) -> list[State]:
    """The states of w-1 at these times after now."""
    start, found = house.now, []
    for time in times:
        house.until(start + time)
        found.append(house.worker("w-1").state)
    return found


def test_silence_makes_suspect_and_then_gone() -> None:
    """Two missed heartbeats, then three, each allowed to be a quarter of an interval late."""
    house = House()
    house.register("w-1")
    assert states(house, 4.49, 4.51, 6.49, 6.51) == [State.ALIVE, State.SUSPECT, State.SUSPECT, State.GONE]
    assert told(house.log) == [("joined", "w-1"), ("suspect", "w-1"), ("left", "w-1")]


def test_heartbeats_keep_a_worker_alive() -> None:
    """For as long as they come."""
    house = House()
    house.register("w-1")
    house.beating = {"w-1"}
    house.advance(600)
    assert house.worker("w-1").state is State.ALIVE
    assert told(house.log) == [("joined", "w-1")]


@pytest.mark.parametrize("silence", [4.6, 7.0])
def test_a_heartbeat_brings_a_worker_back(silence: float) -> None:
    """From suspect and from gone, and only from gone it joins anew."""
    house = House()
    house.register("w-1")
    house.advance(silence)
    commands = house.beat("w-1")
    assert house.worker("w-1").state is State.ALIVE
    assert told(commands) == ([("joined", "w-1")] if silence > 6.5 else [])
    assert house.request().dispatches
    assert states(house, 4.49, 4.51) == [State.ALIVE, State.SUSPECT]


@pytest.mark.parametrize("answer", ["answer", "frame"])
def test_an_answer_or_a_frame_counts_as_a_heartbeat(answer: str) -> None:
    """Whoever works is there."""
    house = House(timeout_ms=60_000)
    house.register("w-1", spec(streaming=True))
    call = house.request()
    house.advance(4.6)
    assert house.worker("w-1").state is State.SUSPECT
    if answer == "frame":
        house.answers(call, Frame("chunk", 0))
    else:
        house.answers(call)
    assert house.worker("w-1").state is State.ALIVE
    assert states(house, 4.4) == [State.ALIVE]


def test_suspect_workers_get_work_and_gone_ones_do_not() -> None:
    """A missed heartbeat is no proof."""
    house = House()
    house.register("w-1", spec(max_concurrency=9))
    house.advance(4.6)
    assert house.request().dispatches
    house.advance(2)
    assert house.request().kind is ErrorKind.NO_WORKER


def test_a_worker_that_is_only_stored_is_suspect_for_three_intervals() -> None:
    """After a replay everyone is eligible, and whoever is not heard goes."""
    house = House()
    house.feed(EntrySeen(stored(manifest_of("w-1"), 1)))
    assert states(house, 0, 6.49, 6.51) == [State.SUSPECT, State.SUSPECT, State.GONE]


def test_a_draining_worker_that_falls_silent_is_gone_too() -> None:
    """And what it had is lost."""
    house = House(timeout_ms=60_000)
    house.register("w-1")
    call = house.request()
    house.beat("w-1", draining=True)
    assert states(house, 6.49, 6.51) == [State.DRAINING, State.GONE]
    assert call.kind is ErrorKind.WORKER_LOST


def test_a_gone_worker_that_comes_back_draining_gets_nothing_and_goes_again() -> None:
    """Not even those who wait are given to it."""
    house = House(timeout_ms=60_000)
    house.register("w-1")
    house.request()
    waiting = house.request()
    house.advance(7)
    house.beat("w-1", draining=True)
    assert not waiting.dispatches
    assert states(house, 6.49, 6.51) == [State.DRAINING, State.GONE]


def test_a_suspect_worker_that_drains_gets_nothing() -> None:
    """Its heartbeat is heard as a whole."""
    house = House(timeout_ms=60_000)
    house.register("w-1")
    first = house.request()
    waiting = house.request()
    house.answers(first, NO_RESPONDERS)
    assert not house.offer("w-1").reachable
    house.beat("w-1", draining=True)
    assert not waiting.dispatches
    house.beat("w-1")
    assert waiting.dispatches


def test_a_heartbeat_that_was_overtaken_says_nothing_new() -> None:
    """A worker that drains is not brought back by what it sent before; that it is there still counts."""
    house = House()
    house.register("w-1", instance="a")
    house.beat("w-1", seq=5, instance="a", draining=True, capacity=1)
    house.advance(2.6)
    house.beat("w-1", seq=4, instance="a", capacity=8)
    assert house.worker("w-1").state is State.DRAINING
    assert house.worker("w-1").capacity == 1
    assert house.request().kind is ErrorKind.NO_WORKER
    house.advance(5.0)
    assert house.worker("w-1").state is State.DRAINING, "it was heard"
    house.beat("w-1", seq=6, instance="a")
    assert house.worker("w-1").state is State.ALIVE


def test_heartbeats_that_are_not_numbered_count_in_the_order_of_their_arrival() -> None:
    """A worker that always says the same number, and one that begins anew without an instance."""
    house = House()
    house.register("w-1", instance="a")
    house.register("w-2")
    for worker_id, instance in (("w-1", "a"), ("w-2", None)):
        house.beat(worker_id, seq=7, instance=instance, draining=True)
        house.beat(worker_id, seq=7 if instance else 1, instance=instance)
        assert house.worker(worker_id).state is State.ALIVE


def test_the_heartbeats_of_a_new_instance_are_numbered_anew() -> None:
    """It drains from its first one on, though its predecessor sent more."""
    house = House()
    house.register("w-1", instance="a")
    house.beat("w-1", seq=50, instance="a", draining=True)
    house.register("w-1", instance="b")
    house.beat("w-1", seq=1, instance="b", capacity=3)
    assert house.worker("w-1").capacity == 3


def test_a_draining_worker_with_more_room_gets_nothing() -> None:
    """Its heartbeat is heard as a whole, whichever of its parts changed."""
    house = House(timeout_ms=60_000)
    house.register("w-1", spec(max_concurrency=2))
    house.beat("w-1", capacity=1)
    house.request()
    waiting = house.request()
    house.beat("w-1", capacity=2, draining=True)
    assert not waiting.dispatches
    house.beat("w-1", capacity=2)
    assert waiting.dispatches


def test_gone_workers_are_forgotten_after_an_hour() -> None:
    """Until then they are in view; their capability stays known."""
    house = House()
    house.register("w-1")
    house.advance(FORGET_AFTER_S - 1)
    assert house.worker("w-1").state is State.GONE
    house.advance(1.1)
    assert not house.knows("w-1")
    assert house.request().kind is ErrorKind.NO_WORKER
    assert len(house.router.timers) == 0


def test_a_forgotten_worker_that_comes_back_is_known_again() -> None:
    """Its manifest is still stored, and a heartbeat is all it takes."""
    house = House()
    house.register("w-1")
    house.advance(FORGET_AFTER_S + 1)
    commands = house.beat("w-1")
    assert controls(commands) == []
    assert house.worker("w-1").state is State.ALIVE
    assert house.request().dispatches


def test_who_registers_again_after_it_was_gone_joins_again() -> None:
    """Also with the manifest that is stored already."""
    house = House()
    house.register("w-1")
    house.advance(7)
    commands = house.feed(registration(manifest_of("w-1")))
    assert told(commands) == [("joined", "w-1")]
    assert house.request().dispatches


def test_a_stall_gives_everyone_a_fresh_interval() -> None:
    """Nobody's heartbeat could be heard while the process stood still."""
    house = House()
    house.register("w-1")
    house.advance(1)
    house.stand_still(30)
    house.feed(TICK)
    assert house.worker("w-1").state is State.ALIVE
    assert states(house, 3.49, 3.51, 5.51) == [State.ALIVE, State.SUSPECT, State.GONE]


def test_the_groups_of_a_worker_that_went_hold_nothing_of_it() -> None:
    """Forgetting is complete."""
    house = House()
    house.register("w-1")
    house.request(version="^1").dispatches.clear()
    house.advance(FORGET_AFTER_S + 1)
    group = house.world.registry.groups[HELLO]
    assert not group.offers
    assert all(not pool.members and not pool.free and not pool.eligible for pool in group.pools.values())


def test_a_worker_that_was_gone_already_does_not_leave_a_second_time() -> None:
    """Its departure is stored, and nobody is told what they know."""
    house = House()
    house.register("w-1")
    house.advance(10)
    house.log.clear()
    house.deregister("w-1")
    assert not house.knows("w-1")
    assert told(house.log) == []
