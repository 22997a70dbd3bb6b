"""Owns which worker a request goes to: the cheapest that is expected to answer in time, and of equals the less loaded.

Sources: Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing* (2001); the peak-sensitive latency
estimate is Finagle's. Cost does not grow with the fleet. Whether to wait or to refuse instead is ``admission``'s.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from typing import Protocol

import msgspec

from controller.core.fleet import INFINITE, LAST, UNPROVEN, Offer
from controller.core.matching import mismatch
from controller.core.pools import Group, Pool

# A worker that missed heartbeats may be about to go: it is taken when the other is four times slower.
SUSPECT_FACTOR = 4.0
# When neither of two that are drawn fits, all are looked at where they are few, or where some were tried already; else
# so many of all prices together, from a random one on.
_FEW, _WALK = 64, 32
# Of each price, and so many prices, when nobody is expected to be in time.
_SOME = 2
# Prices that are looked at: a fleet of ten thousand prices must not cost more than one of ten.
_PRICES = 32
# Scores so close are equal: the estimates are no better, and a worker's preference then decides.
TIE = 0.1
# The share of requests that go to a worker which has not shown yet what it can do, and to one that was too slow: the
# second is far below the one in a hundred that the objective speaks of.
UNPROVEN_SHARE, SLOW_SHARE = 0.05, 0.002
# A record that lists ten thousand candidates helps nobody.
MAX_CANDIDATES = 50


class Chance(Protocol):
    """The dice: a seeded ``random.Random``, passed in so that a run can be repeated."""

    def random(self) -> float:
        """Draw from [0, 1)."""
        ...

    def randbytes(self, n: int, /) -> bytes:
        """Draw ``n`` bytes."""
        ...


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the explanation: a score in milliseconds (lower is better), or the reason it was left out.

    ``expected_ms`` is what its slowest answers take, ``price_tokens`` what it costs.
    """

    worker_id: str
    version: str
    score_ms: float | None = None
    left_out: str | None = None
    expected_ms: float | None = None
    price_tokens: float = 0.0


def score_ms(offer: Offer, now: float) -> float:
    """Predicted latency in milliseconds, with the work that this controller already gave it."""
    asked = offer.objective
    # One peak sets nobody back whom an objective judges anyway: else equals would not share the work evenly.
    steady = asked is not None and asked.target_ms is not None and offer.tier < LAST
    usual_ms = offer.latency.mean_ms if steady else offer.latency.expected_ms(now)
    score = usual_ms * (1.0 + offer.in_flight / offer.places)
    return score * SUSPECT_FACTOR if offer.suspect else score


def choose(pool: Pool, within_ms: float, tried: Collection[str], now: float, chance: Chance) -> Offer | None:
    """The cheapest free offer of ``pool`` expected to answer within ``within_ms``, not of a worker in ``tried``.

    None when there is none. Deterministic for the state of ``chance``, whatever the order in which workers came.
    """
    free, bar = pool.free, pool.bar
    order = free.order if len(free.order) <= _PRICES else _some_prices(free.order, chance)
    walk = max(0, _WALK - 2 * len(order)) // len(order) if order else 0
    for tier in order:
        if tier >= bar:
            break
        offer = _draw(free.at(tier), walk, within_ms, tried, now, chance)
        if offer is not None:
            return offer
    return None


def _some_prices(order: list[float], chance: Chance) -> list[float]:
    """The lowest of many prices, and some of the others: whoever is quick enough may be dear."""
    half = _PRICES // 2
    rest = len(order) - half
    return order[:half] + [order[at] for at in sorted({half + int(chance.random() * rest) for _ in range(half)})]


def explore(pool: Pool, left_ms: float, tried: Container[str], chance: Chance) -> Offer | None:
    """Now and then, a free offer that has to show what it can do, or that it can do better by now.

    The objective may be missed for it, which is why it is seldom; the caller's deadline, ``left_ms`` away, may not.
    """
    order = pool.free.order
    if not order or order[-1] < UNPROVEN or order[0] >= UNPROVEN:
        return None  # nobody to try, or nobody else anyway
    drawn = chance.random()
    if drawn >= UNPROVEN_SHARE:
        return None
    offers = pool.free.at(UNPROVEN)
    if not offers and drawn < SLOW_SHARE:
        offers = pool.free.at(LAST)
    if not offers:
        return None
    offer = offers[int(chance.random() * len(offers))]
    # One at a time, and nobody's last chance; what fails is forgiven by and by, and needs no trial.
    fit = not offer.in_flight and not offer.demoted and offer.worker.id not in tried
    return offer if fit and 2.0 * offer.latency.mean_ms < left_ms else None


