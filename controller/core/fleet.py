"""Owns what a worker and its offers are while they are known: identity, state, counts, the latency estimate.

Plain mutable records. ``registry`` adds and removes them, ``pools`` index them, ``selection`` compares them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from subjects.manifests import Capability
from subjects.tokens import CapabilityId, WorkerId

# How long a peak is remembered: after this many seconds without news two thirds of it are forgotten, so that a worker
# with one bad moment is tried again. The value is Finagle's default for its peak-sensitive moving average.
ESTIMATE_DECAY_S = 10.0
# The mean is what remains when the peak is forgotten: about the last fifty answers, so an idle night forgets nothing.
MEAN_WEIGHT = 0.02
# What is assumed of a worker that nobody measured and that declares nothing: low enough to be tried soon.
UNKNOWN_LATENCY_MS = 10.0


class State(Enum):
    """A worker's state as this controller sees it.

    ::

        alive ──2 missed──► suspect ──3 missed──► gone ──heartbeat──► alive
          ▲ └─────── says so ──► draining ──3 missed──► gone
          └── any heartbeat, answer or frame ── suspect

    ``ejected`` is for a worker whose errors shut it out for a while.
    """

    ALIVE = "alive"
    SUSPECT = "suspect"
    DRAINING = "draining"
    EJECTED = "ejected"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Worker:
    """One registered process. Times are seconds on the controller's monotonic clock."""

    id: WorkerId
    instance: str | None
    spiffe_id: str | None
    digest: bytes
    """Of the manifest's bytes: an identical registration is not written again."""
    seq: int
    """Sequence of its manifest in the registry stream; 0 while it is not stored there."""
    state: State
    seen_at: float
    heard: bool = False
    """Whether it was heard itself, and not only read from the stream."""
    leaving: bool = False
    """It asked to deregister, and the stream has not stored that yet."""
    offers: list[Offer] = field(default_factory=list)
    in_flight: int = 0
    """Dispatches of this controller that have not come back."""
    beat_seq: int = 0
    """Number of the newest heartbeat of this instance."""
    in_flight_reported: int | None = None
    capacity: int | None = None

    @property
    def eligible(self) -> bool:
        """Whether it may be given work at all."""
        return self.state is State.ALIVE or self.state is State.SUSPECT

    def is_another(self, instance: str | None) -> bool:
        """Whether ``instance`` is another process than this one; an absent instance means the same one."""
        return instance is not None and self.instance is not None and instance != self.instance


@dataclass(slots=True, eq=False)
class Offer:
    """One capability in one version, offered by one worker."""

    worker: Worker
    spec: Capability
    """As declared, without the schemas."""
    input_schema: str | None
    output_schema: str | None
    capability: CapabilityId
    kind: str
    """All that matching looks at, as text, one object for equal ones: a fleet of equals is matched once."""
    address: str
    """``<worker_id>.<verb>.<name>``: the end of its dispatch subject."""
    timeout_s: float | None
    max_output_bytes: int | None
    places: int
    """Its ``max_concurrency``; here, and not two steps away, because every draw looks at it."""
    in_flight: int = 0
    reachable: bool = True
    """False from *no responders* until its worker's next heartbeat: nobody listens on its subject."""
    paused: bool = False
    """It said *busy*; it is asked again after a pause or after its next answer."""
    mean_ms: float = UNKNOWN_LATENCY_MS
    """What it declares until it is measured, then the long-run mean."""
    peak_ms: float = 0.0
    estimated_at: float = 0.0
    measured: bool = False
    suspect: bool = False
    eligible: bool = False
    """As last entered into the pools; see ``pools.refresh``."""
    free: bool = False

    def full(self) -> bool:
        """Whether this controller counts it full: its own limit, or its worker's."""
        if self.in_flight >= self.places:
            return True
        capacity = self.worker.capacity
        return capacity is not None and self.worker.in_flight >= capacity

    def observe(self, latency_ms: float, now: float) -> None:
        """Take in a measured latency: a peak at once, anything lower by and by (peak-sensitive moving average).

        The first one replaces what was declared or assumed.
        """
        expected = self.expected_ms(now)
        if latency_ms >= expected or not self.measured:
            self.peak_ms = latency_ms
        else:
            weight = math.exp((self.estimated_at - now) / ESTIMATE_DECAY_S)
            self.peak_ms = expected * weight + latency_ms * (1.0 - weight)
        self.mean_ms += (latency_ms - self.mean_ms) * (MEAN_WEIGHT if self.measured else 1.0)
        self.measured = True
        self.estimated_at = now

    def observe_failure(self, latency_ms: float, now: float) -> None:
        """Take in how long an error took: a slow one counts, a quick one must not make the worker look fast."""
        if latency_ms > self.expected_ms(now):
            self.observe(latency_ms, now)

    def expected_ms(self, now: float) -> float:
        """The estimate at ``now``: a peak, forgotten by and by down to the long-run mean."""
        if self.peak_ms <= self.mean_ms:
            return self.mean_ms
        return self.mean_ms + (self.peak_ms - self.mean_ms) * math.exp((self.estimated_at - now) / ESTIMATE_DECAY_S)
