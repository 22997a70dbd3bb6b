"""Owns the streams of durable jobs: accepted ones, dead ones, results; appending, handing out, acknowledging.

A job's record says what it has come to; the streams only carry, and what is done here may be done twice. The driver's
commands come through ``handlers``, and what becomes of them goes to ``feed``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Any

from bus import Bus, Streams, Unstored
from bus.answers import Refused, said
from bus.connection import BusError
from bus.ending import end
from controller.core.events import Event
from controller.core.stored import (
    AckJob,
    AppendDead,
    Appended,
    AppendJob,
    DropDead,
    ExtendJob,
    JobDelivered,
    JobsKnown,
    KeepResult,
    NakJob,
    PullJobs,
)
from controller.edge.background import Background
from controller.edge.jetstream import read_delivery
from controller.edge.job_consumers import JobConsumers
from controller.edge.job_messages import dead_block, job_block, once, read_request
from controller.edge.job_pulls import JobPulls
from controller.edge.job_stores import JobStores
from controller.edge.kept_answers import KeptAnswers
from controller.edge.stream_reading import remove
from subjects.claims import encode_claim
from subjects.errors import Refusal
from subjects.headers import build_block
from subjects.jobs import build_unreadable
from subjects.names import Subjects
from subjects.tokens import CapabilityId

log = logging.getLogger("crank.jobs")

# How often it is looked which capabilities have jobs, and whether what is missing can be made by now.
_LOOK_EVERY_S = 5.0
_STOP_S = 3.0
# Kept free beside the body of what is moved: its own headers, cut, and why.
_MOVED_HEADERS_BYTES = 16 * 1024


class JobStreams:
    """One controller's use of them. What cannot be had at the start is tried again; nothing else waits for it."""

    def __init__(
        self,
        bus: Bus,
        streams: Streams,
        subjects: Subjects,
        *,
        replicas: int,
        max_bytes: int,
        results_ttl_s: int,
        ack_wait_s: float,
        feed: Callable[[Event], None],
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._stores = JobStores(bus, streams, subjects, replicas, max_bytes, results_ttl_s)
        self._results_ttl_s = results_ttl_s
        self._feed = feed
        self._consumers = JobConsumers(bus, subjects, ack_wait_s)
        self._pulls = JobPulls(bus, subjects, feed, self._delivered)
        self._kept = KeptAnswers(bus, subjects)
        self._background = Background()
        self._wake = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        spawn, acknowledge = self._background.spawn, self._acknowledge
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            AppendJob: lambda command: spawn(self._append_job(command)),
            AppendDead: lambda command: spawn(self._append_dead(command)),
            KeepResult: lambda command: spawn(self._keep(command)),
            DropDead: lambda command: spawn(self._drop(command.seq)),
            AckJob: lambda command: acknowledge(command.delivery, b"+ACK"),
            NakJob: lambda command: acknowledge(command.delivery, b'-NAK {"delay": %d}' % (command.delay_s * 1e9)),
            ExtendJob: lambda command: acknowledge(command.delivery, b"+WPI"),
            PullJobs: self._pulls.pull,
        }

    async def start(self) -> None:
        """Make the streams that are missing, and learn which capabilities have jobs.

        Raises:
            BusUnavailable: the server does not read.

        """
        await self._pulls.start()
        await self._look()
        self._watching = asyncio.create_task(self._watch(), name="jobs")

    async def leave(self) -> None:
        """Pull nothing more; what was handed out can still be acknowledged.

        Raises:
            BusUnavailable: the server did not answer in time.

        """
        await self._pulls.leave()

    async def stop(self) -> None:
        """Let what is being stored be stored, and forget the rest: it is handed out again, here or elsewhere."""
        if self._watching is not None:
            await end(self._watching)
        with contextlib.suppress(BusError):
            await self._pulls.leave()
        self._pulls.stop()
        await self._background.stop(_STOP_S)

    def check(self) -> None:
        """The connection came back: the pulls did not, and the streams may be others."""
        self._pulls.end_all()
        self._wake.set()

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK_EVERY_S)
            self._wake.clear()
            if self._bus.connected:
                await self._look()

    async def _look(self) -> None:
        await self._stores.look()
        try:
            failure = await self._consumers.look()
        except BusError as error:
            log.warning("jobs: %s", error)
            return
        if failure is not None:
            log.warning("jobs: %s", said(failure, self._stores.jobs))
        for capability in self._consumers.known:
            self._feed(JobsKnown(capability))

    # Storing ------------------------------------------------------------------------

    async def _append_job(self, command: AppendJob) -> None:
        stream, capability = self._stores.jobs, command.request.capability
        block = job_block(command.request, command.job_id, stream, command.message_id)
        if isinstance(block, Refusal):
            self._feed(Appended(command.life, block.detail, certain=True))
            return
        # First the consumer: a job is stored where somebody looks. Last, since the stream may have been made anew in
        # between, and its consumers with it.
        known = self._stores.why_not(stream) or await self._consumers.need(capability)
        if known is not None:
            self._feed(Appended(command.life, known, certain=True))
            return
        self._feed(JobsKnown(capability))
        failed = await self._stores.append(stream, self._subjects.job(capability), command.request.body, block)
        if failed is None:
            self._feed(Appended(command.life, await self._consumers.need(capability)))
        else:
            self._feed(_appended(command.life, failed))

    async def _append_dead(self, command: AppendDead) -> None:
        stream, request = self._stores.dead, command.request
        block = dead_block(request, command.job_id, stream, command.message_id, command.record)
        failed = await self._stores.append(stream, self._subjects.dead(request.capability), request.body, block)
        self._feed(_appended(command.life, failed))

    async def _keep(self, command: KeepResult) -> None:
        stream, subject = self._stores.results, f"$KV.{self._subjects.bucket_results}.{command.job_id}"
        record = command.record
        try:
            if self._kept.too_large(record):
                # The claim's own body has another name, and goes before this one. What an earlier try left half done
                # would be read together with this.
                name = f"r-{command.job_id[:40]}-{secrets.token_hex(8)}"
                record = await self._kept.keep(record, name, self._results_ttl_s)
        except BusError as error:
            self._feed(Appended(command.life, f"the answer's body is not stored: {error}"))
            return
        block = build_block([("Nats-Expected-Stream", stream), ("Crank-Claim", record.state)])
        self._feed(_appended(command.life, await self._stores.append(stream, subject, encode_claim(record), block)))

    async def _drop(self, seq: int) -> None:
        try:
            await remove(self._bus, self._stores.dead, seq)
        except BusError as error:
            log.warning("message %d was not removed: %s", seq, error)

    # Handing out ----------------------------------------------------------------------

    def _delivered(self, capability: CapabilityId, delivery: str, raw: bytes | None, body: bytes) -> None:
        request = read_request(capability, raw, body, "job")
        if isinstance(request, Refusal):
            self._background.spawn(self._bury(capability, delivery, raw, body, request.detail))
        else:
            self._feed(JobDelivered(request, request.job_id, delivery))

    async def _bury(self, capability: CapabilityId, delivery: str, raw: bytes | None, body: bytes, detail: str) -> None:
        """Move what is no job to the dead ones: it would be handed out for ever. What it was stored as is its id."""
        log.warning("something that is no job of %s is moved to %s: %s", capability, self._stores.dead, detail)
        room = self._bus.max_payload_bytes - _MOVED_HEADERS_BYTES
        if len(body) > room:
            detail = f"(the first {room} of {len(body)} bytes are kept) {detail}"
        stored = read_delivery(delivery)
        assert stored is not None, "``job_pulls`` hands over nothing else"
        message_id = f"malformed.{stored.seq}.{stored.stored_ns}"
        block = build_unreadable(raw, detail, *once(self._stores.dead, message_id))
        subject = self._subjects.dead(capability)
        if await self._stores.append(self._stores.dead, subject, body[:room], block) is None:
            self._acknowledge(delivery, b"+ACK")

    def _acknowledge(self, delivery: str, what: bytes) -> None:
        # One that is lost is made up for by the next delivery.
        self._bus.publish(delivery, what)


def _appended(life: object, failed: Refused | Unstored | None) -> Appended:
    return Appended(life, None if failed is None else failed.reason, certain=isinstance(failed, Refused))
