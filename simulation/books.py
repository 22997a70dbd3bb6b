"""Owns the audit of one router: what it keeps, recomputed from scratch and compared, after any event at all.

It looks inside, and changes nothing. ``watch`` looks at what goes in and out.
"""

from __future__ import annotations

from collections import Counter

from controller.core.admission import RECONSIDER_S
from controller.core.commands import Attach, Send
from controller.core.fleet import FAILING, LAST, Offer
from controller.core.matching import mismatch
from controller.core.router import Router
from controller.core.timers import SLOT_S
from controller.core.world import Life, World
from simulation.laws import must
from subjects.tokens import DispatchId


def has_room(offer: Offer) -> bool:
    """By what the offer and its worker declare, and what this router gave them."""
    capacity = offer.worker.capacity
    room = capacity is None or offer.worker.in_flight < capacity
    return room and offer.in_flight < offer.spec.max_concurrency


class AuditedRouter(Router):
    """A router that is looked at in the moment it dispatches: afterwards the worker may be another one already."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.sent_to: dict[DispatchId, str | None] = {}
        """The instance of each dispatch's worker."""
        self.told: set[DispatchId] = set()
        """Dispatches of which their workers were told that nobody waits."""

    def _send(self, life: Life, step: Send) -> None:
        offer = step.offer
        worker, to = offer.worker, f"{life.request.reply} to {offer.address}"
        must(self.world.registry.workers.get(worker.id) is worker, "known-gone", f"{to}: it left, or was forgotten")
        must(worker.eligible, "known-gone", f"{to}: it is {worker.state.value}")
        must(offer.reachable, "known-gone", f"{to}: nobody listens on its subject")
        must(offer in worker.offers, "right-worker", f"{to}: it does not offer this any more")
        kept = life.flight is not None  # its place, since before its key was claimed
        must(kept or has_room(offer), "right-worker", f"{to}: this router counts it full")
        must(not offer.paused, "right-worker", f"{to}: it said that it is busy")
        must(
            life.flight is None or not life.flight.sent,
            "right-worker",
            f"{to}: a dispatch of this request is out already",
        )
        must(not life.tried or worker.id not in life.tried, "right-worker", f"{to}: it was tried for this request")
        headers = life.request.headers
        why_not = mismatch(offer.spec, headers.version, headers.constraints)
        must(why_not is None, "right-worker", f"{to}: {why_not}")
        affordable = headers.budget_tokens is None or life.price <= headers.budget_tokens
        must(affordable, "right-worker", f"{to}: it costs {life.price:g}, more than {headers.budget_tokens}")
        super()._send(life, step)
        assert life.flight is not None
        self.sent_to[life.flight.dispatch_id] = worker.instance


def check_counts(router: Router) -> None:
    """Every count is what counting from scratch gives, and everything that is out has something that ends it."""
    flights = router._flights
    by_offer = Counter(id(flight.offer) for flight in flights.values())
    by_worker = Counter(id(flight.offer.worker) for flight in flights.values())
    for worker in router.world.registry.workers.values():
        must(worker.in_flight == by_worker[id(worker)], "counts", f"{worker.id} has {worker.in_flight} in flight")
        for offer in worker.offers:
            must(offer.in_flight == by_offer[id(offer)], "counts", f"{offer.address} has {offer.in_flight} in flight")
    lives = [life for twins in router._lives.values() for life in twins]
    must(router.live == len(lives), "counts", f"{router.live} requests are said to live, and {len(lives)} do")
    attached = {life for claim in router.claims.values() for life in claim.lives if isinstance(life.asked, Attach)}
    must(
        router.world.attached == len(attached),
        "counts",
        f"{router.world.attached} are said to be attached to a key, and {len(attached)} are",
    )
    for life in lives:
        reply = life.request.reply
        must(life.steps is not None, "nothing-left", f"{reply} ended, and is still kept")
        # Whoever works on a job waits as long as somebody else has its record.
        must(life in router.timers or life.delivery, "in-time", f"nothing would ever end {reply}")
        flight = life.flight
        must(flight is None or flights.get(flight.dispatch_id) is flight, "counts", f"{reply} waits for no dispatch")
        must(life.waiting is None or life.place in life.waiting.queue, "counts", f"{reply} waits in no queue")
    for flight in flights.values():
        life_of = flight.life
        if life_of is None:
            must(flight in router.timers, "nothing-left", f"orphan {flight.dispatch_id} would be counted for ever")
        else:
            must(life_of.flight is flight, "counts", f"{flight.dispatch_id} is out for nobody")


