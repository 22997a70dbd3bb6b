"""Owns the candidates: per capability, one pool for each combination of version range and constraints in use.

A pool keeps its free offers in a list that is kept up to date as counts and states change, so that drawing from ten
thousand costs what drawing from ten does. It knows nothing of latency; ``selection`` draws, ``registry`` fills.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from controller.core.fleet import Offer, State
from controller.core.matching import mismatch
from subjects.tokens import CapabilityId
from subjects.versions import parse_version

# Callers choose ranges and constraints freely: more combinations than this are matched anew, the oldest first.
MAX_POOLS = 64


class Pool:
    """The offers of one capability that fit one range and one set of constraints."""

    __slots__ = ("_at", "_newest", "budget_tokens", "constraints", "eligible", "free", "members", "version", "waiting")

    def __init__(self, version: str | None, constraints: str | None, budget_tokens: float | None) -> None:
        self.version = version
        self.constraints = constraints
        self.budget_tokens = budget_tokens
        self.members: dict[Offer, None] = {}
        self.eligible = 0
        self.free: list[Offer] = []
        self.waiting: OrderedDict[object, None] = OrderedDict()
        """Requests that wait for a free offer, the longest waiting first."""
        self._at: dict[Offer, int] = {}
        self._newest: Offer | None = None

    def fits(self, offer: Offer) -> bool:
        """Whether ``offer`` belongs here, free or not."""
        return mismatch(offer.spec, self.version, self.constraints, self.budget_tokens) is None

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
            self.eligible += offer.eligible
            if offer.free:
                self._enter(offer)

    def discard(self, offer: Offer) -> None:
        """Drop an offer, if it is here."""
        if offer in self.members:
            del self.members[offer]
            self._newest = None
            self.eligible -= offer.eligible
            if offer.free:
                self._leave(offer)

    def _enter(self, offer: Offer) -> None:
        self._at[offer] = len(self.free)
        self.free.append(offer)

    def _leave(self, offer: Offer) -> None:
        at = self._at.pop(offer)
        last = self.free.pop()
        if last is not offer:
            self.free[at] = last
            self._at[last] = at

    def update(self, offer: Offer, eligible: bool, free: bool) -> None:
        """Note what ``offer`` is about to become; ``offer`` still holds what it was."""
        if offer not in self.members:
            return
        self.eligible += eligible - offer.eligible
        if free != offer.free:
            if free:
                self._enter(offer)
            else:
                self._leave(offer)


def _precedence(offer: Offer) -> Any:
    return parse_version(offer.spec.version)


class Group:
    """Everything known of one capability. It stays when the last worker leaves: it was offered."""

    __slots__ = ("capability", "offers", "pools", "waiting")

    def __init__(self, capability: CapabilityId) -> None:
        self.capability = capability
        self.offers: dict[Offer, None] = {}
        self.pools: dict[tuple[str | None, str | None, float | None], Pool] = {}
        self.waiting = 0
        """Requests waiting in all pools together."""

    def pool(self, version: str | None, constraints: str | None, budget_tokens: float | None = None) -> Pool:
        """The pool for a range, constraints and budget, made when it is first asked for."""
        key = (version, constraints, budget_tokens)
        pool = self.pools.get(key)
        if pool is None:
            pool = Pool(version, constraints, budget_tokens)
            fits: dict[str, bool] = {}
            for offer in self.offers:
                fit = fits.get(offer.kind)
                if fit is None:
                    fit = fits[offer.kind] = pool.fits(offer)
                if fit:
                    pool.add(offer)
            if len(self.pools) >= MAX_POOLS:
                self._evict()
            self.pools[key] = pool
        return pool

    def _evict(self) -> None:
        for key, pool in self.pools.items():
            if not pool.waiting:
                del self.pools[key]
                return

    def add(self, offer: Offer) -> None:
        """Take in an offer, into every pool it fits."""
        self.offers[offer] = None
        for pool in self.pools.values():
            if pool.fits(offer):
                pool.add(offer)

    def discard(self, offer: Offer) -> None:
        """Drop an offer from everywhere: it is free for nobody, whatever comes back from it."""
        self.offers.pop(offer, None)
        for pool in self.pools.values():
            pool.discard(offer)
        offer.eligible = offer.free = False

    def refresh(self, offer: Offer) -> bool:
        """Enter what ``offer`` is now into every pool; True when it just became free."""
        offer.suspect = offer.worker.state is State.SUSPECT
        eligible = offer.worker.eligible and offer.reachable
        free = eligible and not offer.paused and not offer.full()
        if eligible == offer.eligible and free == offer.free:
            return False
        for pool in self.pools.values():
            pool.update(offer, eligible, free)
        became_free = free and not offer.free
        offer.eligible = eligible
        offer.free = free
        return became_free
