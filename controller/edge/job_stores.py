"""Owns the three streams of durable requests: what they should be, making them, and adding to them.

A full one refuses, and drops nothing. What cannot be made is tried again at each ``look``; nothing else waits for it.
"""

from __future__ import annotations

import logging

from bus import Bus, Streams, StreamSpec, Unstored
from bus.answers import Refused
from bus.connection import BusError
from bus.specs import bucket
from controller.edge.jetstream import append_once
from controller.edge.stream_faults import made_otherwise
from subjects.names import Subjects

log = logging.getLogger("crank.jobs")

# How long JetStream remembers a message's id: longer than anybody repeats one.
_DUPLICATES_S = 120


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


class JobStores:
    """One controller's view of them."""

    def __init__(
        self, bus: Bus, streams: Streams, subjects: Subjects, replicas: int, max_bytes: int, results_ttl_s: int
    ) -> None:
        self._bus = bus
        self._streams = streams
        self.specs = job_specs(subjects, replicas, max_bytes, results_ttl_s)
        self.jobs, self.dead, self.results = (spec.name for spec in self.specs)
        self.doubtful = True
        """Whether one of them may not be there, or be another than before."""
        self._wrong: dict[str, str] = {}
        """Why nothing is added to a stream."""
        self._failed: dict[str, str] = {}
        """Why the last append to a stream failed: told once."""

    async def look(self) -> None:
        """Make what is missing, where there is reason to think that something is."""
        if self.doubtful or self._wrong:
            self.doubtful = False
            for spec in self.specs:
                self._judged(spec, *await self._made(spec))

    async def _made(self, spec: StreamSpec) -> tuple[str, bool]:
        """What is wrong with it, and whether nothing may be added."""
        try:
            found = await self._streams.ensure(spec)
        except BusError as error:
            return str(error), True
        fault = made_otherwise(spec.name, found)
        # What was accepted must come to its end, but nothing more is accepted into a stream that may lose it.
        return ("", False) if fault is None else (str(fault), spec.name == self.jobs)

    def _judged(self, spec: StreamSpec, wrong: str, refuses: bool) -> None:
        before = self._wrong.pop(spec.name, "")
        if refuses:
            self._wrong[spec.name] = wrong
        if wrong and wrong != before:
            log.warning("durable requests: %s", wrong)
        elif before and not wrong:
            log.warning("durable requests: %s is as it should be again", spec.name)

    def why_not(self, stream: str) -> str | None:
        """Why nothing is added to a stream, where that is known beforehand."""
        return self._wrong.get(stream)

    async def append(self, stream: str, subject: str, body: bytes, block: bytes) -> Refused | Unstored | None:
        """Add a message; None, or why it is not there: certainly, or for all that is known."""
        known = self.why_not(stream)
        failed = Refused(known) if known is not None else await append_once(self._bus, stream, subject, body, block)
        if failed is None:
            self._failed.pop(stream, None)
            return None
        reason = failed.reason
        self.doubtful = True
        if self._failed.get(stream) != reason:
            self._failed[stream] = reason
            log.warning("nothing is added to %s: %s", stream, reason)
        return failed
