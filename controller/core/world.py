"""Owns what a request's life can see of its surroundings: the fleet, verdicts, limits, the time and the dice.

``router`` sets ``now`` before every event; nothing here changes by itself.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import msgspec

from controller.core.commands import Step
from controller.core.events import LifeEvent
from controller.core.fleet import Offer
from controller.core.model import CheckInput, Request, Timeouts, Verdict
from controller.core.nearby import Nearby
from controller.core.pools import Pool
from controller.core.registry import Registry
from controller.core.retries import RetryBudget
from controller.core.selection import Chance
from controller.core.verdicts import Verdicts
from subjects.answers import Frame, Result
from subjects.errors import Refusal
from subjects.tokens import DispatchId


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that an operator sets."""

    queue_limit: int = 1000
    """Requests that may wait for one capability."""
    max_attempts: int = 3
    """Dispatches of one request that may have run."""
    max_workers: int = 100_000


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
    retries: RetryBudget = field(default_factory=RetryBudget)
    nearby: Nearby = field(default_factory=Nearby)
    max_answer_bytes: int = 1024 * 1024
    """What a worker's answer, its own headers included, may measure to be passed on in one message."""
    now: float = 0.0
    stalled_ms: float = 0.0
    """Standing still for so long took this much of the patience of everything read right after."""


class WouldDispatch:
    """A dry run's end: a worker was chosen, and nothing ran."""


Outcome = Result | Frame | Refusal | WouldDispatch
Steps = Generator[Step, LifeEvent | None, Outcome]


class Flight(msgspec.Struct, eq=False):
    """One dispatch that is out. ``life`` is None when nobody waits for it any more."""

    dispatch_id: DispatchId
    life: Life | None
    offer: Offer
    sent_at: float
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
    waiting_since: float = 0.0
    queued_s: float = 0.0
    chosen: Offer | None = None
    verdict: Verdict | None = None
    flights: list[Flight] = msgspec.field(default_factory=list)
    executed: int = 0
    """Dispatches that may have run."""
    tried: set[str] | None = None
    """Workers that are not asked again for this request."""
    frames: int = 0
    """Frames passed on to the caller so far; the next one's number."""

    def try_not_again(self, offer: Offer) -> None:
        """Leave this offer's worker out from now on."""
        if self.tried is None:
            self.tried = set()
        self.tried.add(offer.worker.id)