def check_liveness(router: AuditedRouter, now: float) -> None:
    """Nobody who was silent for too long counts as there, and nobody waits for who is not."""
    registry = router.world.registry
    for worker in registry.workers.values():
        silent = registry.is_silent(worker, now - 2 * SLOT_S)
        must(not silent or not worker.eligible, "known-gone", f"{worker.id} is silent, and {worker.state.value}")
    flights = router._flights
    router.sent_to = {dispatch_id: at for dispatch_id, at in router.sent_to.items() if dispatch_id in flights}
    router.told &= flights.keys()
    for dispatch_id, flight in flights.items():
        worker = flight.offer.worker
        if not flight.sent:
            continue  # its claim is not acknowledged yet
        if flight.life is None:
            must(dispatch_id in router.told, "cancels", f"{worker.id} was not told that nobody waits for {dispatch_id}")
            continue
        what = f"{flight.life.request.reply} waits for {worker.id}, which"
        must(not registry.is_silent(worker, now - 2 * SLOT_S), "known-gone", f"{what} is silent")
        must(not worker.is_another(router.sent_to[dispatch_id]), "known-gone", f"{what} is another process now")


def _fits(offer: Offer, version: str | None, constraints: str | None, budget: float | None) -> bool:
    return mismatch(offer.spec, version, constraints) is None and (budget is None or offer.price <= budget)


def check_pools(router: Router) -> None:
    """Every pool is what filling it from scratch gives, and nobody waits who could be served."""
    registry = router.world.registry
    for capability, group in registry.groups.items():
        offers = {o for w in registry.workers.values() for o in w.offers if o.capability == capability}
        must(set(group.offers) == offers, "counts", f"the group of {capability} holds other offers than its workers")
        waiting = 0
        for (version, constraints, budget), pool in group.pools.items():
            name = f"the pool of {capability} {version} {constraints}"
            members = {offer for offer in offers if _fits(offer, version, constraints, budget)}
            usable = {o for o in members if o.worker.eligible and o.reachable and not o.ejected_until}
            free = {o for o in usable if not o.paused and has_room(o)}
            must(set(pool.members) == members, "counts", f"{name} has other members than fit")
            must(len(pool.free) == len(set(pool.free)), "counts", f"{name} lists an offer as free twice")
            must(set(pool.free) == free, "counts", f"{name} lists other offers as free than are")
            must(pool.eligible == len(usable), "counts", f"{name} counts {pool.eligible} eligible, not {len(usable)}")
            places = sum(offer.places for offer in usable)
            must(pool.places == places, "counts", f"{name} counts {pool.places} places, not {places}")
            sound = sum(offer.places for offer in usable if offer.tier < FAILING)
            must(pool.sound_places == sound, "counts", f"{name} counts {pool.sound_places} sound places, not {sound}")
            failing = sum(offer.places for offer in usable if FAILING <= offer.tier < LAST)
            must(pool.failing_places == failing, "counts", f"{name} counts {pool.failing_places} failing places")
            waiting += len(pool.queue)
            must(pool.queue == sorted(pool.queue), "counts", f"{name} is not in line by urgency")
            for place in pool.queue:
                life = place.life
                assert isinstance(life, Life)
                reply = life.request.reply
                must(life.waiting is pool and life.steps is not None, "counts", f"{reply} waits in the wrong queue")
                must((life, life.asked) in router.timers, "no-idle-wait", f"{reply} would never think again")
            for place in pool.queue:
                fit = [o for o in free if not place.life.tried or o.worker.id not in place.life.tried]
                if fit:  # the first who could have it has declined it
                    declined = place.life.asked.for_s < RECONSIDER_S
                    must(declined, "no-idle-wait", f"{place.life.request.reply} waits, and {fit[0].address} is free")
                    break
        must(group.waiting == waiting, "counts", f"{group.waiting} are said to wait for {capability}, {waiting} do")


# A lease is renewed every third of it, and again and again where that fails.
_RENEWED = 0.6


def check_claims(router: Router, now: float, since: float) -> None:
    """Whoever holds a claim lives, and renews it. ``since``: when time stood still last."""
    for claim in router.claims.values():
        holder = claim.holder
        must(holder is None or holder.steps is not None, "nothing-left", f"{claim.key} is held by who has ended")
        if holder is not None and claim.mine and claim.out is None and claim.record is not None:
            old_s = now - max(claim.confirmed_at, since)
            if claim.record.state in ("waiting", "dispatching"):
                must(old_s < claim.record.lease_s * _RENEWED, "lease", f"{claim.key} was renewed {old_s:.3f} s ago")


def check_all(router: Router) -> None:
    """All that holds at any time."""
    check_counts(router)
    check_pools(router)
