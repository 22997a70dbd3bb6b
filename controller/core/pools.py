"""Owns the candidates: per capability, one pool for each combination of range, constraints and budget in use.

A pool keeps its free offers in tiers that are kept up to date as counts and states change, so that drawing from ten
thousand costs what drawing from ten does. It knows nothing of latency; ``selection`` draws, ``registry`` fills.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Any, NamedTuple

from controller.core.fleet import FAILING, INFINITE, LAST, Offer, State
from controller.core.latency import Latency
from controller.core.matching import mismatch
from controller.core.objectives import Objective
from controller.core.tiers import Tiers
from subjects.tokens import CapabilityId
from subjects.versions import parse_version

# Callers choose ranges and constraints freely: more combinations than this are matched anew, the oldest first.
MAX_POOLS = 64
# The budget that pays for nobody.
NOTHING = -1.0


class Place(NamedTuple):
    """A place in a queue. Those of a higher priority come first (a lower ``rank``), then those that are due sooner."""

    rank: int
    due: float
    turn: int
    life: Any


class Pool:
    """The offers of one capability that fit one range, one set of constraints and one budget."""

    __slots__ = (
        "_newest",
        "budget_tokens",
        "constraints",
        "eligible",
        "failing_places",
        "free",
        "members",
        "places",
        "queue",
        "sound_places",
        "version",
    )

    def __init__(self, version: str | None, constraints: str | None, budget_tokens: float | None) -> None:
        self.version = version
        self.constraints = constraints
        self.budget_tokens = budget_tokens
        self.members: dict[Offer, None] = {}
        self.eligible = 0
        self.places = 0
        """Requests that the eligible members can do at once."""
        self.sound_places = self.failing_places = 0
        """Likewise of those that meet the objective or have still to show it; and of those that fail too often."""
        self.free = Tiers()
        self.queue: list[Place] = []
        """Requests that wait for a free offer, the most urgent first."""
        self._newest: Offer | None = None

    @property
    def quick_places(self) -> int:
        """Places that are worth waiting for: where nobody is sound, what all of them suffer is no reason to refuse."""
        return self.sound_places or self.failing_places

    @property
    def bar(self) -> float:
        """The first tier that is only for those whom nobody else takes."""
        return FAILING if self.sound_places else LAST

    def fits(self, offer: Offer) -> bool:
        """Whether ``offer`` belongs here, free or not."""
        return mismatch(offer.spec, self.version, self.constraints) is None and self.affords(offer)

    def affords(self, offer: Offer) -> bool:
        """Whether ``offer`` costs no more than may be spent."""
        return self.budget_tokens is None or offer.price <= self.budget_tokens

    def ahead(self, rank: int, due: float) -> int:
        """How many wait who would come before a request of this priority that is due then."""
        return bisect_right(self.queue, (rank, due, INFINITE)) if self.queue else 0

    def newest(self) -> Offer | None:
        """The offer with the highest version, whose schemas count."""
        if self._newest is None and self.members:
            self._newest = max(self.members, key=_precedence)
        return self._newest

    def add(self, offer: Offer) -> None:
        """Take in an offer that fits."""
        if offer not in self.members:
            self.members[offer] = None
            self._newest = None
            self.enter(offer)

    def discard(self, offer: Offer) -> None:
        """Drop an offer, if it is here."""
        if offer in self.members:
            del self.members[offer]
            self._newest = None
            self.leave(offer)

    def enter(self, offer: Offer) -> None:
        """Count a member as what it is entered as."""
        self._count(offer, 1)
        if offer.free:
            self.free.add(offer, offer.entered)

    def leave(self, offer: Offer) -> None:
        """Undo ``enter``, before what it is entered as changes."""
        self._count(offer, -1)
        if offer.free:
            self.free.discard(offer, offer.entered)

    def _count(self, offer: Offer, times: int) -> None:
        if offer.eligible:
            self.eligible += times
            self.places += times * offer.places
            if offer.entered < FAILING:
                self.sound_places += times * offer.places
            elif offer.entered < LAST:
                self.failing_places += times * offer.places


class Group:
    """Everything known of one capability. It stays when the last worker leaves: it was offered."""

    __slots__ = ("_prices", "capability", "objective", "offers", "pools", "service", "waiting")

    def __init__(self, capability: CapabilityId, objective: Objective | None = None) -> None:
        self.capability = capability
        self.objective = objective
        self.offers: dict[Offer, None] = {}
        self._prices: list[float] = []
        """Of all offers, in order."""
        self.pools: dict[tuple[str | None, str | None, float | None], Pool] = {}
        self.waiting = 0
        """Requests waiting in all pools together."""
        self.service = Latency(0.0, 0.0, 0.0)
        """How long the work takes, whoever of those that meet the objective does it."""

    @property
    def eligible(self) -> int:
        """Offers that can be given work. It looks at each: for what is rare."""
        return sum(offer.eligible for offer in self.offers)

    def pool(self, version: str | None, constraints: str | None, budget_tokens: float | None = None) -> Pool:
        """The pool for a range, constraints and budget, made when it is first asked for.

        Budgets that pay for the same offers share one: callers name any number, and a pool costs a look at every offer.
        """
        if budget_tokens is not None:
            dearest = bisect_right(self._prices, budget_tokens)
            budget_tokens = self._prices[dearest - 1] if dearest else NOTHING
        key = (version, constraints, budget_tokens)
        pool = self.pools.get(key)
        if pool is None:
            pool = Pool(version, constraints, budget_tokens)
            fits: dict[str, bool] = {}
            for offer in self.offers:
                fit = fits.get(offer.kind)
                if fit is None:
                    fit = fits[offer.kind] = mismatch(offer.spec, version, constraints) is None
                if fit and pool.affords(offer):
                    pool.add(offer)
            if len(self.pools) >= MAX_POOLS:
                self._evict()
            self.pools[key] = pool
        return pool

    def ahead(self, pool: Pool, rank: int, due: float) -> int:
        """How many wait who would come before a request in ``pool``, there or for the same workers elsewhere."""
        if not self.waiting:
            return 0
        members = pool.members
        lines = [each for each in self.pools.values() if each.queue]
        # One pool's offers are nearly always a part of the other's, or none of them is.
        return sum(each.ahead(rank, due) for each in lines if next(iter(each.members), None) in members)

    def last_in_line(self) -> Place | None:
        """Who is least urgent of all who wait."""
        return max((pool.queue[-1] for pool in self.pools.values() if pool.queue), default=None)

    def _evict(self) -> None:
        for key, pool in self.pools.items():
            if not pool.queue:
                del self.pools[key]
                return

    def add(self, offer: Offer) -> None:
        """Take in an offer, into every pool it fits."""
        self.offers[offer] = None
        insort(self._prices, offer.price)
        for pool in self.pools.values():
            if pool.fits(offer):
                pool.add(offer)

    def discard(self, offer: Offer) -> None:
        """Drop an offer from everywhere: it is free for nobody, whatever comes back from it."""
        if self.offers.pop(offer, self) is None:
            del self._prices[bisect_left(self._prices, offer.price)]
        for pool in self.pools.values():
            pool.discard(offer)
        offer.eligible = offer.free = False

    def refresh(self, offer: Offer) -> bool:
        """Enter what ``offer`` is now into every pool; True when it just became free."""
        offer.suspect = offer.worker.state is State.SUSPECT
        eligible = offer.worker.eligible and offer.reachable and not offer.ejected_until
        free = eligible and not offer.paused and not offer.full()
        if eligible == offer.eligible and free == offer.free and offer.tier == offer.entered:
            return False
        homes = [pool for pool in self.pools.values() if offer in pool.members]
        for pool in homes:
            pool.leave(offer)
        became_free = free and not offer.free
        offer.eligible, offer.free, offer.entered = eligible, free, offer.tier
        for pool in homes:
            pool.enter(offer)
        return became_free


def _precedence(offer: Offer) -> Any:
    return parse_version(offer.spec.version)
