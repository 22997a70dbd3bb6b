"""Owns trying rights on NATS, and judging which role a user can fill.

Who needs which, and how each is tried so that nothing happens where it is granted, stands in ``needs``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from bus import Bus
from bus.connection import BusError
from bus.permissions import Right, Trial
from crank.doctoring.findings import Finding, ok, problem, some, warning
from crank.doctoring.needs import Need, Needs

T = TypeVar("T")

CHECK = "permissions"


class NotAllowed(BusError):
    """A question that this user may not ask."""


class Rights(NamedTuple):
    """What was found. ``may`` tells the other checks whether to ask at all."""

    findings: list[Finding]
    denied: set[str]
    hears: bool
    """Whether answers reach this user."""

    def may(self, subject: str) -> bool:
        """Whether ``subject`` may be asked, of those that were tried."""
        return self.hears and subject not in self.denied

    async def ask(self, subject: str, question: Callable[[], Awaitable[T]]) -> T | BusError:
        """The answer to ``question``, which goes to ``subject``, or why there is none."""
        if not self.may(subject):
            return NotAllowed(f"this user may not ask {subject}")
        try:
            return await question()
        except BusError as error:
            return error


async def try_rights(bus: Bus, trial: Trial, needs: Needs, asked: tuple[str, ...]) -> Rights:
    """Try what each role needs, and whether ``asked``, which the other checks ask, may be published on.

    Raises:
        BusUnavailable: the server did not answer.

    """
    inbox = Right("subscribe", f"{bus.new_inbox()}.*")
    asking = [Right("publish", subject) for subject in asked]
    roles, answers = needs.roles(), needs.answers()
    every = [need.right for role in roles.values() for need in role]
    denied = await trial.denied(bus, [inbox, answers, *asking, *every])
    subjects = {right.subject for right in denied if right.act == "publish"}
    if inbox in denied:
        said = "this user may not subscribe to _INBOX.>: no answer reaches it"
        mend = 'allow it in the permissions of this user: subscribe: { allow: ["_INBOX.>"] }'
        return Rights([problem(CHECK, said, mend)], subjects, hears=False)
    return Rights(_judged(roles, answers, denied), subjects, hears=True)


def _judged(roles: dict[str, list[Need]], answers: Right, denied: set[Right]) -> list[Finding]:
    lacking = {role: [need for need in needs if need.right in denied] for role, needs in roles.items()}
    whole = [role for role, missing in lacking.items() if not missing]
    halves = {role: missing for role, missing in lacking.items() if 0 < len(missing) < len(roles[role])}
    found = []
    if whole:
        found.append(ok(CHECK, f"this user may do what a {_listed(whole)} does"))
    elif not halves:
        said = f"this user may do nothing that a {_listed(list(roles))} does"
        found.append(
            problem(CHECK, said, "if the prefix is right, allow it what its role needs: docs/operations.md, Rights")
        )
    made = warning if whole else problem
    for role, missing in halves.items():
        found.append(made(CHECK, f"as a {role}: it {_missing(missing)}", _mend(role, missing)))
    answering = [role for role in whole if role in ("controller", "worker")]
    if answering and answers in denied:
        said = f"as a {_listed(answering)}: it may not publish _INBOX.>, and so may be unable to answer"
        found.append(warning(CHECK, said, "allow it, unless allow_responses is set, which cannot be seen from here"))
    return found


def _grants(needs: list[Need], act: str) -> list[str]:
    return list(dict.fromkeys(need.grant for need in needs if need.right.act == act))


def _missing(needs: list[Need]) -> str:
    parts = [f"may not {act} {some(grants)}" for act in ("publish", "subscribe") if (grants := _grants(needs, act))]
    return " and ".join(parts)


def _mend(role: str, needs: list[Need]) -> str:
    blocks = [
        f"{act}: {{ allow: {json.dumps(grants)} }}"
        for act in ("publish", "subscribe")
        if (grants := _grants(needs, act))
    ]
    return f"if it is a {role}'s, add to its permissions {', '.join(blocks)}"


def _listed(roles: list[str]) -> str:
    return " and ".join((", ".join(roles[:-1]), roles[-1]) if roles[:-1] else roles)
