"""Owns what a request's life can see of its surroundings: the fleet, verdicts, limits, the time and the dice.

``router`` sets ``now`` before every event; nothing here changes by itself.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from controller.core.burn import Standing
from controller.core.commands import Step
from controller.core.compliance import Compliance
from controller.core.events import LifeEvent
from controller.core.fleet import Offer
from controller.core.health import Health
from controller.core.kept import KeptRecords
from controller.core.model import CheckInput, Request, Timeouts, Verdict
from controller.core.nearby import Nearby
from controller.core.objectives import Rules
from controller.core.pools import Place, Pool
from controller.core.rates import Buckets
from controller.core.registry import Registry
from controller.core.retries import RetryBudget
from controller.core.selection import Chance
from controller.core.verdicts import Verdicts
from subjects.answers import Frame, Result
from subjects.claims import StoredAnswer, claim_key, fingerprint
from subjects.errors import Refusal
from subjects.tokens import CapabilityId, DispatchId


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that an operator sets."""

    queue_limit: int = 1000
    """Requests that may wait for one capability."""
    max_attempts: int = 3
    """Dispatches of one request that may have run."""
    max_workers: int = 100_000
    lease_s: float = 15.0
    """How long a claim is somebody's without being renewed."""
    window_s: float = 3600.0
    """How long an answer is kept for those who ask again under its key."""
    cache_bytes: int = 64 * 1024 * 1024
    """Of answers kept in memory."""
    max_kept_bytes: int = 16 * 1024 * 1024
    """A streamed answer that is longer is not kept."""
    job_attempts: int = 5
    """Deliveries of one job that may have run."""


# Callers that wait for what others under their keys, or their jobs, come to: far more than one controller carries.
MAX_ATTACHED = 10_000


_BURNING = (Standing.PAGE, Standing.EXHAUSTED)
_RANKS = {"high": 0, "normal": 1, "low": 2}


@dataclass(slots=True)
class World:
    """The surroundings of every life of one controller."""

    controller_id: str
    registry: Registry
    timeouts: Timeouts
    check: CheckInput
    chance: Chance
    limits: Limits = field(default_factory=Limits)
    verdicts: Verdicts = field(default_factory=Verdicts)
    buckets: Buckets = field(default_factory=Buckets)
    retries: RetryBudget = field(default_factory=RetryBudget)
    nearby: Nearby = field(default_factory=Nearby)
    rules: Rules = field(default_factory=Rules)
    wall_offset_s: float = 0.0
    """What the wall clock, seconds since 1970, is ahead of ``now``."""
    compliance: Compliance = field(default_factory=Compliance)
    """What is counted of each capability with an objective, and how it stands."""
    kept: KeptRecords = field(init=False)
    health: Health = field(init=False)
    """The router's, who makes it."""
    max_answer_bytes: int = 1024 * 1024
    """What a worker's answer, its own headers included, may measure to be passed on in one message."""
    owner: str = field(init=False)
    """``<controller id>.<boot>``: whose the claims of this process are."""
    boot: str = field(init=False)
    """What no other process has, so that nobody's writes are taken for another's."""
    writes: count[int] = field(default_factory=count)
    attached: int = 0
    """Lives that wait for a change of their claim."""
    now: float = 0.0
    stalled_ms: float = 0.0
    """Standing still for so long took this much of the patience of everything read right after."""

    def __post_init__(self) -> None:
        self.boot = self.chance.randbytes(8).hex()
        self.owner = f"{self.controller_id}.{self.boot}"
        self.registry.controller_id = self.controller_id
        self.kept = KeptRecords(self.limits.cache_bytes, lambda: self.now)

    @property
    def controllers(self) -> int:
        """Live controllers, this one included."""
        return self.compliance.controllers

    def burning(self, capability: CapabilityId) -> bool:
        """Whether a capability spends its error budget so fast, or has spent so much, that something is done."""
        return self.compliance.burning(capability) in _BURNING

    @property
    def wall_s(self) -> float:
        """Seconds since 1970, UTC."""
        return self.now + self.wall_offset_s

    @property
    def crowded(self) -> bool:
        """Whether so many wait that nobody else may."""
        return self.attached >= MAX_ATTACHED

    def serves(self, offer: Offer) -> bool:
        """Whether work can still go to an offer that was chosen a while ago."""
        worker = offer.worker
        return (
            worker.eligible
            and offer.reachable
            and not offer.paused
            and not offer.ejected_until
            and offer in worker.offers
            and self.registry.workers.get(worker.id) is worker
        )


