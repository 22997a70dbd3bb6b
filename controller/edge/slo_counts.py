"""Owns the stream ``CRANK_SLO``: this process's counts written there, and those of others read, from its start and on.

It makes nothing of what it reads; that is ``controller.core.counting``'s. Nobody waits for it: while the store is away
counts go on in memory, the operator is told once, and what could not be written is written when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from bus import Bus, Entry, NoResponder, Stored, StreamSpec
from bus.answers import NOBODY_STORES, Refused, read_ack
from bus.connection import BusError
from bus.ending import end
from controller.core.commands import WriteCounts
from controller.core.events import ClockSet, CountingBegins, CountingEnds, CountsKnown, Event, PeerCounts
from controller.edge.registry_log import TailOf
from subjects.headers import build_block
from subjects.messages import encode
from subjects.names import Subjects
from subjects.slo_counts import CountsMessage, Period, parse_counts, parse_subject, subject_of

log = logging.getLogger("crank.slo")

# The longest windows that are made of them: three days of minutes, a month of days.
_MINUTE_TTL_S, _DAY_TTL_S = 3 * 86_400, 35 * 86_400
# A minute in which nothing was counted only says that this controller lives.
_EMPTY_TTL_S = 60
# What is kept to be written again where the stream was lost: as many minutes as the longest window of minutes has, and
# a month of days.
_MOST_MINUTES, _MOST_DAYS = 125, 35
_TIMEOUT_S, _RETRY_S = 2.0, 2.0
_STOP_S = 3.0
# Less is what clocks that are kept in time do all the time.
_CLOCK_SET_S = 1.0


def slo_spec(subjects: Subjects, replicas: int) -> StreamSpec:
    """The stream, as it should be."""
    return StreamSpec(subjects.stream_slo, f"{subjects.prefix}.slo.*.*.*", replicas)


class _Write(NamedTuple):
    """One message: who stores it is told how long it is kept."""

    body: bytes
    ttl_s: int


class SloCounts:
    """One controller's reading and writing of ``CRANK_SLO``."""

    def __init__(
        self,
        bus: Bus,
        tail: TailOf,
        subjects: Subjects,
        replicas: int,
        feed: Callable[[Event], None],
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._feed = feed
        self._spec = slo_spec(subjects, replicas)
        self._tail = tail(self._spec, self._entry, self._write_all, self._replayed)
        self._live = False
        self._pending: dict[Period, _Write] = {}
        self._written: dict[Period, _Write] = {}
        self._due = asyncio.Event()
        self._idle = asyncio.Event()
        """Nothing waits to be written, or nothing can be."""
        self._wrong = ""
        self._dropped = False
        self._ahead_s = _ahead_s()
        self._task: asyncio.Task[None] | None = None
        self.handlers: dict[type[Any], Callable[[Any], Event | None]] = {WriteCounts: self._write}

    def start(self) -> None:
        """Begin to read and to write, beside whatever else is done."""
        self._feed(CountingBegins())
        self._task = asyncio.create_task(self._exchange())

    async def stop(self) -> None:
        """Write the last counts, for a while, and stop following."""
        if self._task is None:
            return
        self._feed(CountingEnds())
        if not self._wrong:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), _STOP_S)
        await end(self._task)
        await self._tail.stop()

    def check(self) -> None:
        """The connection came back: see whether the stream is still the same, and write what waits."""
        self._tail.check()
        self._due.set()

    # Reading ------------------------------------------------------------------------

    async def _exchange(self) -> None:
        await self._follow()
        await self._write_pending()

    async def _follow(self) -> None:
        while True:
            try:
                await self._tail.start()
                return
            except BusError as error:
                if not self._wrong:
                    self._feed(CountsKnown())  # what cannot be read is not waited for
                self._fails(str(error))
                await asyncio.sleep(_RETRY_S)

    def _replayed(self) -> None:
        self._live = True
        self._feed(CountsKnown())

    def _entry(self, entry: Entry) -> None:
        period = parse_subject(self._subjects, entry.subject)
        message = None if period is None else parse_counts(entry.body)
        if period is not None and message is not None:
            self._feed(PeerCounts(period, message, self._live))

    # Writing ------------------------------------------------------------------------

    def _write(self, command: WriteCounts) -> None:
        period, message = command.period, command.message
        self._look_at_clock()
        body = encode(message)
        if len(body) > self._bus.max_body_bytes:  # the counts matter more than how slow the rest was
            body = encode(_without_latencies(message))
        if not period.is_day:
            for empty in [each for each, write in self._pending.items() if write.ttl_s == _EMPTY_TTL_S]:
                del self._pending[empty]
        ttl_s = _DAY_TTL_S if period.is_day else _MINUTE_TTL_S if message.counts else _EMPTY_TTL_S
        self._pending[period] = _Write(body, ttl_s)
        _bound(self._pending)
        self._idle.clear()
        self._due.set()

    def _look_at_clock(self) -> None:
        ahead_s = _ahead_s()
        if abs(ahead_s - self._ahead_s) > _CLOCK_SET_S:
            self._ahead_s = ahead_s
            self._feed(ClockSet(ahead_s))

    def _write_all(self) -> None:
        """The stream was recreated or went back: everything is written again."""
        self._pending = {**self._written, **self._pending}
        self._due.set()

    async def _write_pending(self) -> None:
        """One after another, in order: who reads may take an earlier minute for written when a later one is."""
        while True:
            await self._due.wait()
            self._due.clear()
            while self._pending:
                period, write = next(iter(self._pending.items()))
                failed = await self._store(period, write)
                if failed is not None and not failed.too_large:
                    self._fails(failed.reason)
                    await asyncio.sleep(_RETRY_S)
                    continue
                if failed is not None:
                    self._drops(failed.reason)
                else:
                    self._works()
                if self._pending.get(period) is write:
                    del self._pending[period]
                if failed is None and write.ttl_s != _EMPTY_TTL_S:
                    self._written[period] = write
                    _bound(self._written)
            self._idle.set()

    async def _store(self, period: Period, write: _Write) -> Refused | None:
        """Why it is not known to be stored, or None."""
        block = build_block([("Nats-Expected-Stream", self._spec.name), ("Nats-TTL", f"{write.ttl_s}s")])
        size = len(write.body) + len(block)
        if size > self._bus.max_payload_bytes:
            return Refused(f"{size:,} bytes are more than the NATS server takes; raise its max_payload", too_large=True)
        try:
            subject = subject_of(self._subjects, period)
            answer = await self._bus.request(subject, write.body, block, _TIMEOUT_S)
        except NoResponder:
            return Refused(NOBODY_STORES)
        except BusError as error:
            return Refused(str(error))
        match read_ack(answer.body):
            case Stored():
                return None
            case Refused() as refused:
                return refused
            case _:
                return Refused("the acknowledgement cannot be understood")

    def _drops(self, why: str) -> None:
        if not self._dropped:
            log.warning(
                "Counts of objectives are too large for %s: %s. Those of some minutes or days stay in memory, and a "
                "restart loses them",
                self._spec.name,
                why,
            )
        self._dropped = True

    def _fails(self, wrong: str) -> None:
        if not self._wrong:
            log.warning(
                "%s cannot be used: %s. Counts of objectives stay in memory, and are written when it can",
                self._spec.name,
                wrong,
            )
        self._wrong = wrong
        self._idle.set()

    def _works(self) -> None:
        if self._wrong:
            log.warning("%s takes counts of objectives again", self._spec.name)
            self._wrong = ""


def _ahead_s() -> float:
    """What the wall clock is ahead of the controller's own."""
    return time.time() - time.monotonic()


def _without_latencies(message: CountsMessage) -> CountsMessage:
    counts = {name: msgspec.structs.replace(totals, ms={}) for name, totals in message.counts.items()}
    return CountsMessage(message.at, counts, message.left)


def _bound(writes: dict[Period, _Write]) -> None:
    """Forget the oldest of what is too many."""
    for is_day, most in ((False, _MOST_MINUTES), (True, _MOST_DAYS)):
        for period in sorted(period for period in writes if period.is_day is is_day)[:-most]:
            del writes[period]
