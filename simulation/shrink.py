"""Owns cutting a failing plan down to what matters: fewer happenings, plainer requests, fewer processes, no noise.

It takes things out, one chunk and then one thing at a time, and keeps what still breaks the same law. Source: the idea
of Zeller's delta debugging, in the simple form that QuickCheck's lists have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from simulation.plan import Call, Plan, Trouble

T = TypeVar("T")
# What makes a request special, field by field; its number, time and capability stay.
_PLAIN = {
    field.name: field.default
    for field in msgspec.structs.fields(Call)
    if not field.required and field.name != "mishaps"
}


def shrink(plan: Plan, fails: Callable[[Plan], bool], go_on: Callable[[], bool]) -> Plan:
    """The smallest plan found that ``fails``, as ``plan`` does; when ``go_on`` says no, the smallest so far."""

    def try_with(changed: Plan) -> bool:
        return go_on() and fails(changed)

    plan = _last(plan, try_with)
    while True:
        before = plan
        plan = _fewer(plan, "happenings", try_with)
        plan = _plainer(plan, try_with)
        for field in ("workers", "controllers"):
            plan = _fewer(plan, field, try_with)
        if plan.noise and try_with(quieter := replace(plan, noise=False)):
            plan = quieter
        if plan == before:
            return plan


def _last(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """What matters happened last, mostly, and few things are quickly tried; a long plan as a whole is not."""
    size = 8
    while size < len(plan.happenings):
        earlier, last = plan.happenings[:-size], plan.happenings[-size:]
        troubles = (happening for happening in earlier if isinstance(happening, Trouble))
        for happenings in (last, (*troubles, *last)):
            if fails(shorter := replace(plan, happenings=happenings)):
                return shorter
        size *= 2
    return plan


def _fewer(plan: Plan, field: str, fails: Callable[[Plan], bool]) -> Plan:
    """Leave out what can be left out of one of the plan's sequences."""

    def fails_with(items: Sequence[object]) -> bool:
        return fails(replace(plan, **{field: tuple(items)}))

    return replace(plan, **{field: tuple(_least(getattr(plan, field), fails_with))})


def _least(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    size = max(1, len(items) // 2)
    while True:
        at = 0
        while at < len(items):
            rest = [*items[:at], *items[at + size :]]
            if fails(rest):
                items = rest
            else:
                at += size
        if size == 1:
            return items
        size = max(1, size // 2)


def _plainer(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Take away what makes requests special, and what goes wrong with them."""
    happenings: list[Call | Trouble] = list(plan.happenings)

    def fails_with(at: int, call: Call) -> bool:
        return fails(replace(plan, happenings=(*happenings[:at], call, *happenings[at + 1 :])))

    for at, call in enumerate(plan.happenings):
        if isinstance(call, Call):
            happenings[at] = _plain_call(call, partial(fails_with, at))
    return replace(plan, happenings=tuple(happenings))


def _plain_call(call: Call, fails: Callable[[Call], bool]) -> Call:
    for name, default in _PLAIN.items():
        plainer = replace(call, **{name: default})
        if plainer != call and fails(plainer):
            call = plainer
    mishaps = _least(call.mishaps, lambda left: fails(replace(call, mishaps=tuple(left))))
    return replace(call, mishaps=tuple(mishaps))
