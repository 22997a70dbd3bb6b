"""Owns how well each offer does: which tier it belongs to, when it is demoted, ejected, and tried again.

::

    healthy ──fails too often──► demoted ──back-off over──► healthy
       ▲                            │ goes on failing
       └───── back-off over ───── ejected

A demoted offer stays among the last, for those whom nobody else takes; where all are demoted, none is. An ejected one
gets nothing. Each back-off is twice as long as the one before; half of a capability's workers are never ejected. The
names are those of Envoy's outlier detection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Hashable
from typing import TYPE_CHECKING

import msgspec

from controller.core import pricing
from controller.core.commands import Command, Publish
from controller.core.fleet import FAILING, INFINITE, LAST, UNPROVEN, Offer, Worker
from controller.core.latency import P95_DEVIATIONS
from controller.core.objectives import Objective
from controller.core.pools import Group, Pool
from controller.core.timers import Timers
from subjects.answers import Fault
from subjects.manifests import Bid

if TYPE_CHECKING:
    from controller.core.registry import Registry

# Answers after which an offer is known: fewer say nothing of its slowest ones.
PROVEN = 5
# Each failure strains, each answer relieves by one: a cumulative sum (Page 1954), which tells that a larger share fails
# as soon as can be told without crying wolf. Of a worker that fails less than this share, or five times what its
# objective allows if that is more, the strain does not grow. The limit is what two and a half failures count, so three
# that are close together: six answers on average, and nearly always fewer than twenty, of a worker that fails half its
# work; and 60,000 of one that fails one in a hundred.
TOLERATED, ALLOWANCES, LIMIT = 1 / 7, 5.0, 2.5
# Two thirds of the strain are forgotten after so many seconds: what is long ago says little.
MEMORY_S = 300.0
# A demoted offer is tried like any other after so long, and after twice as long each time that it lapses so soon.
DEMOTION_S, RELAPSE_S = 30.0, 300.0
# One that goes on failing until its strain is so many times the limit is shut out.
HOPELESS = 2.5
EJECTION_S, LONGEST_S = 10.0, 300.0
# What is due much later is looked at again meanwhile: nothing keeps an offer that is gone for longer.
_NEXT_LOOK_S = 3600.0


class Review(msgspec.Struct, frozen=True):
    """Look at an offer again when its time has come."""

    offer: Offer

    def __hash__(self) -> int:
        return id(self.offer)


def judge(offer: Offer, objective: Objective | None, now: float) -> None:
    """Say what is asked of ``offer`` from now on, and where that puts it."""
    offer.objective = objective if objective is not None and objective.speaks_of(offer.spec.version) else None
    place(offer, now)


def place(offer: Offer, now: float) -> None:
    """Say which tier ``offer`` belongs to at ``now``."""
    objective = offer.objective
    asked = objective is not None and objective.target_ms is not None
    if objective is not None and asked and not _meets(offer, objective, now):
        offer.tier = LAST
    elif offer.demoted:
        offer.tier = FAILING
    else:
        offer.tier = UNPROVEN if asked and offer.latency.answers < PROVEN else offer.rank


def _meets(offer: Offer, asked: Objective, now: float) -> bool:
    """Whether it is expected to keep every bound on latency, each for the share of requests that it speaks of."""
    known = offer.latency
    if (target_ms := asked.p99_ms) and known.slowest_ms(now) > target_ms:
        return False
    if (target_ms := asked.p95_ms) and known.mean_ms + P95_DEVIATIONS * known.dev_ms > target_ms:
        return False
    return not asked.p50_ms or known.mean_ms <= asked.p50_ms


def forgive(offer: Offer) -> None:
    """Hold nothing against it any more: another process serves it."""
    offer.strain = 0.0
    offer.demoted, offer.demoted_until = False, -INFINITE
    offer.lapses = offer.ejections = 0
    offer.ejected_until = 0.0


def _strain_of_one(offer: Offer) -> float:
    """What one failure counts: as much as the answers that make up for it where the tolerated share fails."""
    allowed = offer.objective.budget or 0.0 if offer.objective is not None else 0.0
    tolerated = min(0.5, max(TOLERATED, ALLOWANCES * allowed))
    return (1.0 - tolerated) / tolerated


def _longer(for_s: float, times: int) -> float:
    """Twice as long each time, up to a limit."""
    return min(LONGEST_S, for_s * 2.0 ** min(times, 30))


def _can_spare(group: Group, offer: Offer) -> bool:
    """Whether half are left, somebody in every pool, and one who is sound: what all suffer says nothing about any."""
    enough = (group.eligible - 1) * 2 >= len(group.offers)
    enough = enough and all(pool.eligible > 1 for pool in group.pools.values() if offer in pool.members)
    return enough and any(each is not offer and each.eligible and not each.demoted for each in group.offers)


class Health:
    """The health of one controller's offers. ``freed`` is told of those that may be drawn again."""

    def __init__(
        self,
        timers: Timers[Hashable],
        emit: Callable[[Command], None],
        registry: Registry,
        freed: Callable[[list[Offer]], None],
    ) -> None:
        self._timers = timers
        self._emit = emit
        self._registry = registry
        self._freed = freed

    def answered(self, offer: Offer, took_ms: float, now: float) -> None:
        """It answered."""
        if offer.tier == LAST:
            offer.latency.forget(PROVEN)  # it is tried seldom, and fifty trials would take hours
        offer.latency.observe(took_ms, now)
        self._strain(offer, -1.0, now)
        was = offer.tier
        self._enter(offer, now)
        if offer.tier != LAST:
            group = self._registry.groups.get(offer.capability)
            if group is not None:
                group.service.observe(took_ms, now)
        elif was != LAST:
            self.schedule(offer, now)

    def faulted(self, offer: Offer, fault: Fault, took_ms: float, now: float) -> None:
        """It reported an error; one that is the caller's is no failure."""
        if fault.code >= 500:
            self.failed(offer, took_ms, now)
        else:
            offer.latency.observe_failure(took_ms, now)
            self._strain(offer, -1.0, now)
            self._enter(offer, now)

    def timed_out(self, offer: Offer, took_ms: float, now: float, *, own: bool) -> None:
        """It took longer than its caller waits, or than it says that it ever takes (``own``)."""
        # What takes longer than usual failed; a caller that waits for less than that has no claim against the worker.
        if own or took_ms > offer.latency.slowest_ms(now):
            self.failed(offer, took_ms, now)
        else:
            offer.latency.observe(took_ms, now)
            self._enter(offer, now)

    def failed(self, offer: Offer, took_ms: float, now: float) -> None:
        """Its work failed, was lost or came too late."""
        offer.latency.observe_failure(took_ms, now)
        failure = _strain_of_one(offer)
        self._strain(offer, failure, now)
        limit = LIMIT * failure
        if offer.strain < limit:
            self._enter(offer, now)
            return
        if not offer.demoted:
            self._demote(offer, now)
        self._enter(offer, now)
        group = self._registry.groups.get(offer.capability)
        hopeless = offer.strain >= HOPELESS * limit
        if hopeless and not offer.ejected_until and group is not None and _can_spare(group, offer):
            self._eject(offer, now)
        self.schedule(offer, now)

    def _enter(self, offer: Offer, now: float) -> None:
        place(offer, now)
        if offer.tier != offer.entered:
            self._registry.refresh_offer(offer)

    def _strain(self, offer: Offer, by: float, now: float) -> None:
        if offer.strain or by > 0:
            kept = offer.strain * math.exp((offer.strained_at - now) / MEMORY_S)
            offer.strain, offer.strained_at = max(0.0, kept + by), now

    def _demote(self, offer: Offer, now: float) -> None:
        if now - offer.demoted_until < RELAPSE_S:
            offer.lapses += 1
        else:
            offer.lapses = offer.ejections = 0
        offer.demoted, offer.demoted_until = True, now + _longer(DEMOTION_S, offer.lapses)

    def _eject(self, offer: Offer, now: float) -> None:
        for_s = _longer(EJECTION_S, offer.ejections)
        offer.ejections += 1
        offer.ejected_until = now + for_s
        self._registry.refresh_offer(offer)
        self._tell("ejected", offer, {"for_s": for_s})

    def restore_one(self, pool: Pool, tried: Container[str], now: float) -> bool:
        """Have one that is ejected back where nobody else is left; whether there was one."""
        for offer in pool.members:
            if offer.ejected_until and offer.worker.eligible and offer.reachable and offer.worker.id not in tried:
                self.restore(offer, now)
                return True
        return False

    def restore(self, offer: Offer, now: float) -> None:
        """Its time is over, or nobody else is left: it begins anew, and what it did is held against it once more."""
        offer.ejected_until = 0.0
        self._forgive(offer, now)
        self._tell("restored", offer, {})
        self.replace(offer, now)

    def _forgive(self, offer: Offer, now: float) -> None:
        offer.demoted, offer.demoted_until, offer.strain = False, now, 0.0

    def renew_bids(self, worker: Worker, bids: dict[str, float | Bid], now: float) -> None:
        """It bids anew for some of its capabilities; the bids for the others go on."""
        for offer in worker.offers:
            bid = bids.get(offer.capability)
            if bid is None:
                continue
            if isinstance(bid, Bid) and bid == offer.bid:
                offer.bid_ends = pricing.ends(bid, now)  # the same terms for longer
            elif bid != offer.bid:
                self._reprice(offer, bid, now)

    def _reprice(self, offer: Offer, bid: float | Bid | None, now: float) -> None:
        """Have another bid hold. Who could not afford it may now, and the other way round."""
        group = self._registry.groups[offer.capability]
        group.discard(offer)
        pricing.take_bid(offer, bid, now)
        group.add(offer)
        self.replace(offer, now)

    def review(self, offer: Offer, now: float) -> None:
        """Some of what was held against it may be old by now, or its bid over."""
        if self._registry.workers.get(offer.worker.id) is not offer.worker or offer not in offer.worker.offers:
            return
        if now >= offer.bid_ends:
            self._reprice(offer, pricing.declared_bid(offer), now)
        if offer.ejected_until:
            if now >= offer.ejected_until:
                self.restore(offer, now)
            else:
                self.schedule(offer, now)
            return
        if offer.demoted and now >= offer.demoted_until:
            self._forgive(offer, now)
        self.replace(offer, now)

    def replace(self, offer: Offer, now: float) -> None:
        """Put it where it belongs by now; whoever waits thinks again."""
        place(offer, now)
        self.schedule(offer, now)
        if self._registry.refresh_offer(offer) or offer.free:
            self._freed([offer])

    def schedule(self, offer: Offer, now: float) -> None:
        """Have it looked at when something about it ends."""
        due = offer.bid_ends
        if offer.ejected_until:
            due = min(due, offer.ejected_until)
        elif offer.demoted:
            due = min(due, offer.demoted_until)
        elif offer.tier == LAST and offer.latency.recent_until > now:
            due = min(due, offer.latency.recent_until)
        if due != INFINITE:
            self._timers.set(Review(offer), min(due, now + _NEXT_LOOK_S))

    def _tell(self, name: str, offer: Offer, more: dict[str, float]) -> None:
        body = {
            "worker_id": str(offer.worker.id),
            "state": name,
            "capability": offer.capability,
            "controller": self._registry.controller_id,
        }
        self._emit(Publish("worker", name, body | more))
