"""Owns what happens to a request that could be done: it goes to a worker, waits for one, or is turned away at once.

It weighs what is free against what will be, by prediction. When neither meets the objective, the objective's phase and
the request's priority say whether it is late or refused. ``dispatching`` asks; the words of refusals stand elsewhere.
"""

from __future__ import annotations

import msgspec

from controller.core import crowd_refusals, refusals
from controller.core.fleet import INFINITE, LAST, Offer
from controller.core.health import PROVEN
from controller.core.objectives import Objective
from controller.core.pools import Group, Pool
from controller.core.selection import best_effort, choose, explore
from controller.core.world import Life, World
from subjects.errors import Refusal

# A worker that fails often is taken when waiting for the others takes four times as long: the work may come back.
DEMOTED_FACTOR = 4.0
_NOBODY: frozenset[str] = frozenset()
# Whoever waits thinks again after so long, although nobody became free: those it waits for may be gone. The first is
# for one that waits although somebody is free.
RETHINK_S, RECONSIDER_S = 0.05, 1.0


class Queue(msgspec.Struct, frozen=True):
    """Wait, and think again after ``for_s``."""

    for_s: float


IN_LINE = Queue(RECONSIDER_S)
_LONGEST_RETHINK_S = 0.9 * RECONSIDER_S


def admit(life: Life, group: Group, pool: Pool, world: World) -> Offer | Queue | Refusal:
    """What to do with a request now: a worker, the queue, or a refusal."""
    now = world.now
    objective = asked_of(life, group)
    objective_ms = _tighter(life, objective)
    due = _due(life, objective_ms)
    within_ms = (due - now) * 1000
    if pool.free.order:
        # Nobody is overtaken: a worker that is free now is one that nobody who waits can use; ``lives`` sees to that.
        offer = _in_time(life, pool, within_ms, world)
        if offer is not None:
            return offer
    if not pool.eligible and not life.request.headers.dry_run and world.health.restore_one(pool, life.tried or (), now):
        return admit(life, group, pool, world)
    refusal = refusals.nobody(life, group, pool, world)
    if refusal is not None:
        return refusal
    outlook = _outlook(life, group, pool, due, world)
    late, met = outlook.late, True
    if objective_ms is not None:
        # Of the objective alone: who has less patience than that may be too late, and nobody has broken a promise.
        left_ms = (life.arrived_at - now) * 1000 + objective_ms
        met = outlook.waits_in_time(left_ms) or outlook.works_in_time(left_ms)
    if objective is not None:
        shed = _shed(life, group, pool, objective, objective_ms or 0.0, world, met=met)
        if shed is not None:
            return shed
    waits = outlook.waits_in_time(within_ms)
    if late is not None and not (waits and objective_ms is not None):
        # One that fails often is better than to be late for certain.
        perhaps = not waits and outlook.works_in_time(within_ms)
        worth_a_wait = outlook.promising and not perhaps
        if not (worth_a_wait and _sooner(life, outlook.wait_ms, group, late, now)):
            return _late(life, group, late, now)
    if not life.queued_s:
        life.promised_ms = outlook.wait_ms or 0.0
    refusal = _line(life, group, world, outlook.wait_ms)
    if refusal is not None:
        return refusal
    if late is None:
        return _in_line(life, objective, world, due - outlook.tail_ms / 1000)
    # The first in line soonest: a thousand who wait must not all think again and again.
    return Queue(min(_LONGEST_RETHINK_S, RETHINK_S * (1 + pool.ahead(life.rank, due))))


class Outlook(msgspec.Struct, frozen=True):
    """What is to be expected, in milliseconds, where nobody is free who would surely be in time."""

    late: Offer | None
    """The best who is free all the same."""
    late_ms: float
    """What its slowest answers take; endless where it is too slow for the objective."""
    wait_ms: float | None
    """How long until one is free who is sound and quick enough; None while nothing is known of the work."""
    tail_ms: float
    """What the slowest answers of those take."""
    promising: bool
    """Whether there are such, all of them busy."""

    def waits_in_time(self, within_ms: float) -> bool:
        """Whether waiting will do; while nothing is known of the work it is as good as anything."""
        if self.wait_ms is None:
            return self.late is None
        return self.promising and self.wait_ms + self.tail_ms <= within_ms

    def works_in_time(self, within_ms: float) -> bool:
        """Whether who is free may do: one that fails often, or one that is quick enough for the capability's objective.

        That it fails often is better than a refusal, which fails always.
        """
        return self.late_ms <= within_ms


def _outlook(life: Life, group: Group, pool: Pool, due: float, world: World) -> Outlook:
    free, now = pool.free, world.now
    late = best_effort(pool, life.tried or _NOBODY, now, world.chance) if free.order else None
    return Outlook(
        late,
        late.latency.slowest_ms(now) if late is not None and late.entered < LAST else INFINITE,
        _wait_ms(life, group, pool, due),
        group.service.tail_ms,
        pool.quick_places > 0 and not (free.order and free.order[0] < pool.bar),
    )