def best_effort(pool: Pool, tried: Collection[str], now: float, chance: Chance) -> Offer | None:
    """With nobody who is expected to answer in time: the quickest of some that are free, sound ones first."""
    order = pool.free.order
    tiers = order if len(order) <= 2 * _SOME else order[:_SOME] + order[-_SOME:]
    best, least = None, (True, INFINITE)
    for tier in tiers:
        for offer in _some(pool.free.at(tier), chance):
            if not (tried and offer.worker.id in tried):
                score = (offer.demoted, score_ms(offer, now))
                if best is None or score < least:
                    best, least = offer, score
    return best or next((offer for offer in pool.free if offer.worker.id not in tried), None)


def _some(offers: list[Offer], chance: Chance) -> list[Offer]:
    """A few of many, or all of a few."""
    count = len(offers)
    if count <= _SOME:
        return offers
    first = int(chance.random() * count)
    return [offers[(first + step) % count] for step in range(_SOME)]


def _draw(
    offers: list[Offer], walk: int, within_ms: float, tried: Collection[str], now: float, chance: Chance
) -> Offer | None:
    count = len(offers)
    if count > 1:
        random = chance.random
        first = offers[int(random() * count)]
        second = offers[int(random() * count)]
        fits = _fits(first, within_ms, tried, now)
        if first is second:
            if fits:
                return first
        elif _fits(second, within_ms, tried, now):
            return _better(first, second, now) if fits else second
        elif fits:
            return first
        start = int(random() * count)
    else:
        start = 0
    for step in range(min(count, _FEW) if count <= _FEW or tried else min(count, walk)):
        offer = offers[(start + step) % count]
        if _fits(offer, within_ms, tried, now):
            return offer
    return None


def _fits(offer: Offer, within_ms: float, tried: Collection[str], now: float) -> bool:
    return offer.latency.slowest_ms(now) <= within_ms and not (tried and offer.worker.id in tried)


def _better(first: Offer, second: Offer, now: float) -> Offer:
    one, other = score_ms(first, now), score_ms(second, now)
    if first.affine is not second.affine and abs(one - other) <= TIE * max(one, other):
        return first if first.affine else second
    return first if one <= other else second


def explain(group: Group, pool: Pool, tried: Container[str], now: float, within_ms: float) -> tuple[Candidate, ...]:
    """Every offer of the capability with its score or the reason it is left out; the first choice first, bounded."""
    scored: list[tuple[tuple[bool, float, float], Candidate]] = []
    out: list[Candidate] = []
    for offer in group.offers:
        reason = left_out(offer, pool, tried)
        version, expected_ms = offer.spec.version, round(offer.latency.slowest_ms(now), 3)
        if reason is None:
            score = round(score_ms(offer, now), 3)
            candidate = Candidate(offer.worker.id, version, score, None, expected_ms, offer.price)
            scored.append(((expected_ms > within_ms, offer.entered, score), candidate))
        elif len(out) < MAX_CANDIDATES:
            out.append(Candidate(offer.worker.id, version, None, reason, expected_ms, offer.price))
    scored.sort(key=lambda each: each[0])
    return tuple(([candidate for _, candidate in scored] + out)[:MAX_CANDIDATES])


def left_out(offer: Offer, pool: Pool, tried: Container[str]) -> str | None:
    """Why ``offer`` would not be drawn now, or None when it could be."""
    worker = offer.worker
    if offer not in pool.members:
        unfit = mismatch(offer.spec, pool.version, pool.constraints)
        return unfit or f"costs {offer.price:g} tokens, more than may be spent"
    if not worker.eligible:
        return f"is {worker.state.value}"
    if not offer.reachable:
        return "does not listen on its subject"
    if offer.ejected_until:
        return "is ejected for a while: its work failed again and again"
    if worker.id in tried:
        return "was tried for this request"
    if offer.paused:
        return "said it is busy"
    return "is full" if offer.full() else None
