"""Owns judging who is there: controllers under this prefix, their versions and ids, workers and what they offer.

It asks what operators ask, and where it may not, what a caller or a worker may. ``examination`` calls it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from bus import Bus, NoResponder
from bus.connection import BusError
from crank.doctoring.asking import PAGE, PATIENCE_S, told
from crank.doctoring.findings import Finding, ok, problem, some, warning
from crank.doctoring.here import UNKNOWN
from crank.doctoring.objectives import judge_objectives
from crank.doctoring.rights import Rights
from subjects.names import SERVICE_NAME, Subjects, service
from subjects.tokens import RequestId, WorkerId

CONTROLLERS, WORKERS = "controllers", "workers"
PING_SUBJECT = service("PING", SERVICE_NAME)
# Controllers answer at once; one that is so much later than the one before is not waited for.
_QUIET_S = 0.3
# Far more than an installation has; what comes beyond is not kept.
_MAX_CONTROLLERS = 1000


# Anybody can answer a ping.
_Short = Annotated[str, Meta(max_length=64)]


class _About(msgspec.Struct, frozen=True):
    controller: _Short
    prefix: _Short


class _Ping(msgspec.Struct, frozen=True):
    version: _Short
    metadata: _About


class _Controller(msgspec.Struct, frozen=True):
    workers: int


class _Health(msgspec.Struct, frozen=True):
    health: tuple[_Controller, ...]


class _Worker(msgspec.Struct, frozen=True):
    worker_id: str


class _Workers(msgspec.Struct, frozen=True):
    workers: tuple[_Worker, ...]


class _Capability(msgspec.Struct, frozen=True):
    verb: str
    name: str
    healthy_workers: int


class _Capabilities(msgspec.Struct, frozen=True):
    capabilities: tuple[_Capability, ...]


async def judge_fleet(
    bus: Bus, subjects: Subjects, rights: Rights, ours: str, token: str, worker_id: str | None
) -> list[Finding]:
    """What is found; ``ours`` is the version of this command, ``token`` a name that nobody has."""
    everyone = await controllers(bus) if rights.may(PING_SUBJECT) else []
    # A caller hears that there is no such request, a worker that this is no manifest: so somebody is there.
    questions = {
        subjects.admin("health"): b"",
        subjects.cancel(RequestId(token)): b"",
        subjects.register(WorkerId(worker_id or token)): b"?",
    }
    asked = next(filter(rights.may, questions), None)
    if asked is None:
        mend = f"run it as a caller's user, or as one that may publish on {subjects.admin('health')}"
        return [warning(CONTROLLERS, "not looked at: this user may ask no controller", mend)]
    try:
        await bus.request(asked, questions[asked], timeout_s=PATIENCE_S)
    except NoResponder:
        return [_nobody(subjects.prefix, everyone)]
    except BusError:
        return [problem(CONTROLLERS, "a controller listens and does not answer", "look at its log, and start it again")]
    found = _judged([one for one in everyone if one.metadata.prefix == subjects.prefix], ours, subjects.prefix)
    if asked == subjects.admin("health"):
        found += await _workers(bus, subjects)
        found += await judge_objectives(bus, subjects)
    return found


async def controllers(bus: Bus) -> list[_Ping]:
    """Every controller on this server, whatever its prefix, that says so in time."""
    heard: list[_Ping] = []
    more = asyncio.Event()

    def on_ping(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        if len(heard) < _MAX_CONTROLLERS:
            try:
                heard.append(msgspec.json.decode(body, type=_Ping))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return  # *no responders*, or something else that answers here
            more.set()

    inbox = bus.new_inbox()
    subscription = await bus.subscribe(inbox, on_ping)
    bus.publish(PING_SUBJECT, b"", reply=inbox)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await asyncio.wait_for(more.wait(), _QUIET_S)
                more.clear()
    except TimeoutError:
        await bus.unsubscribe(subscription)
    return heard


def _nobody(prefix: str, everyone: Iterable[_Ping]) -> Finding:
    said = f"no controller listens under the prefix {prefix!r}"
    others = sorted({one.metadata.prefix for one in everyone} - {prefix})
    if others:
        said += f"; there are some under {some(others)}"
        return problem(CONTROLLERS, said, f"did you mean --prefix {others[0]}?")
    return problem(CONTROLLERS, said, "start one with `crank controller`, or everything with `crank up`")


def _judged(here: list[_Ping], ours: str, prefix: str) -> list[Finding]:
    found = []
    ids = Counter(one.metadata.controller for one in here)
    if twice := sorted(name for name, count in ids.items() if count > 1):
        said = f"more than one controller is called {some(twice)}"
        found.append(problem(CONTROLLERS, said, "give each an --id of its own, or none: then each makes one up"))
    versions = sorted({one.version for one in here} - {UNKNOWN})
    if len(versions) > 1 or (versions and ours not in (versions[0], UNKNOWN)):
        said = f"controllers of version {some(versions)}, and this is {ours}"
        found.append(warning(CONTROLLERS, said, "install one version everywhere"))
    if found:
        return found
    if not here:
        return [ok(CONTROLLERS, f"there is one under the prefix {prefix}; this user may not ask which")]
    said = f"{len(here)} under the prefix {prefix}: {some(sorted(ids))}"
    return [ok(CONTROLLERS, said + (f", version {versions[0]}" if versions else ""))]


async def _workers(bus: Bus, subjects: Subjects) -> list[Finding]:
    try:
        health = await told(bus, subjects.admin("health"), {}, _Health)
        suspect = await told(bus, subjects.admin("workers"), {"state": "suspect", "limit": PAGE}, _Workers)
        offered = await told(bus, subjects.admin("capabilities"), {"limit": PAGE}, _Capabilities)
    except BusError as error:
        said = f"the controllers do not tell of them: {error}"
        return [problem(WORKERS, said, "does something else listen there? The log of a controller says more")]
    known = max((one.workers for one in health.health), default=0)
    if not known:
        mend = "start one: crank worker hello_world"
        return [warning(WORKERS, "there are none: nothing can be done for anybody", mend)]
    found = []
    if names := [worker.worker_id for worker in suspect.workers]:
        said = f"{some(names)}: heartbeats are missing, and after one more a worker counts as gone"
        found.append(warning(WORKERS, said, "is it overloaded, stopped or cut off? Its log says more"))
    if lacking := [f"{one.verb}:{one.name}" for one in offered.capabilities if not one.healthy_workers]:
        mend = "start a worker for it; requests for it are refused meanwhile"
        found.append(warning(WORKERS, f"nobody healthy offers {some(lacking)}", mend))
    return found or [ok(WORKERS, f"{known} of them; every known capability has a healthy one")]
