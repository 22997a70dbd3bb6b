"""The loop between the core and the world: order, one timer, stalls, and errors that cost nobody else anything."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from harness import ALLOW, HELLO, START_S, House, manifest_of, registration, stored

from controller.core.commands import Answer, Authorize, Command, Dispatch, Record, Refuse, ReplyJson
from controller.core.events import (
    TICK,
    Answered,
    EntrySeen,
    Event,
    HeartbeatSeen,
    RequestArrived,
    Stalled,
    Tick,
    VerdictReached,
)
from controller.core.model import Request
from controller.driver import PULSE_S, STALL_S, Driver
from subjects.answers import Result
from subjects.messages import Heartbeat
from subjects.requests import NO_HEADERS, RequestHeaders
from subjects.tokens import DispatchId, RequestId, WorkerId


class Pretend:
    """A world on a fake clock that performs what a test tells it to."""

    def __init__(self) -> None:
        self.time = START_S
        self.woken: list[float] = []
        self.performed: list[Command] = []
        self.on: dict[type, Callable[[Any], Event | None]] = {Authorize: lambda c: VerdictReached(c.life, ALLOW)}

    def now(self) -> float:
        return self.time

    def perform(self, command: Command) -> Event | None:
        self.performed.append(command)
        act = self.on.get(type(command))
        return act(command) if act is not None else None

    def wake_at(self, due: float) -> None:
        self.woken.append(due)


class Loop:
    """A driver around a router with one worker."""

    def __init__(self) -> None:
        self.house = House()
        self.house.feed(EntrySeen(stored(manifest_of("w-1"), 1)))
        self.world = Pretend()
        self.driver = Driver(self.house.router, self.world)
        self.handled: list[Event] = []
        handle = self.house.router.handle

        def watched(event: Event, now: float) -> list[Command]:
            self.handled.append(event)
            return handle(event, now)

        self.house.router.handle = watched  # type: ignore[method-assign]
        self.driver.start()

    def request(self, number: int = 1) -> RequestArrived:
        """A request as it arrives."""
        return RequestArrived(Request(HELLO, "ann", RequestId(f"r-{number}"), f"_INBOX.{number}", NO_HEADERS, b""))

    def kinds(self) -> list[type]:
        """What was performed, by type."""
        return [type(command) for command in self.world.performed]


def test_commands_are_carried_out_in_order_and_answers_fed_back() -> None:
    """An answer that is known at once is an event like any other."""
    loop = Loop()
    loop.world.on[Dispatch] = lambda c: Answered(DispatchId(c.dispatch_id), Result(b"x"))
    loop.driver.feed(loop.request())
    assert loop.kinds() == [Authorize, Dispatch, Answer, Record]


def test_what_is_fed_from_within_is_handled_after_what_is_under_way() -> None:
    """The core is never entered twice."""
    loop = Loop()
    inside: list[bool] = []

    def feed_again(command: Any) -> None:
        before = len(loop.handled)
        loop.driver.feed(TICK)
        inside.append(len(loop.handled) == before)

    loop.world.on[Dispatch] = feed_again
    loop.driver.feed(loop.request())
    assert inside == [True]
    assert isinstance(loop.handled[-1], Tick)


def test_the_timer_is_set_to_what_is_due_or_to_the_pulse() -> None:
    """Whichever comes first, and only when it is earlier than what is set."""
    loop = Loop()
    assert loop.world.woken == [START_S + PULSE_S]
    loop.driver.feed(loop.request())
    assert loop.world.woken == [START_S + PULSE_S], "a deadline in a second is later than the pulse"
    loop.world.time += PULSE_S
    loop.driver.tick()
    assert loop.world.woken[-1] == pytest.approx(START_S + 2 * PULSE_S)
    assert isinstance(loop.handled[-1], Tick)


def test_a_deadline_before_the_pulse_moves_the_timer_forward() -> None:
    """A request with 20 ms of patience is not kept waiting for 100."""
    loop = Loop()
    hasty = Request(HELLO, "ann", RequestId("r-1"), "_INBOX.1", RequestHeaders(timeout_ms=20), b"")
    loop.driver.feed(RequestArrived(hasty))
    assert loop.world.woken[-1] == pytest.approx(START_S + 0.02, abs=0.005)


def test_a_tick_from_within_leaves_the_timer_set() -> None:
    """The simulation may call it whenever it likes."""
    loop = Loop()
    loop.world.on[Dispatch] = lambda c: loop.driver.tick()
    loop.driver.feed(loop.request())
    assert loop.world.woken[-1] == START_S + PULSE_S
    assert len(loop.world.woken) == 2


def test_a_pause_that_is_long_is_told_before_anything_else() -> None:
    """What is read then lay waiting, and nobody could be heard."""
    loop = Loop()
    loop.world.time += STALL_S + 0.3
    loop.driver.feed(loop.request())
    assert loop.handled == [Stalled(pytest.approx((STALL_S + 0.3) * 1000)), loop.request(), loop.handled[2]]
    dispatch = next(c for c in loop.world.performed if isinstance(c, Dispatch))
    assert dispatch.timeout_ms == 200


def test_a_pause_that_is_short_is_everyday() -> None:
    """Garbage collection and busy machines."""
    loop = Loop()
    loop.world.time += STALL_S
    loop.driver.feed(TICK)
    assert loop.handled == [TICK]


def test_starting_late_is_no_stall() -> None:
    """The clock is watched from the start."""
    loop = Loop()
    loop.world.time += 30
    loop.driver.start()
    loop.driver.feed(TICK)
    assert loop.handled == [TICK]


def test_an_event_that_cannot_be_handled_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the loop goes on."""
    loop = Loop()
    handle = loop.house.router.handle

    def breaks(event: Event, now: float) -> list[Command]:
        if isinstance(event, HeartbeatSeen):
            raise RuntimeError("a bug")
        return handle(event, now)

    loop.house.router.handle = breaks  # type: ignore[method-assign]
    with caplog.at_level(logging.CRITICAL, "crank.controller"):
        loop.driver.feed(HeartbeatSeen(WorkerId("w-1"), Heartbeat(1)))
    loop.driver.feed(loop.request())
    assert Dispatch in loop.kinds()


def test_a_command_that_cannot_be_carried_out_costs_no_other() -> None:
    """One event may answer many: a reply that fails takes nobody else's with it."""
    loop = Loop()
    replies: list[str] = []

    def refuse(command: Any) -> None:
        replies.append(command.reply)
        if command.reply == "_INBOX.2":
            raise RuntimeError("a bug at the edge")

    loop.world.on[Refuse] = refuse
    logging.disable(logging.CRITICAL)
    try:
        for number in (1, 2, 3):
            loop.driver.feed(loop.request(number))
        for _ in range(20):
            loop.world.time += PULSE_S
            loop.driver.tick()
    finally:
        logging.disable(logging.NOTSET)
    assert sorted(replies) == ["_INBOX.1", "_INBOX.2", "_INBOX.3"]
    assert loop.kinds().count(Record) == 3


def test_an_error_in_the_middle_leaves_the_timer_set() -> None:
    """The loop would never wake up again otherwise."""
    loop = Loop()

    def breaks(command: Any) -> None:
        raise RuntimeError("a bug at the edge")

    loop.world.on[ReplyJson] = breaks
    loop.world.time += PULSE_S
    loop.driver._armed = float("inf")
    logging.disable(logging.CRITICAL)
    try:
        loop.driver.feed(registration(manifest_of("w-1")))
    finally:
        logging.disable(logging.NOTSET)
    assert loop.world.woken[-1] == pytest.approx(START_S + 2 * PULSE_S)
