"""Owns how well each offer does: which tier it belongs to, when it is demoted, ejected, and tried again.

::

    healthy ──fails or burns──► demoted ──a while without──► healthy
       ▲                           │ again within five minutes, or nearly always
       └────── back-off over ── ejected

A demoted offer stays among the last, for those whom nobody else takes; where all are demoted, none is. An ejected one
gets nothing, for ten seconds and twice as long each time; half of a capability's workers are never ejected. Envoy's
outlier detection names these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
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
# Two thirds of what happened are forgotten after so many seconds, or after so many answers if that is sooner: whoever
# did a thousand requests must not have to fail a hundred before anybody believes it.
MEMORY_S, MEMORY = 30.0, 30.0
# One failure may be chance: it takes two that are not long apart, and this share, or five times what the objective
# allows, if that is more.
FEWEST_BAD, LEAST_SHARE, ALLOWANCES = 1.5, 0.1, 5.0
# With so few failures left in memory it is tried again like any other.
FORGIVEN_BAD = 1.0
# An offer that fails nearly always, so many times, or is demoted again so soon, is shut out.
HOPELESS_BAD, HOPELESS_SHARE, RELAPSE_S = 5.0, 0.9, 300.0
EJECTION_S, LONGEST_EJECTION_S = 10.0, 300.0


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
    offer.good = offer.bad = 0.0
    offer.demoted, offer.demoted_at = False, -INFINITE
    offer.ejections, offer.ejected_until = 0, 0.0


def _can_spare_one(group: Group) -> bool:
    return (group.eligible - 1) * 2 >= len(group.offers)


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
        self._count(offer, 1.0, 0.0, now)
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
            self._count(offer, 1.0, 0.0, now)
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
        self._count(offer, 0.0, 1.0, now)
        share, objective = offer.bad_share, offer.objective
        allowed = objective.budget or 0.0 if objective is not None else 0.0
        if offer.bad < FEWEST_BAD or share < min(0.5, max(LEAST_SHARE, ALLOWANCES * allowed)):
            self._enter(offer, now)
            return
        group = self._registry.groups.get(offer.capability)
        hopeless = offer.bad >= HOPELESS_BAD and share >= HOPELESS_SHARE
        relapsed = not offer.demoted and now - offer.demoted_at < RELAPSE_S
        if not offer.demoted:
            offer.demoted, offer.demoted_at = True, now
        self._enter(offer, now)
        if (hopeless or relapsed) and not offer.ejected_until and group is not None and _can_spare_one(group):
            self._eject(offer, now)
        self.schedule(offer, now)

    def _enter(self, offer: Offer, now: float) -> None:
        place(offer, now)
        if offer.tier != offer.entered:
            self._registry.refresh_offer(offer)

    def _count(self, offer: Offer, good: float, bad: float, now: float) -> None:
        kept = math.exp((offer.judged_at - now) / MEMORY_S)
        if offer.good + offer.bad > MEMORY - 1.0:
            kept = min(kept, (MEMORY - good - bad) / (offer.good + offer.bad))
        offer.good, offer.bad, offer.judged_at = offer.good * kept + good, offer.bad * kept + bad, now

    def _eject(self, offer: Offer, now: float) -> None:
        for_s = min(LONGEST_EJECTION_S, EJECTION_S * 2.0**offer.ejections)
        offer.ejections += 1
        offer.ejected_until = now + for_s
        self._registry.refresh_offer(offer)
        self._tell("ejected", offer, {"for_s": for_s, "failed_pct": round(100 * offer.bad_share, 1)})

    def restore_one(self, pool: Pool, now: float) -> bool:
        """Have one that is ejected back where nobody else is left; whether there was one."""
        for offer in pool.members:
            if offer.ejected_until and offer.worker.eligible and offer.reachable:
                self.restore(offer, now)
                return True
        return False

    def restore(self, offer: Offer, now: float) -> None:
        """Its time is over, or nobody else is left: it begins anew, and what it did is held against it once more."""
        offer.ejected_until = 0.0
        offer.good = offer.bad = 0.0
        offer.demoted, offer.demoted_at = False, now
        self._tell("restored", offer, {})
        self.replace(offer, now)

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
        place(offer, now)
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
        self._count(offer, 0.0, 0.0, now)
        # The timer may be early by the last bit.
        if offer.demoted and offer.bad <= FORGIVEN_BAD * 1.001:
            offer.demoted, offer.demoted_at = False, now
        if now - offer.demoted_at >= RELAPSE_S:
            offer.ejections = 0
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
            due = min(due, now + MEMORY_S * math.log(max(1.0, offer.bad / FORGIVEN_BAD)) + 0.001)
        elif offer.tier == LAST and offer.latency.recent_until > now:
            due = min(due, offer.latency.recent_until)
        if due != INFINITE:
            self._timers.set(Review(offer), due)

    def _tell(self, name: str, offer: Offer, more: dict[str, float]) -> None:
        body = {
            "worker_id": str(offer.worker.id),
            "state": name,
            "capability": offer.capability,
            "controller": self._registry.controller_id,
        }
        self._emit(Publish("worker", name, body | more))