def _in_line(life: Life, objective: Objective | None, world: World, latest: float) -> Queue:
    """Wait; where an objective is enforced until ``latest``, when whoever was overtaken is told that it is too late."""
    request = life.request
    if objective is None or request.headers.priority == "high" or not objective.enforced(request.caller, world.wall_s):
        return IN_LINE
    return Queue(min(RECONSIDER_S, max(RETHINK_S, latest - world.now)))


def _line(life: Life, group: Group, world: World, wait_ms: float | None) -> Refusal | None:
    """Why it must not wait, if so: nobody waits in vain."""
    if life.request.headers.dry_run:
        return crowd_refusals.would_wait(group)
    if group.waiting >= world.limits.queue_limit:
        last = group.last_in_line()
        if last is None or last.rank <= life.rank:
            return crowd_refusals.queue_full(group)
    if wait_ms is not None:
        takes_ms, left_ms = wait_ms + group.service.mean_ms, (life.deadline - world.now) * 1000
        if takes_ms > left_ms:
            return crowd_refusals.no_time(group, takes_ms, left_ms)
    return None


def _in_time(life: Life, pool: Pool, within_ms: float, world: World) -> Offer | None:
    """Somebody who is free and expected to be in time; now and then somebody who has to show that."""
    tried = life.tried or _NOBODY
    offer = None
    if life.request.headers.priority != "high" and not world.burning(life.request.capability):
        offer = explore(pool, (life.deadline - world.now) * 1000, tried, world.chance)
    return offer or choose(pool, within_ms, tried, world.now, world.chance)


def due_at(life: Life, group: Group) -> float:
    """When a request has to be answered: by its deadline, its own objective or its capability's, whichever is first."""
    return _due(life, objective_of(life, group))


def _due(life: Life, objective_ms: float | None) -> float:
    return life.deadline if objective_ms is None else min(life.deadline, life.arrived_at + objective_ms / 1000)


def asked_of(life: Life, group: Group) -> Objective | None:
    """The objective that holds for this request: of its capability, where that speaks of the versions that it allows.

    Nobody waits for a job, which is done however long it takes.
    """
    objective, headers = group.objective, life.request.headers
    if objective is None or life.delivery:
        return None
    if objective.version is None:
        return objective
    newest = group.pool(headers.version, headers.constraints, headers.budget_tokens).newest()
    return objective if newest is None or objective.speaks_of(newest.spec.version) else None


def objective_of(life: Life, group: Group) -> float | None:
    """How long it may take, in milliseconds: its own objective or its capability's, whichever is tighter."""
    return _tighter(life, asked_of(life, group))


def _tighter(life: Life, objective: Objective | None) -> float | None:
    own = life.request.headers.latency_ms
    asked = objective.target_ms if objective is not None else None
    return asked if own is None else own if asked is None else min(own, asked)


def _wait_ms(life: Life, group: Group, pool: Pool, due: float) -> float | None:
    """How long until a place is free for it, behind those who are more urgent; None while nothing is known."""
    places = pool.quick_places or pool.places
    if group.service.answers < PROVEN or not places:
        return None
    return (group.ahead(pool, life.rank, due) + 1) * group.service.mean_ms / places


def _sooner(life: Life, wait_ms: float | None, group: Group, late: Offer, now: float) -> bool:
    """Whether those who are busy will have answered before ``late``, who is free, would."""
    if wait_ms is None:
        return False
    expected_ms = late.latency.expected_ms(now)
    # What takes longer than predicted may take as long again: somebody hangs.
    wait_ms = max(wait_ms, life.queued_s * 1000 - life.promised_ms)
    return wait_ms + group.service.mean_ms < (DEMOTED_FACTOR * expected_ms if late.demoted else expected_ms)


def _late(life: Life, group: Group, offer: Offer, now: float) -> Offer | Refusal:
    """A worker although it will be late, unless what has waited cannot be done in its time at all any more."""
    takes_ms, left_ms = offer.latency.mean_ms, (life.deadline - now) * 1000
    if life.queued_s and offer.latency.answers >= PROVEN and takes_ms > left_ms:
        return crowd_refusals.no_time(group, takes_ms, left_ms)
    return offer


def _shed(
    life: Life, group: Group, pool: Pool, objective: Objective, objective_ms: float, world: World, *, met: bool
) -> Refusal | None:
    """Refuse what cannot meet the objective, where that is enforced; where it is not yet, note it.

    The urgent are done late rather than never. While the objective burns, the least urgent do not even wait.
    """
    priority = life.request.headers.priority
    if priority == "high":
        return None
    if met and not (priority == "low" and world.burning(group.capability)):
        return None
    kind = crowd_refusals.kind_of_shed(group, pool, objective_ms, burning=met)
    life.would = kind.suffix
    if not objective.enforced(life.request.caller, world.wall_s):
        return None
    life.yields = met
    return crowd_refusals.shed(kind, life, group, pool, objective_ms, burning=met)
