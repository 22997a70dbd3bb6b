"""Owns judging who is there: controllers under this prefix, their versions and ids, workers and what they offer.

It asks what operators ask, and where it may not, what callers may. ``examination`` calls it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from bus import Bus
from callers import Client, CrankError
from callers.failures import Unreachable
from crank.doctoring.findings import Finding, ok, problem, some, warning
from crank.doctoring.here import UNKNOWN
from crank.doctoring.rights import Rights
from subjects.names import SERVICE_NAME, Subjects, service

CONTROLLERS, WORKERS = "controllers", "workers"
PING_SUBJECT = service("PING", SERVICE_NAME)
# Controllers answer at once; one more that takes longer than this after the others is not counted.
_QUIET_S = 0.3
_MOST_S = 1.5
# Far more than an installation has; what comes beyond is not kept.
_MAX_CONTROLLERS = 1000
_PAGE = 1000
_NAMED = 20


class _About(msgspec.Struct, frozen=True):
    controller: str = "?"
    prefix: str = ""


class _Ping(msgspec.Struct, frozen=True):
    id: str
    version: str = ""
    metadata: _About = _About()


async def judge_fleet(bus: Bus, subjects: Subjects, rights: Rights, ours: str, token: str) -> list[Finding]:
    """What is found; ``ours`` is the version of this command, ``token`` a name that nobody has."""
    asks = rights.may(subjects.admin("health"))
    everyone = await controllers(bus) if rights.may(PING_SUBJECT) else []
    here = [one for one in everyone if one.metadata.prefix == subjects.prefix]
    client = Client(bus, subjects.prefix)
    try:
        async with asyncio.timeout(_MOST_S):
            if asks:
                health = await client.admin("health")
            elif not await _answers(client, subjects, rights, token):
                mend = "run it as an operator's user, which may publish on " + subjects.all("admin")
                return [warning(CONTROLLERS, "not looked at: this user may ask no controller", mend)]
    except TimeoutError:
        return [problem(CONTROLLERS, "a controller listens and does not answer", "look at its log, and start it again")]
    except Unreachable as error:
        return [_nobody(subjects.prefix, everyone, error)]
    except CrankError as error:
        return [problem(CONTROLLERS, f"a controller answers with {error}", "does something else listen there?")]
    found = _controllers(here, ours, subjects.prefix)
    return [*found, *await _workers(client, health)] if asks else found


async def controllers(bus: Bus) -> list[_Ping]:
    """Every controller on this server, whatever its prefix, that says so in time."""
    heard: list[_Ping] = []
    more = asyncio.Event()

    def on_ping(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        if len(heard) < _MAX_CONTROLLERS:
            try:
                heard.append(msgspec.json.decode(body, type=_Ping))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return  # *no responders*, or not one of ours
            more.set()

    inbox = bus.new_inbox()
    subscription = await bus.subscribe(inbox, on_ping)
    bus.publish(PING_SUBJECT, b"", reply=inbox)
    try:
        async with asyncio.timeout(_MOST_S):
            while True:
                await asyncio.wait_for(more.wait(), _QUIET_S)
                more.clear()
    except TimeoutError:
        await bus.unsubscribe(subscription)
    return heard


async def _answers(client: Client, subjects: Subjects, rights: Rights, token: str) -> bool:
    """Whether this user may ask at all; a controller that is there answers that it has no such request.

    Raises:
        Unreachable: there is none.

    """
    subject = f"{subjects.prefix}.cancel.{token}"
    if not rights.may(subject):
        return False
    try:
        await client.cancel(token)
    except Unreachable:
        raise
    except CrankError:
        pass
    return True


def _nobody(prefix: str, everyone: Iterable[_Ping], error: Unreachable) -> Finding:
    others = sorted({one.metadata.prefix for one in everyone} - {prefix, ""})
    if others:
        said = f"no controller listens under the prefix {prefix!r}; there are some under {some(others)}"
        return problem(CONTROLLERS, said, f"did you mean --prefix {others[0]}?")
    return problem(CONTROLLERS, error.detail.partition(";")[0], "start one with `crank controller`, or `crank up`")


def _controllers(here: list[_Ping], ours: str, prefix: str) -> list[Finding]:
    found = []
    ids = Counter(one.metadata.controller for one in here)
    twice = sorted(name for name, count in ids.items() if count > 1)
    if twice:
        said = f"more than one controller is called {some(twice)}"
        found.append(problem(CONTROLLERS, said, "give each an --id of its own, or none: then each makes one up"))
    versions = sorted({one.version for one in here if one.version != UNKNOWN})
    if len(versions) > 1 or (versions and ours not in (versions[0], UNKNOWN)):
        said = f"controllers of version {some(versions)}, and this is {ours}"
        found.append(warning(CONTROLLERS, said, "install one version everywhere"))
    if found:
        return found
    who = f"{len(here)} under the prefix {prefix}: {some(sorted(ids))}" if here else f"one answers under {prefix}"
    return [ok(CONTROLLERS, who + (f", version {versions[0]}" if versions else ""))]


async def _workers(client: Client, health: dict[str, Any]) -> list[Finding]:
    try:
        async with asyncio.timeout(_MOST_S):
            suspect = await client.admin("workers", {"state": "suspect", "limit": _NAMED})
            offered = await client.admin("capabilities", {"limit": _PAGE})
    except (TimeoutError, CrankError) as error:
        said = f"the controller does not tell of its workers: {error or 'it says nothing'}"
        return [problem(WORKERS, said, "look at its log")]
    rows = health.get("health")
    known = rows[0].get("workers") if isinstance(rows, list) and rows and isinstance(rows[0], dict) else None
    if not known:
        return [
            warning(WORKERS, "there are none: nothing can be done for anybody", "start one: crank worker hello_world")
        ]
    found = []
    if names := _names(suspect, "workers"):
        said = f"{some(names)} missed heartbeats and will be given up soon"
        found.append(warning(WORKERS, said, "are they overloaded, stopped or cut off? Their logs say more"))
    lacking = [name for name, row in _capabilities(offered) if row.get("healthy_workers") == 0]
    if lacking:
        mend = "start a worker for them; requests for them are refused meanwhile"
        found.append(warning(WORKERS, f"nobody healthy offers {some(lacking)}", mend))
    return found or [ok(WORKERS, f"{known} are there, and every known capability has a healthy one")]


def _rows(answer: dict[str, Any], what: str) -> list[dict[str, Any]]:
    rows = answer.get(what)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _names(answer: dict[str, Any], what: str) -> list[str]:
    return [str(row.get("worker_id", "?")) for row in _rows(answer, what)]


def _capabilities(answer: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{row.get('verb', '?')}:{row.get('name', '?')}", row) for row in _rows(answer, "capabilities")]
