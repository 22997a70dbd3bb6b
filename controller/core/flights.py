"""Owns the dispatches that are out: which is whose, what they count for, and what happens to those nobody waits for.

Counts change here and nowhere else, and every change is entered into the pools at once. It decides nothing about a
request; ``lives`` and ``router`` launch, land and abandon.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from controller.core.fleet import Offer, Worker
from controller.core.timers import Timers
from controller.core.world import Flight, Life, World
from subjects.tokens import DispatchId

# A worker that said *busy* is asked again after this, or at its next answer.
BUSY_PAUSE_S = 0.05
# A dispatch that nobody waits for still counts as in flight for so long, in case its worker is really at it.
ORPHAN_S = 10.0


class Flights(dict[DispatchId, Flight]):
    """The dispatches that are out, by id. ``freed`` is told of offers that have room again."""

    def __init__(self, world: World, timers: Timers[Hashable], freed: Callable[[list[Offer]], None]) -> None:
        super().__init__()
        self._world = world
        self._timers = timers
        self._freed = freed

    def launch(self, life: Life, offer: Offer) -> Flight:
        """Count a new dispatch of ``life`` to ``offer``."""
        dispatch_id = DispatchId(self._world.chance.randbytes(12).hex())
        self[dispatch_id] = life.flight = flight = Flight(dispatch_id, life, offer, self._world.now)
        life.flights.append(flight)
        offer.in_flight += 1
        offer.worker.in_flight += 1
        self._count_changed(offer)
        return flight

    def withdraw(self, flight: Flight) -> None:
        """It was never sent: its place is free again."""
        if flight.life is not None:
            flight.life.flights.remove(flight)
        self.land(flight, "NotSent")

    def land(self, flight: Flight, end: str) -> None:
        """A dispatch is over, and its place is free: those who wait for it choose before this returns."""
        del self[flight.dispatch_id]
        offer, life = flight.offer, flight.life
        if life is None:
            self._timers.cancel(flight)
        else:
            self._part(flight, life, end)
        offer.in_flight -= 1
        offer.worker.in_flight -= 1
        if offer.paused and end != "NotRun":
            offer.paused = False
            self._timers.cancel(offer)
        self._count_changed(offer)

    def abandon(self, flight: Flight, end: str) -> None:
        """Nobody waits any more; it counts until its worker answers, or until nobody believes that it will."""
        if flight.life is not None:
            self._part(flight, flight.life, end)
        self._timers.set(flight, self._world.now + ORPHAN_S)

    def _part(self, flight: Flight, life: Life, end: str) -> None:
        flight.ended_at, flight.end = self._world.now, end
        # Neither keeps the other: what has ended is freed at once, and leaves nothing to collect.
        life.flight = flight.life = None
        if life.hurried:
            life.hurried = False
            self._timers.set(life, life.deadline)

    def carried_by(self, worker: Worker) -> list[Flight]:
        """Everything that a worker has."""
        return [flight for flight in self.values() if flight.offer.worker is worker]

    def pause(self, offer: Offer) -> None:
        """It said that it is busy."""
        offer.paused = True
        self._timers.set(offer, self._world.now + BUSY_PAUSE_S)

    def unpause(self, offer: Offer) -> None:
        """Its pause is over."""
        offer.paused = False
        self._count_changed(offer)

    def _count_changed(self, offer: Offer) -> None:
        """Enter it into the pools; where a whole worker's capacity counts, its other offers too."""
        if offer.free and offer.tier == offer.entered and not offer.paused and not offer.full():
            return  # as nearly always: it was free and is, so that its worker's capacity made no difference either
        registry = self._world.registry
        if offer.worker.capacity is not None:
            self._freed(registry.refresh(offer.worker))
        elif registry.refresh_offer(offer):
            self._freed([offer])
