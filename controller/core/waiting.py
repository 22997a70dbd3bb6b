"""Owns who waits for a free worker: by priority, then earliest deadline first, in the pool of the offers that fit.

``lives`` puts them in, and runs on whoever is woken; which offer they get is decided anew then.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Container, Hashable
from itertools import count, islice

from controller.core.admission import due_at
from controller.core.commands import Wait
from controller.core.events import MADE_ROOM, WOKEN, LifeEvent
from controller.core.fleet import Offer
from controller.core.pools import Place, Pool
from controller.core.timers import Timers
from controller.core.world import Life, World


class Waiting:
    """The queues of one controller, which live in the pools, and their counts."""

    def __init__(self, world: World, timers: Timers[Hashable], resume: Callable[[Life, LifeEvent], None]) -> None:
        self._world = world
        self._registry = world.registry
        self._timers = timers
        self._resume = resume
        self._turns = count()

    def enter(self, life: Life, step: Wait) -> None:
        """Wait, behind everybody who is as urgent. In a full queue whoever is least urgent makes room.

        ``admission`` has seen that there is somebody.
        """
        group, pool = self._registry.groups[life.request.capability], step.pool
        if group.waiting >= self._world.limits.queue_limit:
            last = group.last_in_line()
            if last is not None and last.rank > life.rank:
                self._resume(last.life, MADE_ROOM)
        if life.turn is None:  # else it was woken and waits again: nobody as urgent came before it
            life.turn = next(self._turns)
        place = life.place = Place(life.rank, due_at(life, group), life.turn, life)
        insort(pool.queue, place)
        group.waiting += 1
        life.waiting = pool
        life.waiting_since = self._world.now
        self._timers.set((life, step), self._world.now + step.for_s)

    def leave(self, life: Life) -> None:
        """Stop waiting."""
        assert life.waiting is not None
        assert life.place is not None
        del life.waiting.queue[bisect_left(life.waiting.queue, life.place)]
        self._registry.groups[life.request.capability].waiting -= 1
        life.waiting = life.place = None
        life.queued_s += self._world.now - life.waiting_since
        self._timers.cancel((life, life.asked))

    def wake(self, offers: list[Offer]) -> None:
        """Let those who wait for one of these offers choose again, the most urgent first."""
        for offer in offers:
            declined: list[Pool] = []
            while (life := self._next_for(offer, declined)) is not None:
                self._resume(life, WOKEN)
                if life.waiting is not None:
                    declined.append(life.waiting)

    def think_again(self, life: Life, step: Wait) -> None:
        """It has waited for a while, and nobody became free: whoever is first in line thinks first."""
        self.wake(list(islice(step.pool.free, 1)))
        if life.asked is step:
            self._resume(life, WOKEN)

    def _next_for(self, offer: Offer, declined: Container[Pool]) -> Life | None:
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
