"""Owns who waits for a free worker: first come, first served, each in the pool of those offers that fit it.

``lives`` puts them in and takes them out; which offer they get is chosen anew when they are woken.
"""

from __future__ import annotations

from controller.core.fleet import Offer
from controller.core.pools import Pool
from controller.core.registry import Registry
from controller.core.world import Life, World


class Waiting:
    """The queues of one controller, which live in the pools, and their counts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._registry: Registry = world.registry

    def enter(self, life: Life, pool: Pool) -> None:
        """Wait, behind everybody who is there."""
        pool.waiting[life] = None
        self._registry.groups[life.request.capability].waiting += 1
        life.waiting = pool
        life.waiting_since = self._world.now

    def leave(self, life: Life) -> None:
        """Stop waiting."""
        assert life.waiting is not None
        del life.waiting.waiting[life]
        self._registry.groups[life.request.capability].waiting -= 1
        life.waiting = None
        life.queued_s += self._world.now - life.waiting_since

    def next_for(self, offer: Offer) -> Life | None:
        """Who may choose now that ``offer`` is free, taken out of its queue; None when nobody can use it."""
        for pool in self._registry.groups[offer.capability].pools.values():
            if pool.waiting and pool.free and offer in pool.members:
                life = _first_who_can_use(pool)
                if life is not None:
                    self.leave(life)
                    return life
        return None


def _first_who_can_use(pool: Pool) -> Life | None:
    """The longest waiting who has not tried all that are free: whoever has keeps nobody else from them."""
    for life in pool.waiting:
        assert isinstance(life, Life)
        if not life.tried or any(offer.worker.id not in life.tried for offer in pool.free):
            return life
    return None
