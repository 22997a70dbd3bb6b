"""Owns free offers in the order in which they are looked at: by what they cost, then the unproven, then the rest.

Within a tier they stand by address, so that a draw is the same whoever came first. It knows nothing of requests:
``pools`` fills it, ``selection`` draws from it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from controller.core.fleet import Offer


class Tier:
    """Offers that cost the same, by address."""

    __slots__ = ("_addresses", "offers")

    def __init__(self) -> None:
        self._addresses: list[str] = []
        self.offers: list[Offer] = []

    def add(self, offer: Offer) -> None:
        """Take one in."""
        at = bisect_left(self._addresses, offer.address)
        # Several versions of one worker share an address.
        while (
            at < len(self.offers)
            and self._addresses[at] == offer.address
            and self.offers[at].spec.version < offer.spec.version
        ):
            at += 1
        self._addresses.insert(at, offer.address)
        self.offers.insert(at, offer)

    def discard(self, offer: Offer) -> None:
        """Drop one that is here."""
        at = bisect_left(self._addresses, offer.address)
        while self.offers[at] is not offer:
            at += 1
        del self._addresses[at], self.offers[at]


class Tiers:
    """The free offers of a pool. ``order`` lists the tiers that have any, the one to look at first in front."""

    __slots__ = ("_count", "_tiers", "order")

    def __init__(self) -> None:
        self.order: list[float] = []
        self._tiers: dict[float, Tier] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Offer]:
        for tier in self.order:
            yield from self._tiers[tier].offers

    def at(self, tier: float) -> list[Offer]:
        """The offers of one tier; empty where there are none."""
        found = self._tiers.get(tier)
        return found.offers if found is not None else []

    def add(self, offer: Offer, tier: float) -> None:
        """Take one in."""
        found = self._tiers.get(tier)
        if found is None:
            found = self._tiers[tier] = Tier()
            insort(self.order, tier)
        found.add(offer)
        self._count += 1

    def discard(self, offer: Offer, tier: float) -> None:
        """Drop one that is in ``tier``."""
        found = self._tiers[tier]
        found.discard(offer)
        self._count -= 1
        if not found.offers:
            del self._tiers[tier]
            del self.order[bisect_left(self.order, tier)]
