"""Owns why a service cannot be adopted, told to who typed its name: what there is instead, and what was meant.

``crank.adopting.adoption`` asks once, at the start; what becomes of a service later is no mistake of anybody's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from crank.adopting.described import Info
from crank.adopting.plans import Wishes

MAX_LINES = 20


class CannotAdopt(Exception):
    """There is nothing that could be offered; the message says why, and what there is instead."""


def no_such_service(service: str, others: list[str]) -> CannotAdopt:
    """Nobody answers to the name."""
    if not others:
        elsewhere = "is it at another NATS server, or may this user not publish on $SRV.>?"
        return CannotAdopt(f"no service {service!r} answers, nor does any other; {elsewhere}")
    return CannotAdopt(f"no service {service!r} answers; {_instead(service, others)}")


def check_names(service: str, instances: Iterable[Info], wishes: Wishes) -> None:
    """Raise ``CannotAdopt`` for a wish that is about no endpoint."""
    names = {name for info in instances for e in info.endpoints or () for name in (e.name, e.subject)}
    for name in sorted({*wishes.names, *wishes.only} - names):
        raise CannotAdopt(f"{service} has no endpoint {name!r}; {_instead(name, names)}")


def nothing_to_offer(service: str, remarks: Iterable[str]) -> CannotAdopt:
    """It is there, and nothing of it can be a capability."""
    why = "".join(f"\n  {remark}" for remark in list(remarks)[:MAX_LINES])
    return CannotAdopt(f"{service} has no endpoint that could be offered{why}")


def _instead(name: str, there: Iterable[str]) -> str:
    known = sorted(there)
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(known[:MAX_LINES])}" + (" and others" if len(known) > MAX_LINES else "")
