"""Owns who waits for a free worker: by priority, then earliest deadline first, in the pool of the offers that fit.

``lives`` puts them in and takes them out; which offer they get is decided anew when they are woken.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container
from itertools import count

from controller.core.admission import due_at
from controller.core.fleet import Offer
from controller.core.pools import Place, Pool
from controller.core.registry import Registry
from controller.core.world import Life, World


class Waiting:
    """The queues of one controller, which live in the pools, and their counts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._registry: Registry = world.registry
        self._serials = count()

    def enter(self, life: Life, pool: Pool) -> None:
        """Wait, behind everybody who is as urgent."""
        group = self._registry.groups[life.request.capability]
        place = Place(life.rank, due_at(life, group), next(self._serials), life)
        insort(pool.queue, place)
        group.waiting += 1
        life.waiting, life.place = pool, place
        life.waiting_since = self._world.now

    def leave(self, life: Life) -> None:
        """Stop waiting."""
        assert life.waiting is not None
        assert life.place is not None
        del life.waiting.queue[bisect_left(life.waiting.queue, life.place)]
        self._registry.groups[life.request.capability].waiting -= 1
        life.waiting = life.place = None
        life.queued_s += self._world.now - life.waiting_since

    def next_for(self, offer: Offer, declined: Container[Pool]) -> Life | None:
        """Who may choose now that ``offer`` is free, taken out of its queue; None when nobody can use it.

        Whoever is first in a pool of ``declined`` would rather wait for another one, and so would those behind.
        """
        first: Place | None = None
        for pool in self._registry.groups[offer.capability].pools.values():
            if pool.queue and pool.free and offer in pool.members and pool not in declined:
                place = _first_who_can_use(pool)
                if place is not None and (first is None or place < first):
                    first = place
        if first is None:
            return None
        life: Life = first.life
        self.leave(life)
        return life


def _first_who_can_use(pool: Pool) -> Place | None:
    """The most urgent who has not tried all that are free: whoever has keeps nobody else from them."""
    for place in pool.queue:
        life: Life = place.life
        if not life.tried or any(offer.worker.id not in life.tried for offer in pool.free):
            return place
    return None
