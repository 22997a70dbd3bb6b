"""Owns what a worker and its offers are while they are known: identity, state, counts, price, health.

Plain mutable records. ``registry`` adds and removes them, ``pools`` index them, ``selection`` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from controller.core.latency import Latency
from controller.core.objectives import Objective
from subjects.manifests import Bid, Capability
from subjects.tokens import CapabilityId, WorkerId

INFINITE = float("inf")
# Tiers that are no price; prices stay far below.
UNPROVEN = 1e300
"""Of a capability with an objective, an offer that has not shown yet what it can do."""
FAILING = 1.5e300
"""An offer that fails too often, and is quick enough: for those whom nobody else takes."""
LAST = 2e300
"""An offer that is too slow for the objective: likewise."""


class State(Enum):
    """A worker's state as this controller sees it.

    ::

        alive ──2 missed──► suspect ──3 missed──► gone ──heartbeat──► alive
          ▲ └─────── says so ──► draining ──3 missed──► gone
          └── any heartbeat, answer or frame ── suspect

    ``ejected`` is what people are told of a worker all of whose offers are shut out for a while; see ``health``.
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

    @property
    def shown(self) -> State:
        """Its state as people are told: ejected, when that holds for everything it offers."""
        shut = self.eligible and self.offers and all(offer.ejected_until for offer in self.offers)
        return State.EJECTED if shut else self.state

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
    latency: Latency
    in_flight: int = 0
    reachable: bool = True
    """False from *no responders* until its worker's next heartbeat: nobody listens on its subject."""
    paused: bool = False
    """It said *busy*; it is asked again after a pause or after its next answer."""
    objective: Objective | None = None
    """What is asked of its capability, where that speaks of its version."""
    affine: bool = False
    """Whether its worker prefers this controller."""
    bid: float | Bid | None = None
    """The newest one: of its manifest, or of a heartbeat."""
    bid_ends: float = INFINITE
    price: float = 0.0
    """What it costs now, in tokens."""
    rank: float = 0.0
    """What it costs in comparison: the price, weighed with the bid."""
    tier: float = 0.0
    """Where it belongs among the free ones: ``rank``, or ``UNPROVEN``, ``FAILING`` or ``LAST``."""
    strain: float = 0.0
    """How much its failures outweigh its answers of late; see ``health``."""
    strained_at: float = 0.0
    demoted: bool = False
    demoted_until: float = -INFINITE
    """Or since when it is not any more."""
    lapses: int = 0
    """How often it was demoted again soon after."""
    ejections: int = 0
    ejected_until: float = 0.0
    """When it is tried again; 0 while it is not ejected."""
    suspect: bool = False
    eligible: bool = False
    """As last entered into the pools, like the two that follow; see ``pools.refresh``."""
    free: bool = False
    entered: float = 0.0

    @property
    def quick(self) -> bool:
        """Whether it can be given work, and nothing says that it would not meet what is asked of its capability."""
        return self.eligible and self.entered < LAST

    def full(self) -> bool:
        """Whether this controller counts it full: its own limit, or its worker's."""
        if self.in_flight >= self.places:
            return True
        capacity = self.worker.capacity
        return capacity is not None and self.worker.in_flight >= capacity
