"""Owns the consumers of the stream of jobs: one a capability, so that an offline one stalls no other.

It finds out which there are, and makes those that are missing; ``jobs`` calls it, and ``job_pulls`` pulls from them.
"""

from __future__ import annotations

import asyncio

import msgspec

from bus import Bus
from bus.answers import Failure, said
from bus.connection import BusError
from controller.edge.jetstream import CONSUMER_EXISTS, ask
from subjects.names import Subjects
from subjects.tokens import CapabilityId, capability_id, is_capability, split_capability

# Deliveries of one capability that are not acknowledged yet, at all controllers together; nats-server's own default.
_MAX_ACK_PENDING = 1000


class _Names(msgspec.Struct):
    consumers: list[str] | None = None
    total: int = 0


class _Made(msgspec.Struct):
    name: str = ""


class _State(msgspec.Struct):
    subjects: dict[str, int] = {}


class _Stream(msgspec.Struct):
    state: _State = msgspec.field(default_factory=_State)


def consumer_name(capability: CapabilityId) -> str:
    """``jobs-<length of the verb>-<verb>-<name>``: tokens may hold hyphens, and no two capabilities share a name."""
    verb, name = split_capability(capability)
    return f"jobs-{len(verb)}-{verb}-{name}"


def capability_of(consumer: str) -> CapabilityId | None:
    """The capability, or None when the consumer is not one of ours."""
    kind, _, rest = consumer.partition("-")
    length, _, rest = rest.partition("-")
    if kind != "jobs" or not (length.isascii() and length.isdigit() and len(length) <= 2):
        return None
    verb, hyphen, name = rest[: int(length)], rest[int(length) : int(length) + 1], rest[int(length) + 1 :]
    found = capability_id(verb, name)
    return found if hyphen == "-" and is_capability(found) and consumer_name(found) == consumer else None


class JobConsumers:
    """The consumers of one stream."""

    def __init__(self, bus: Bus, subjects: Subjects, ack_wait_s: float) -> None:
        self._bus = bus
        self._subjects = subjects
        self._stream = subjects.stream_jobs
        self._ack_wait_s = ack_wait_s
        self._making = asyncio.Lock()
        self.known: set[CapabilityId] = set()

    async def need(self, capability: CapabilityId) -> str | None:
        """See to it that the capability has one; None, or why it has none."""
        if capability in self.known:
            return None
        async with self._making:
            if capability in self.known:
                return None
            try:
                reason = await self._make(capability)
            except BusError as error:
                reason = str(error)
        if reason is None:
            self.known.add(capability)
            return None
        return f"no consumer on {self._stream} for {capability}: {reason}"

    async def _make(self, capability: CapabilityId) -> str | None:
        name = consumer_name(capability)
        config = {
            "durable_name": name,
            "name": name,
            "filter_subject": self._subjects.job(capability),
            "ack_policy": "explicit",
            "ack_wait": round(self._ack_wait_s * 1e9),
            # Attempts are counted in the record: a crash on a last delivery would leave a job neither done nor dead.
            "max_deliver": -1,
            "max_ack_pending": _MAX_ACK_PENDING,
        }
        # "create" leaves one that is there as it is: an operator may have changed it.
        question = {"stream_name": self._stream, "config": config, "action": "create"}
        made = await ask(self._bus, f"CONSUMER.CREATE.{self._stream}.{name}", question, _Made)
        if isinstance(made, Failure) and made.err_code != CONSUMER_EXISTS:
            return said(made, self._stream)
        return None

    async def look(self) -> Failure | None:
        """Learn which consumers there are, and which capabilities have jobs and no consumer: they get one.

        Raises:
            BusError: JetStream does not answer.

        """
        names: list[str] = []
        while True:
            page = await ask(self._bus, f"CONSUMER.NAMES.{self._stream}", {"offset": len(names)}, _Names)
            if isinstance(page, Failure):
                return page
            names += page.consumers or ()
            if len(names) >= page.total or not page.consumers:
                break
        self.known = {found for name in names if (found := capability_of(name)) is not None}
        jobs = {"subjects_filter": self._subjects.all("jobs")}
        stream = await ask(self._bus, f"STREAM.INFO.{self._stream}", jobs, _Stream)
        if isinstance(stream, Failure):
            return stream
        waiting = (self._subjects.parse_capability("jobs", subject) for subject in stream.state.subjects)
        for capability in sorted({found for found in waiting if found is not None} - self.known):
            if (reason := await self.need(capability)) is not None:
                raise BusError(reason)
        return None
