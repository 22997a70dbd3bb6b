"""Owns the words to those who are turned away because there is too much to do, or nobody who does it soon enough."""

from __future__ import annotations

from itertools import islice

from controller.core.objectives import Rate
from controller.core.pools import Group, Pool
from controller.core.refusals import BUSY_RETRY_AFTER_MS, RETRY_AFTER_MS, left_out_of
from controller.core.world import Life
from subjects.errors import ErrorKind, Refusal

# Whoever comes again at the same moment as everybody else is turned away again.
_MOST_RETRY_AFTER_MS = 30_000
# Of ten thousand workers so many are looked at for what would have done: a refusal must not cost more than an answer.
_LOOKED_AT = 100


def rate_limited(caller: str, rate: Rate, wait_s: float) -> Refusal:
    """429."""
    given = f"{caller} may ask {rate.per_s:g} times a second, and {rate.burst:g} times at once"
    detail = f"{given}, which is used up; wait {wait_s:.1f} s, or ask the operator for more."
    return Refusal(ErrorKind.RATE_LIMITED, detail, retry_after_ms=max(1, round(wait_s * 1000)))


def queue_full(group: Group) -> Refusal:
    """503: nobody who is less urgent can make room."""
    detail = f"The queue of {group.capability} is full ({group.waiting} requests wait); slow down, or add workers."
    return Refusal(ErrorKind.OVERLOADED, detail, retry_after_ms=BUSY_RETRY_AFTER_MS)


def made_room(group: Group) -> Refusal:
    """503 to one that waited."""
    detail = (
        f"The queue of {group.capability} is full, and a more urgent request took this one's place; try again later."
    )
    return Refusal(ErrorKind.OVERLOADED, detail, retry_after_ms=BUSY_RETRY_AFTER_MS)


def would_wait(group: Group) -> Refusal:
    """503 to a dry run."""
    detail = f"Every worker of {group.capability} is busy: the request would wait."
    return Refusal(ErrorKind.OVERLOADED, detail, retry_after_ms=BUSY_RETRY_AFTER_MS)


def no_time(group: Group, takes_ms: float, left_ms: float) -> Refusal:
    """503 at once: it would wait in vain."""
    detail = (
        f"{group.capability} would take about {takes_ms:.0f} ms now, and {max(0.0, left_ms):.0f} ms are left "
        f"({group.waiting} requests wait). Nothing ran. Send a larger Crank-Timeout-Ms, slow down, or add workers."
    )
    return Refusal(ErrorKind.OVERLOADED, detail, retry_after_ms=_later(takes_ms - left_ms))


def kind_of_shed(group: Group, pool: Pool, objective_ms: float, *, burning: bool) -> ErrorKind:
    """What a request is refused with where the objective is enforced and nobody meets it: 402, 412 or 503."""
    if burning:
        return ErrorKind.OVERLOADED
    too_dear = not pool.quick_places and pool.budget_tokens is not None
    if too_dear and group.pool(pool.version, pool.constraints).quick_places:
        return ErrorKind.OVER_BUDGET
    if not pool.quick_places or group.service.mean_ms > objective_ms:
        return ErrorKind.NO_MATCH
    return ErrorKind.OVERLOADED


def shed(kind: ErrorKind, life: Life, group: Group, pool: Pool, objective_ms: float, *, burning: bool) -> Refusal:
    """The same in words: names what would meet it."""
    asked = f"an answer within {objective_ms:g} ms"
    if burning:
        detail = (
            f"The objective of {group.capability} is burning, and requests of low priority make room. Try again later, "
            "or send a higher Crank-Priority."
        )
        return Refusal(kind, detail, retry_after_ms=RETRY_AFTER_MS)
    if kind is ErrorKind.OVER_BUDGET:
        members = islice(group.pool(pool.version, pool.constraints).members, _LOOKED_AT)
        best = min((offer.price for offer in members if offer.quick), default=None)
        named = f"; the best offer is {best:g}" if best is not None else ""
        detail = (
            f"No worker of {group.capability} gives {asked} for {life.request.headers.budget_tokens:g} tokens{named}. "
            "Raise Crank-Budget-Tokens, or leave it out."
        )
        return Refusal(kind, detail, candidates=left_out_of(group, pool, life))
    if kind is ErrorKind.NO_MATCH:
        members = islice(pool.members, _LOOKED_AT)
        quickest = min((offer.latency.mean_ms for offer in members if offer.eligible), default=0.0)
        own = life.request.headers.latency_ms == objective_ms
        then = "Send a larger Crank-Latency-Ms, or leave it out." if own else "Tell the operator, who asks that of it."
        what = f"No worker of {group.capability} that fits gives {asked}; the quickest takes about {quickest:.0f} ms."
        return Refusal(kind, f"{what} {then}")
    detail = (
        f"{group.capability} is too busy for {asked} ({group.waiting} requests wait). Nothing ran. "
        "Try again later, or send Crank-Priority: high."
    )
    return Refusal(kind, detail, retry_after_ms=_later(group.service.mean_ms * (group.waiting + 1)))


def _later(ms: float) -> int:
    return min(_MOST_RETRY_AFTER_MS, max(BUSY_RETRY_AFTER_MS, round(ms)))
