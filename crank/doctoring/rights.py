"""Owns who needs which rights on NATS, and trying them so that nothing happens where they are granted.

Subscriptions are tried on subjects that nobody publishes on: in a queue group a real one would take a message away from
those who wait for it. Messages are tried where nobody listens, or so that whoever hears them drops them: without
anywhere to answer to, unreadable, or for a stream of another name.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple, TypeVar

from bus import Bus
from bus.connection import BusError
from bus.permissions import Right, Trial
from crank.doctoring.findings import Finding, ok, problem, some, warning
from subjects.headers import build_block
from subjects.names import QUEUE_CONTROLLERS, QUEUE_WORKER, SERVICE_NAME, Subjects, service
from subjects.tokens import RequestId, WorkerId, capability_id

T = TypeVar("T")

CHECK = "permissions"
# No heartbeat, manifest or departure, and no JSON for JetStream's API.
_UNREADABLE = b"?"
# JetStream refuses a message that says it is for another stream: nothing is stored.
_FOR_ANOTHER_STREAM = build_block([("Nats-Expected-Stream", "doctor")])


class NotAllowed(BusError):
    """A question that this user may not ask."""


class Need(NamedTuple):
    """A right to try, and what a person would write into the permissions for it."""

    right: Right
    grant: str


def _hear(subject: str, grant: str, queue: str = "") -> Need:
    return Need(Right("subscribe", subject, queue), grant)


def _say(subject: str, grant: str, body: bytes = b"", headers: bytes | None = None, reply: str = "") -> Need:
    return Need(Right("publish", subject, "", body, headers, reply), grant)


class Needs:
    """What each role needs. ``token`` is a name that nobody has; ``worker_id`` is a worker's own, where it is known."""

    def __init__(self, subjects: Subjects, token: str, worker_id: str | None) -> None:
        self._subjects = subjects
        self._token = token
        self._worker_id = worker_id

    def roles(self) -> dict[str, list[Need]]:
        """By role."""
        return {
            "controller": list(self._controller()),
            "worker": list(self._worker()),
            "caller": list(self._caller()),
            "operator": [_say(self._subjects.admin("health"), f"{self._subjects.prefix}.admin.>")],
        }

    def _controller(self) -> Iterator[Need]:
        subjects, prefix, token = self._subjects, self._subjects.prefix, self._token
        for kind in ("request", "register", "deregister", "cancel", "admin"):
            yield _hear(f"{prefix}.{kind}.{token}.>", subjects.all(kind), QUEUE_CONTROLLERS)
        for kind in ("heartbeat", "cancel"):
            yield _hear(f"{prefix}.{kind}.{token}.>", subjects.all(kind))
        for verb in ("PING", "INFO", "STATS"):
            for address in ((), (SERVICE_NAME,), (SERVICE_NAME, token)):
                yield _hear(service(verb, *address), "$SRV.>")
        nobody = WorkerId(token)
        yield _say(subjects.worker(nobody, capability_id(token, token)), f"{prefix}.worker.>")
        yield _say(subjects.control(nobody), f"{prefix}.control.*")
        yield _say(subjects.registry(nobody), f"{prefix}.registry.*", headers=_FOR_ANOTHER_STREAM)
        yield _say(subjects.event("doctor", token), f"{prefix}.event.>", b"{}")
        stream = subjects.stream_registry
        for operation in ("STREAM.CREATE", "STREAM.INFO", "STREAM.MSG.GET", "CONSUMER.CREATE"):
            api = f"$JS.API.{operation}.{stream}"
            yield _say(api, api, _UNREADABLE)
        yield _say(f"$JS.API.CONSUMER.DELETE.{stream}.{token}", f"$JS.API.CONSUMER.DELETE.{stream}.*")
        yield _say(f"$JS.FC.{stream}.{token}.{token}", f"$JS.FC.{stream}.>")

    def _worker(self) -> Iterator[Need]:
        subjects, prefix = self._subjects, self._subjects.prefix
        ident, shown = WorkerId(self._worker_id or self._token), self._worker_id or "*"
        yield _hear(f"{prefix}.worker.{ident}.{self._token}.>", f"{prefix}.worker.{shown}.>", QUEUE_WORKER)
        yield _hear(subjects.control(ident), f"{prefix}.control.{shown}")
        for kind, subject in (
            ("register", subjects.register(ident)),
            ("deregister", subjects.deregister(ident)),
            ("heartbeat", subjects.heartbeat(ident)),
        ):
            yield _say(subject, f"{prefix}.{kind}.{shown}", _UNREADABLE)

    def _caller(self) -> Iterator[Need]:
        subjects, prefix, token = self._subjects, self._subjects.prefix, self._token
        # A controller drops a request whose answer would go to one of its own subjects.
        asked = subjects.request(capability_id(token, token))
        yield _say(asked, f"{prefix}.request.>", reply=f"{prefix}.{token}")
        yield _say(subjects.cancel(RequestId(token)), f"{prefix}.cancel.*")

    def answers(self) -> Right:
        """What controllers and workers need besides, unless they may answer whatever they are asked."""
        return Right("publish", f"_INBOX.{self._token}")


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
