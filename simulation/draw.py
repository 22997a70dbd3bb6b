"""Owns how a plan is drawn from a seed: how many, how often, how bad. The figures are tastes, and stand here together.

They are chosen so that most requests go well, queues fill now and then, and about two workers are always in trouble.
"""

from __future__ import annotations

from msgspec.structs import replace

from simulation.dice import Dice
from simulation.plan import MISHAPS, PROMISES, Ask, Call, Hop, Mishap, Plan, Trouble, Whom
from subjects.tokens import CapabilityId

# What share of requests has a key, or is about a job; what share of keys was used before, and stands for a job.
_KEYED, _ABOUT, _REPEATED, _SUBMITS = 0.15, 0.03, 0.6, 0.3
# A controller freezes just before it sends so many of those with a key.
_FROZEN = 0.004
# Requests a second, for a while each: calm, everyday, busy, a rush.
_RATES = (3.0, 10.0, 30.0, 30.0, 60.0, 60.0, 300.0)
_A_WHILE_S = 1.5
_CAPABILITIES = (*PROMISES, CapabilityId("run:pure"), CapabilityId("run:once"))
_HOPS: tuple[Hop, ...] = ("request", "verdict", "dispatch", "work", "work", "work", "work", "answer", "answer", "reply")

# By whom it happens to: seconds between two of them, and for each kind how long it lasts.
_TROUBLES: dict[Whom, tuple[float, tuple[tuple[str, float, float], ...]]] = {
    "worker": (
        3.0,
        (
            ("kill", 0.01, 1.0),
            ("kill", 1.0, 15.0),
            ("drain", 0.1, 5.0),
            ("freeze", 0.2, 10.0),
            ("hang", 0.5, 10.0),
            ("slow", 1.0, 10.0),
            ("cut", 0.5, 8.0),
        ),
    ),
    "controller": (
        8.0,
        (
            *(("kill", 0.1, 6.0), ("stop", 0.1, 3.0), ("freeze", 0.3, 1.5), ("freeze", 1.0, 9.0), ("cut", 0.3, 6.0)),
            *(("fast", 5.0, 30.0), ("slow", 5.0, 30.0), ("jump", 0.1, 10.0)),
        ),
    ),
    "registry": (20.0, (("away", 0.5, 5.0), ("away", 0.5, 5.0), ("replaced", 0.5, 3.0))),
    "claims": (
        25.0,
        (
            *(("away", 0.2, 2.0), ("away", 1.0, 12.0), ("full", 0.5, 5.0), ("filling", 1.0, 5.0)),
            *(("away", 0.2, 2.0), ("away", 1.0, 12.0), ("full", 0.5, 5.0), ("replaced", 0.1, 0.1)),
        ),
    ),
    "jobs": (30.0, (("away", 0.5, 8.0),)),
    "operator": (6.0, (("settle", 0.1, 0.1), ("release", 0.1, 0.1), ("retry", 0.1, 0.1), ("drop", 0.1, 0.1))),
}
# One killed worker in so many never comes back.
_FOR_EVER = 0.05


def draw_plan(seed: int, requests: int) -> Plan:
    """The plan of a seed. Any number of requests begins with the same fleet, and with the same requests."""
    fleet = Dice(seed, 1)
    controllers = tuple(range(1, 2 + int(fleet.random() * 4)))
    workers = tuple(range(1, 4 + int(fleet.random() * 8)))
    calls = _draw_calls(Dice(seed, 2), requests)
    until = calls[-1].at if calls else 0.0
    numbers: dict[Whom, tuple[int, ...]] = {"worker": workers, "controller": controllers}
    troubles = [
        trouble
        for place, whom in enumerate(_TROUBLES)
        for trouble in _draw_troubles(Dice(seed, 3, place), whom, numbers.get(whom, (0,)), until)
    ]
    happenings: list[Call | Trouble] = [*calls, *troubles]
    happenings.sort(key=lambda happening: happening.at)
    return Plan(seed, controllers, workers, True, tuple(happenings))


