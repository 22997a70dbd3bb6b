"""Owns which worker a request goes to: two free offers drawn at random, the one that promises to answer sooner.

Sources: Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing* (2001); the peak-sensitive latency
estimate is Finagle's. Cost does not grow with the fleet. Objectives and prices will narrow the draw here.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

import msgspec

from controller.core.fleet import Offer
from controller.core.matching import mismatch
from controller.core.pools import Group, Pool

# A worker that missed heartbeats may be about to go: it is taken when the other is four times slower.
SUSPECT_FACTOR = 4.0
# Draws before the free list is walked for an offer that this request has not tried yet.
_DRAWS = 8
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
    """One line of the explanation: a score in milliseconds (lower is better), or the reason it was left out."""

    worker_id: str
    version: str
    score_ms: float | None = None
    left_out: str | None = None


def score_ms(offer: Offer, now: float) -> float:
    """Predicted latency in milliseconds, with the work that this controller already gave it."""
    score = offer.expected_ms(now) * (1.0 + offer.in_flight / offer.places)
    return score * SUSPECT_FACTOR if offer.suspect else score


def choose(pool: Pool, tried: Container[str], now: float, chance: Chance) -> Offer | None:
    """A free offer of ``pool`` whose worker is not in ``tried``, or None when there is none.

    Deterministic for the state of ``chance``.
    """
    free = pool.free
    count = len(free)
    if count == 0:
        return None
    if count == 1:
        return free[0] if free[0].worker.id not in tried else None
    random = chance.random
    first: Offer | None = free[int(random() * count)]
    second: Offer | None = free[int(random() * count)]
    if tried:
        first, second = _untried(free, tried, chance), _untried(free, tried, chance)
    if first is None or second is None:
        return None
    if first is second:
        return first
    return first if score_ms(first, now) <= score_ms(second, now) else second


def _untried(free: list[Offer], tried: Container[str], chance: Chance) -> Offer | None:
    for _ in range(_DRAWS):
        offer = free[int(chance.random() * len(free))]
        if offer.worker.id not in tried:
            return offer
    return next((other for other in free if other.worker.id not in tried), None)


def explain(group: Group, pool: Pool, tried: Container[str], now: float) -> tuple[Candidate, ...]:
    """Every offer of the capability with its score or the reason it is left out; the best first, bounded."""
    scored: list[Candidate] = []
    out: list[Candidate] = []
    for offer in group.offers:
        reason = left_out(offer, pool, tried)
        if reason is None:
            scored.append(Candidate(offer.worker.id, offer.spec.version, score_ms=round(score_ms(offer, now), 3)))
        elif len(out) < MAX_CANDIDATES:
            out.append(Candidate(offer.worker.id, offer.spec.version, left_out=reason))
    scored.sort(key=lambda candidate: candidate.score_ms or 0.0)
    return tuple((scored + out)[:MAX_CANDIDATES])


def left_out(offer: Offer, pool: Pool, tried: Container[str]) -> str | None:
    """Why ``offer`` would not be drawn now, or None when it could be."""
    worker = offer.worker
    if offer not in pool.members:
        return mismatch(offer.spec, pool.version, pool.constraints, pool.budget_tokens)
    if not worker.eligible:
        return f"is {worker.state.value}"
    if not offer.reachable:
        return "does not listen on its subject"
    if worker.id in tried:
        return "was tried for this request"
    if offer.paused:
        return "said it is busy"
    return "is full" if offer.full() else None