class WouldDispatch:
    """A dry run's end: a worker was chosen, and nothing ran."""


class Kept(msgspec.Struct, frozen=True):
    """An answer as it was stored; ``job_status`` where it is a job's result."""

    answer: StoredAnswer
    job_status: str = ""


class Told(msgspec.Struct, frozen=True):
    """Words of the router's own: a job accepted or still under way, a claim resolved."""

    body: dict[str, Any]
    job_status: str = ""


class Silent(msgspec.Struct, frozen=True):
    """Nobody is told anything, and why."""

    why: str


Outcome = Result | Frame | Refusal | WouldDispatch | Kept | Told | Silent
Steps = Generator[Step, LifeEvent | None, Outcome]


class Flight(msgspec.Struct, eq=False):
    """One dispatch that is out. ``life`` is None when nobody waits for it any more."""

    dispatch_id: DispatchId
    life: Life | None
    offer: Offer
    sent_at: float
    sent: bool = False
    """False while its place is only kept, until its claim is acknowledged."""
    ended_at: float = 0.0
    end: str = ""


class Life(msgspec.Struct, eq=False):
    """One request on its way, and what its record will tell."""

    request: Request
    arrived_at: float
    deadline: float
    trace_id: str
    span_id: str
    steps: Steps | None = None
    flight: Flight | None = None
    asked: Step | None = None
    """What it waits for the policy or the store to answer; whatever else they say comes too late, or twice."""
    hurried: bool = False
    """Whether its timer stands at its worker's own time-out, before its deadline."""
    waiting: Pool | None = None
    place: Place | None = None
    """Its place in the queue of ``waiting``."""
    turn: int | None = None
    """Its number among those who got in line, which it keeps."""
    waiting_since: float = 0.0
    queued_s: float = 0.0
    promised_ms: float = 0.0
    """How long it was predicted to wait when it got in line."""
    chosen: Offer | None = None
    price: float = 0.0
    """What ``chosen`` cost when it was chosen, in tokens."""
    expected_ms: float = 0.0
    """What its slowest answers took then."""
    yields: bool = False
    """Whether it is refused so that others meet the objective: that is no failure of the capability."""
    would: str = ""
    """What it would have been refused with if the objective were enforced."""
    verdict: Verdict | None = None
    flights: list[Flight] = msgspec.field(default_factory=list)
    executed: int = 0
    """Dispatches that may have run."""
    earlier: bool = False
    """Whether another request or attempt under its key may have run."""
    known: bool = False
    """Whether what stands under its key was read or written for it."""
    cancelled: bool = False
    """Whether its caller wants it no more."""
    cancels: tuple[str, ...] = ()
    """Where to say that a job is cancelled, as soon as that is stored."""
    tried: set[str] | None = None
    """Workers that are not asked again for this request."""
    frames: int = 0
    """Frames passed on to the caller so far; the next one's number."""
    key: str = ""
    """The idempotency key, or what stands for one; "" where nothing is claimed."""
    claim_key: str = ""
    fingerprint: bytes = b""
    over: bool = False
    """Whether it may replace what stands under its key."""
    replied: bool = False
    """Whether its caller has the terminal reply already."""
    delivery: str = ""
    """The job's delivery that it works on."""
    chunks: list[bytes] | None = None
    """What was streamed so far, where it is to be kept."""
    content_type: str | None = None
    """Of what was streamed."""
    kept_bytes: int = 0
    seen: str = ""
    """The nonce of the record that it was told of last: what it may replace, and nothing else."""
    given: StoredAnswer | None = None
    """The answer that an operator gives."""
    dead_seq: int = 0
    """The message among the dead that it is about."""

    @property
    def maybe_executed(self) -> bool:
        """Whether what it asks for may have been done."""
        return self.executed > 0 or self.earlier

    @property
    def rank(self) -> int:
        """Of its priority: the lower, the more urgent."""
        return _RANKS[self.request.headers.priority]

    @property
    def lingers(self) -> bool:
        """Whether its work is followed for others when its caller waits no more."""
        return bool(self.key) and not self.replied and self.request.action == "request"

    def claims(self, key: str) -> None:
        """Stand under this key from now on."""
        request = self.request
        self.key = key
        self.claim_key = claim_key(request.caller, request.capability, key)
        self.fingerprint = fingerprint(request.headers.content_type, request.body)

    def try_not_again(self, offer: Offer) -> None:
        """Leave this offer's worker out from now on."""
        if self.tried is None:
            self.tried = set()
        self.tried.add(offer.worker.id)
