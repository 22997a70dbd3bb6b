"""Owns the three streams of durable requests: what they should be, making them, and adding to them.

A full one refuses, and drops nothing. What cannot be made is tried again at each ``look``, every few seconds; nothing
else waits for it.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from bus import Bus, Streams, StreamSpec, Unstored
from bus.answers import Failure, Refused
from bus.connection import BusError
from bus.specs import bucket, differences
from controller.edge.jetstream import STREAM_NOT_FOUND, append_once, ask
from controller.edge.stream_faults import made_otherwise, nearly_full
from controller.edge.stream_reading import State
from subjects.names import Subjects

log = logging.getLogger("crank.jobs")

# How long JetStream remembers a message's id: longer than anybody repeats one.
_DUPLICATES_S = 120
RESULTS_FULL = "wait until older results are forgotten"
"""What to do, but to make more room."""


def job_specs(
    subjects: Subjects, replicas: int, max_bytes: int, results_ttl_s: int
) -> tuple[StreamSpec, StreamSpec, StreamSpec]:
    """The streams of jobs, of dead jobs and of results."""
    jobs = StreamSpec(
        subjects.stream_jobs,
        f"{subjects.prefix}.jobs.*.*",
        replicas,
        max_per_subject=-1,
        max_bytes=max_bytes,
        discard_new=True,
        work_queue=True,
        duplicates_s=_DUPLICATES_S,
    )
    dead = jobs._replace(name=subjects.stream_dead, subjects=f"{subjects.prefix}.dead.*.*", work_queue=False)
    return jobs, dead, bucket(subjects.bucket_results, replicas, max_bytes, max_age_s=results_ttl_s)


class _Info(msgspec.Struct):
    config: dict[str, Any] = {}
    state: State = State()
    created: str = ""


class JobStores:
    """One controller's view of them."""

    def __init__(
        self, bus: Bus, streams: Streams, subjects: Subjects, replicas: int, max_bytes: int, results_ttl_s: int
    ) -> None:
        self._bus = bus
        self._streams = streams
        self.specs = job_specs(subjects, replicas, max_bytes, results_ttl_s)
        self.jobs, self.dead, self.results = (spec.name for spec in self.specs)
        self._created: dict[str, str] = {}
        """When each came to be: one that is made anew under its name has lost what was in it."""
        self._wrong: dict[str, tuple[str, str]] = {}
        """What is wrong with each, and which stream nothing is added to because of that, or ""."""
        self._failed: dict[str, str] = {}
        """Why the last append to a stream failed: told once."""

    async def look(self) -> None:
        """See how each of them is, and make what is missing."""
        for spec in self.specs:
            wrong, refuses = await self._found(spec)
            before, _ = self._wrong.pop(spec.name, ("", ""))
            if wrong:
                self._wrong[spec.name] = wrong, refuses
            if wrong and wrong != before:
                log.warning("durable requests: %s", wrong)
            elif before and not wrong:
                log.warning("durable requests: %s is as it should be again", spec.name)

    async def _found(self, spec: StreamSpec) -> tuple[str, str]:
        try:
            info = await ask(self._bus, f"STREAM.INFO.{spec.name}", None, _Info)
            if isinstance(info, Failure):
                await self._streams.ensure(spec)
                if info.err_code == STREAM_NOT_FOUND and self._created.pop(spec.name, ""):
                    log.error("%s was gone, and is made anew: what it held is lost", spec.name)
                return "", ""
        except BusError as error:
            return str(error), spec.name
        if self._created.setdefault(spec.name, info.created) != info.created:
            self._created[spec.name] = info.created
            log.error("%s is another one than before: what it held is lost", spec.name)
        # What was accepted must come to its end, but nothing more is accepted into a stream that may lose it.
        fault = made_otherwise(spec.name, differences(info.config, spec))
        if fault is not None:
            return str(fault), self.jobs if spec.name == self.jobs else ""
        # Nor is anything whose result would find no room: it could not come to its end, and its record ages.
        if spec.name == self.results:
            fault = nearly_full(spec.name, info.config, info.state.bytes, RESULTS_FULL)
        return ("", "") if fault is None else (str(fault), self.jobs)

    def why_not(self, stream: str) -> str | None:
        """Why nothing is added to a stream, where that is known beforehand."""
        return next((wrong for wrong, refuses in self._wrong.values() if refuses == stream), None)

    async def append(self, stream: str, subject: str, body: bytes, block: bytes) -> Refused | Unstored | None:
        """Add a message; None, or why it is not there: certainly, or for all that is known."""
        known = self.why_not(stream)
        failed = Refused(known) if known is not None else await append_once(self._bus, stream, subject, body, block)
        if failed is None:
            self._failed.pop(stream, None)
            return None
        reason = failed.reason
        if self._failed.get(stream) != reason:
            self._failed[stream] = reason
            log.warning("nothing is added to %s: %s", stream, reason)
        return failed
