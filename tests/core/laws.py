"""What must hold of a router after any event at all, recomputed from scratch and compared with what it keeps."""

from __future__ import annotations

from collections import Counter

from controller.core.commands import Send
from controller.core.fleet import Offer
from controller.core.matching import mismatch
from controller.core.router import Router
from controller.core.world import Life


def has_room(offer: Offer) -> bool:
    """By what the offer and its worker declare, and what this router gave them."""
    capacity = offer.worker.capacity
    room = capacity is None or offer.worker.in_flight < capacity
    return room and offer.in_flight < offer.spec.max_concurrency


class WatchedRouter(Router):
    """A router that is looked at in the moment it dispatches: afterwards the worker may be another one already."""

    def _send(self, life: Life, step: Send) -> None:
        offer = step.offer
        worker = offer.worker
        assert self.world.registry.workers.get(worker.id) is worker, "it left, or was forgotten"
        assert offer in worker.offers, "it does not offer this any more"
        assert worker.eligible, f"it is {worker.state.value}"
        assert offer.reachable, "nobody listens on its subject"
        assert has_room(offer), "this router counts it full"
        assert not offer.paused, "it said that it is busy"
        assert life.flight is None, "a dispatch of this request is out already"
        assert not life.tried or worker.id not in life.tried, "it was tried for this request"
        headers = life.request.headers
        assert mismatch(offer.spec, headers.version, headers.constraints, headers.budget_tokens) is None, (
            "it does not fit"
        )
        super()._send(life, step)


def check_counts(router: Router) -> None:
    """Every count is what counting from scratch gives."""
    flights = router._flights
    by_offer = Counter(id(flight.offer) for flight in flights.values())
    by_worker = Counter(id(flight.offer.worker) for flight in flights.values())
    for worker in router.world.registry.workers.values():
        assert worker.in_flight == by_worker[id(worker)], worker.id
        for offer in worker.offers:
            assert offer.in_flight == by_offer[id(offer)], offer.address
    lives = [life for twins in router._lives.values() for life in twins]
    assert router.live == len(lives)
    for life in lives:
        assert life.steps is not None
        assert life in router._timers, "nothing would ever end it"
        assert life.flight is None or flights[life.flight.dispatch_id] is life.flight
        assert life.waiting is None or life in life.waiting.waiting
    for flight in flights.values():
        if flight.life is None:
            assert flight in router._timers, "an orphan would be counted for ever"
        else:
            assert flight.life.flight is flight


def check_pools(router: Router) -> None:
    """Every pool is what filling it from scratch gives, and nobody waits who could be served."""
    registry = router.world.registry
    for capability, group in registry.groups.items():
        offers = {o for w in registry.workers.values() for o in w.offers if o.capability == capability}
        assert set(group.offers) == offers, capability
        waiting = 0
        for (version, constraints, budget), pool in group.pools.items():
            members = {offer for offer in offers if mismatch(offer.spec, version, constraints, budget) is None}
            free = {o for o in members if o.worker.eligible and o.reachable and not o.paused and has_room(o)}
            assert set(pool.members) == members
            assert len(pool.free) == len(set(pool.free)), "twice in the free list"
            assert set(pool.free) == free, (capability, version, constraints)
            assert pool.eligible == sum(offer.worker.eligible and offer.reachable for offer in members)
            waiting += len(pool.waiting)
            for life in pool.waiting:
                assert isinstance(life, Life)
                assert life.waiting is pool
                assert life.steps is not None
                left = [offer for offer in free if offer.worker.id not in (life.tried or ())]
                assert not left, f"{life.request.request_id} waits, and {left[0].address} is free"
        assert group.waiting == waiting


def check_all(router: Router) -> None:
    """All of it."""
    check_counts(router)
    check_pools(router)
