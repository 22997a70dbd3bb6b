"""Owns who is there: what a heartbeat, an answer, silence or *no responders* makes of a worker, and who is told.

``membership`` says who is registered; ``router`` brings what is heard, and is told which dispatches are lost and which
offers became free.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from controller.core.commands import Command, Publish
from controller.core.fleet import Offer, State, Worker
from controller.core.timers import Timers
from controller.core.world import World
from subjects.tokens import WorkerId


class Presence:
    """The liveness of one controller's workers. ``lost`` and ``freed`` are the router's ears."""

    def __init__(
        self,
        world: World,
        timers: Timers[Hashable],
        emit: Callable[[Command], None],
        lost: Callable[[Worker, str], None],
        freed: Callable[[list[Offer]], None],
    ) -> None:
        self._world = world
        self._registry = world.registry
        self._timers = timers
        self._emit = emit
        self.lost = lost
        self.freed = freed
        self._departed: dict[WorkerId, Worker] = {}
        """The last worker that left under an id and still had work; only its heartbeats count."""

    def heard(self, worker: Worker, *, draining: bool | None = None) -> None:
        """Any answer, frame or heartbeat says that a worker is there; a heartbeat also whether it drains."""
        shut = [] if draining is None else [offer for offer in worker.offers if not offer.reachable]
        if worker.state is State.ALIVE and not draining and not shut:
            worker.seen_at = self._world.now
            return
        for offer in shut:  # its subject may be listened to again
            offer.reachable = True
        if self._registry.workers.get(worker.id) is not worker:
            worker.seen_at = self._world.now  # it left: what it still had comes back
            return
        before = self._registry.touch(worker, self._world.now)
        if draining or worker.leaving:
            worker.state = State.DRAINING  # before anyone who waits is given to it
        elif draining is False and before is State.DRAINING:
            worker.state = State.ALIVE
        if before is State.GONE:
            self.watch(worker)
            self.tell("joined", worker)
        self.freed(self._registry.refresh(worker))

    def watch(self, worker: Worker) -> None:
        """Look at its silence when it may have become too long."""
        self._timers.set(worker, self._registry.next_check(worker))

    def check(self, worker: Worker) -> None:
        """A worker's silence may have become too long."""
        now = self._world.now
        if self._registry.workers.get(worker.id) is not worker:
            self._check_departed(worker)
            return
        if worker.state is State.GONE and now >= self._registry.next_check(worker):
            self._registry.remove(worker)
            # Its entry in the stream may be read again when it comes back.
            self._registry.seqs.pop(worker.id, None)
            return
        new = self._registry.overdue(worker, now)
        if new is not None:
            self._registry.refresh(worker)
            self.tell("left" if new is State.GONE else "suspect", worker)
            if new is State.GONE:
                self.lost(worker, "its heartbeats stopped")
        self.watch(worker)

    def depart(self, worker: Worker) -> None:
        """It left: nobody gives it work any more, and what it has is waited for while it is heard."""
        was_gone = worker.state is State.GONE
        self._registry.remove(worker)
        if worker.in_flight:
            self._departed[worker.id] = worker
        if not was_gone:
            self.tell("left", worker)

    def departed(self, worker_id: WorkerId) -> Worker | None:
        """The worker that left under this id and still has work, if any."""
        return self._departed.get(worker_id)

    def _check_departed(self, worker: Worker) -> None:
        if worker.in_flight and not self._registry.is_silent(worker, self._world.now):
            self.watch(worker)
            return
        if self._departed.get(worker.id) is worker:  # and not one that left under its id since
            del self._departed[worker.id]
        if worker.in_flight:
            self.lost(worker, "it left, and then its heartbeats stopped")

    def unreachable(self, offer: Offer) -> None:
        """nats-server says that nobody listens on its subject: no work until its worker's next heartbeat."""
        offer.reachable = False
        self._registry.refresh(offer.worker)

    def draining(self, worker: Worker) -> None:
        """It said that it drains."""
        self.set_state(worker, State.DRAINING)

    def set_state(self, worker: Worker, state: State) -> None:
        """Put a worker into a state, and its offers in or out of the pools with it."""
        worker.state = state
        self.freed(self._registry.refresh(worker))

    def tell(self, name: str, worker: Worker) -> None:
        """Publish a change: joined, suspect or left."""
        body = {"worker_id": str(worker.id), "state": worker.state.value, "controller": self._world.controller_id}
        self._emit(Publish("worker", name, body))
