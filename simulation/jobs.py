"""Owns the streams of jobs as their leader has them: the work queue with its consumers, the dead, and the results.

Deliveries and acknowledgements are nats-server's: whatever is said of a delivery holds for whoever has the job now.
``jobs_log`` puts the network between it and a controller.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

from controller.core.model import Request
from simulation.clock import Clock
from subjects.claims import ClaimRecord
from subjects.tokens import CapabilityId

# Shorter than the edge's, so that jobs are delivered again within a run.
ACK_WAIT_S = 10.0
PULL_S = 5.0
MAX_ACK_PENDING = 30
DEDUPE_S = 120.0
RESULTS_TTL_S = 300.0


class Dead(NamedTuple):
    """A job that is not tried again."""

    seq: int
    job_id: str
    request: Request
    record: ClaimRecord


class Puller(Protocol):
    """Who pulls."""

    @property
    def listening(self) -> bool:
        """Whether the server believes that it is there."""
        ...

    def deliver(self, request: Request, job_id: str, delivery: str) -> None:
        """A job is on its way to it."""
        ...


class _Job:
    __slots__ = ("delivered", "due", "job_id", "request", "seq")

    def __init__(self, seq: int, request: Request, job_id: str) -> None:
        self.seq, self.request, self.job_id = seq, request, job_id
        self.delivered = 0
        self.due = 0.0
        """When it is delivered again; as long as that is in the future, somebody has it."""


class _Pull:
    __slots__ = ("left", "puller", "until")

    def __init__(self, puller: Puller, left: int, until: float) -> None:
        self.puller, self.left, self.until = puller, left, until


class _Consumer:
    """Of one capability."""

    def __init__(self) -> None:
        self.fresh: deque[_Job] = deque()
        self.again: deque[_Job] = deque()
        self.pulls: deque[_Pull] = deque()
        self.pending = 0


class Jobs:
    """Of one world."""

    def __init__(self, clock: Clock) -> None:
        self.away = False
        """Whether it answers nobody."""
        self.consumers: dict[CapabilityId, _Consumer] = {}
        self.dead: dict[int, Dead] = {}
        self.redelivered = 0
        self._clock = clock
        self._seq = 0
        self._jobs: dict[int, _Job] = {}
        self._seen: dict[str, float] = {}
        """Message ids, and until when they are known."""
        self._buried: set[str] = set()
        self._results: dict[str, tuple[ClaimRecord, float]] = {}

    # Storing --------------------------------------------------------------------------

    def append(self, request: Request, job_id: str, message_id: str) -> None:
        """Store a job, once."""
        if self._is_new(message_id):
            self._seq += 1
            job = self._jobs[self._seq] = _Job(self._seq, request, job_id)
            consumer = self.consumers.setdefault(request.capability, _Consumer())
            consumer.fresh.append(job)
            self._serve(consumer)

    def bury(self, request: Request, job_id: str, message_id: str, record: ClaimRecord) -> None:
        """Store a dead job, once."""
        if self._is_new(message_id):
            self._seq += 1
            self.dead[self._seq] = Dead(self._seq, job_id, request, record)
            self._buried.add(job_id)

    def _is_new(self, message_id: str) -> bool:
        new = self._seen.get(message_id, 0.0) <= self._clock.now
        if new:
            self._seen[message_id] = self._clock.now + DEDUPE_S
        return new

    def keep(self, job_id: str, record: ClaimRecord) -> None:
        """Keep a result."""
        self._results[job_id] = (record, self._clock.now + RESULTS_TTL_S)

    def result(self, job_id: str) -> ClaimRecord | None:
        """A result that is still kept."""
        record, until = self._results.get(job_id, (None, 0.0))
        return record if until > self._clock.now else None

    def is_told(self, job_id: str) -> bool:
        """Whether how it ended is kept for whoever asks, and a dead one is among the dead, or was."""
        record, _ = self._results.get(job_id, (None, 0.0))
        return record is not None and (record.state != "dead" or job_id in self._buried)

    def left(self) -> dict[str, Request]:
        """The jobs that are still in the stream."""
        return {job.job_id: job.request for job in self._jobs.values()}

    # Delivering -----------------------------------------------------------------------

    def pull(self, capability: CapabilityId, count: int, puller: Puller) -> None:
        """Somebody asks for jobs."""
        consumer = self.consumers.get(capability)
        if consumer is not None:
            consumer.pulls.append(_Pull(puller, count, self._clock.now + PULL_S))
            self._serve(consumer)

    def _serve(self, consumer: _Consumer) -> None:
        now = self._clock.now
        while consumer.pulls:
            pull = consumer.pulls[0]
            if pull.until <= now or not pull.left or not pull.puller.listening:
                consumer.pulls.popleft()
                continue
            if consumer.again:
                job = consumer.again.popleft()
            elif consumer.fresh and consumer.pending < MAX_ACK_PENDING:
                job = consumer.fresh.popleft()
                consumer.pending += 1
            else:
                return
            if job.seq in self._jobs:
                pull.left -= 1
                self.redelivered += job.delivered > 0
                job.delivered += 1
                self._wait(job, ACK_WAIT_S)
                pull.puller.deliver(job.request, job.job_id, f"{job.seq}.{job.delivered}")

    def _wait(self, job: _Job, for_s: float) -> None:
        job.due = self._clock.now + for_s
        self._clock.at(job.due, self._due, job, job.due)

    def _due(self, job: _Job, due: float) -> None:
        if job.seq in self._jobs and job.due == due:
            consumer = self.consumers[job.request.capability]
            consumer.again.append(job)
            self._serve(consumer)

    # What is said of a delivery ---------------------------------------------------------

    def _of(self, delivery: str) -> _Job | None:
        """The job, whoever has it now."""
        return self._jobs.get(int(delivery.partition(".")[0]))

    def ack(self, delivery: str) -> None:
        """It is dealt with."""
        job = self._of(delivery)
        if job is not None:
            del self._jobs[job.seq]
            consumer = self.consumers[job.request.capability]
            consumer.pending -= 1
            self._serve(consumer)

    def nak(self, delivery: str, delay_s: float) -> None:
        """It is to be delivered again."""
        job = self._of(delivery)
        if job is not None and job.due > self._clock.now:
            self._wait(job, delay_s)

    def extend(self, delivery: str) -> None:
        """It is worked on."""
        job = self._of(delivery)
        if job is not None and job.due > self._clock.now:
            self._wait(job, ACK_WAIT_S)