def _draw_calls(dice: Dice, requests: int) -> list[Call]:
    calls: list[Call] = []
    keyed: list[Call] = []
    submits: list[Call] = []
    at, changes_at, rate = 1.0, 0.0, 1.0
    for number in range(1, requests + 1):
        if at >= changes_at:
            rate, changes_at = dice.choice(_RATES), at + dice.between(0.5, 1.5) * _A_WHILE_S
        at += dice.spread(1.0 / rate)
        call = _draw_call(dice, number, round(at, 5))
        special = dice.random()
        if special < _KEYED:
            call = _with_key(dice, call, keyed)
            keyed.append(call)
            if call.action == "submit":
                submits.append(call)
        elif special < _KEYED + _ABOUT and submits:
            call = _about(dice, call, _recent(dice, submits))
        calls.append(call)
    return calls


def _with_key(dice: Dice, call: Call, before: list[Call]) -> Call:
    """As a request with a key, often one that was used before; some are to be accepted as jobs, not all have a key."""
    action: Ask = "submit" if dice.random() < _SUBMITS else "request"
    key = f"k{call.number}"
    if before and dice.random() < _REPEATED:
        first = _recent(dice, before)
        call = replace(call, capability=first.capability, caller=first.caller, other=first.other)
        key = first.key or key
        if dice.random() < 0.9:
            action = first.action
    frozen = (Mishap("gap", 1, "frozen"),) if dice.random() < _FROZEN else ()
    return replace(
        call,
        action=action,
        mishaps=(*call.mishaps, *frozen),
        key="" if action == "submit" and dice.random() < 0.4 else key,
        other=call.other != (dice.random() < 0.06),
        reject=dice.random() < 0.15,
        dry_run=False,
        twin=False,
    )


def _about(dice: Dice, call: Call, submit: Call) -> Call:
    """As a question about a job, or its cancel."""
    action: Ask = "cancel" if dice.random() < 0.25 else "result"
    caller = submit.caller if dice.random() < 0.95 else "eve"
    return Call(
        call.at,
        call.number,
        CapabilityId(""),
        caller=caller,
        timeout_ms=call.timeout_ms,
        action=action,
        about=submit.number,
        mishaps=call.mishaps,
    )


def _recent(dice: Dice, calls: list[Call]) -> Call:
    """One of them, a late one mostly."""
    return calls[-1 - int(len(calls) * dice.random() ** 6)]


def _draw_call(dice: Dice, number: int, at: float) -> Call:
    special = dice.random()
    if special < 0.5:  # the everyday request, quickly drawn
        return Call(at, number, dice.choice(_CAPABILITIES))
    seldom = dice.random
    twin = seldom() < 0.06
    return Call(
        at,
        number,
        CapabilityId("run:never") if seldom() < 0.02 else dice.choice(_CAPABILITIES),
        caller=dice.choice(("ann", "bob")),
        timeout_ms=dice.choice((None, None, 30, 200, 5000, 15000)),
        version=dice.choice(("^1.0", "^1.0", "^2.0", ">=9")) if seldom() < 0.2 else None,
        constraints=dice.choice(('{"gpu":1}', '{"gpu":4}')) if seldom() < 0.1 else None,
        dry_run=seldom() < 0.04,
        bad=seldom() < 0.04,
        twin=twin,
        cancel_after_s=round(dice.spread(0.05), 5) if seldom() < (0.5 if twin else 0.1) else None,
        mishaps=_draw_mishaps(dice),
    )


def _draw_mishaps(dice: Dice) -> tuple[Mishap, ...]:
    mishaps: list[Mishap] = []
    while dice.random() < 0.45 and len(mishaps) < 4:
        hop = dice.choice(_HOPS)
        mishaps.append(Mishap(hop, dice.choice((1, 1, 1, 2, 3)), dice.choice(MISHAPS[hop])))
    return tuple(mishaps)


def _draw_troubles(dice: Dice, whom: Whom, numbers: tuple[int, ...], until: float) -> list[Trouble]:
    every_s, kinds = _TROUBLES[whom]
    troubles = []
    at = dice.spread(every_s)
    while at < until:
        kind, least_s, most_s = dice.choice(kinds)
        for_s = dice.between(least_s, most_s)
        if whom == "worker" and kind == "kill" and dice.random() < _FOR_EVER:
            for_s = 0.0
        troubles.append(Trouble(round(at, 5), whom, dice.choice(numbers), kind, round(for_s, 5)))
        at += dice.spread(every_s)
    return troubles
