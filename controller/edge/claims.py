"""Owns the store of claims as a whole: its streams, its parts, notices of changes, and watching over them.

Which claims there are is the core's affair: the driver hands over its commands by ``handlers``, and ``feed`` takes what
comes of them. ``controller.app`` starts, checks and stops it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from bus import Bus, Streams, StreamSpec
from bus.connection import BusError
from bus.questions import Questions
from bus.specs import bucket
from controller.core.stored import (
    ReadClaim,
    ReleaseClaim,
    StoreEvent,
    StoreLevel,
    UnwatchClaim,
    WatchClaim,
    WriteClaim,
)
from controller.edge.background import Background
from controller.edge.claim_notices import ClaimNotices
from controller.edge.claim_reads import ClaimReads
from controller.edge.claim_writes import ClaimWrites
from controller.edge.kept_answers import KeptAnswers, answers_spec
from controller.edge.store_watch import StoreWatch
from subjects.names import Subjects

log = logging.getLogger("crank.claims")

# How often unanswered writes are looked for; and the streams themselves about once a second.
_SWEEP_S = 0.25
_SWEEPS_A_LOOK = 4
_STOP_S = 3.0


def claims_spec(subjects: Subjects, replicas: int, max_bytes: int) -> StreamSpec:
    """The bucket's stream, as it should be: without an age, since times to live are each record's own."""
    return bucket(subjects.bucket_idempotency, replicas, max_bytes)


class ClaimStore:
    """One controller's claims in JetStream."""

    def __init__(
        self,
        bus: Bus,
        streams: Streams,
        subjects: Subjects,
        *,
        replicas: int,
        max_bytes: int,
        feed: Callable[[StoreEvent], None],
    ) -> None:
        self._bus = bus
        self._streams = streams
        self._specs = (claims_spec(subjects, replicas, max_bytes), answers_spec(subjects, replicas, max_bytes))
        self._questions = Questions(bus)
        self._background = Background()
        self.kept = KeptAnswers(bus, subjects)
        self._reads = reads = ClaimReads(self._questions, self.kept, self._background, subjects, feed)
        self._notices = notices = ClaimNotices(bus, subjects, feed)
        writes = ClaimWrites(self._questions, reads, self.kept, self._background, subjects, feed, notices.tell)
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            WriteClaim: writes.write,
            ReleaseClaim: writes.release,
            ReadClaim: self._read,
            WatchClaim: notices.watch,
            UnwatchClaim: notices.unwatch,
        }
        self._watch = StoreWatch(self._questions, self._specs, lambda why: feed(StoreLevel(why)), self._missing)
        self._making: set[str] = set()
        self._had: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._sweeps = 0

    async def start(self) -> None:
        """Make what is missing, and watch from now on: what cannot be had is tried again, and keys are refused.

        Raises:
            BusUnavailable: the server does not read.

        """
        await self._questions.start()
        await self._notices.start()
        for spec in self._specs:
            await self._make(spec)
        self._sweep()

    async def stop(self) -> None:
        """Let what is under way finish, for a while, and stop listening."""
        await self._background.stop(_STOP_S)
        await self._questions.drain(_STOP_S)
        if self._timer is not None:
            self._timer.cancel()
        await self._questions.stop()
        await self._notices.stop()

    def check(self) -> None:
        """The connection came back: send again what was not acknowledged, and see whether the store is still there."""
        self._questions.ask_again()
        self._notices.begin_again()
        self._watch.look()

    def _read(self, command: ReadClaim) -> None:
        self._notices.ask(command.key)  # first, so that nothing is missed between the two
        self._reads.read(command)

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep)
        self._questions.sweep()
        if self._sweeps % _SWEEPS_A_LOOK == 0:
            self._watch.look()
        self._sweeps += 1

    def _missing(self, spec: StreamSpec) -> None:
        if spec.name not in self._making:
            self._making.add(spec.name)
            self._background.spawn(self._make(spec))

    async def _make(self, spec: StreamSpec) -> None:
        try:
            await self._streams.ensure(spec)
        except BusError as error:
            self._watch.judged(spec, str(error))
        else:
            if spec.name in self._had:
                log.error("%s was gone, and is made anew: what it held is forgotten", spec.name)
            self._had.add(spec.name)
        finally:
            self._making.discard(spec.name)
