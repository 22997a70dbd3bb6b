"""Owns the order in which an installation is looked over, and the time that it may take, whatever answers or does not.

``crank doctor`` calls ``examine``; each room beside this one judges one thing.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import NamedTuple

from bus import Bus
from bus.connection import BusError
from bus.greeting import NotGreeted
from bus.inspection import Stream, account, clock, stream
from bus.permissions import Trial
from controller.settings import ControllerSettings
from crank.doctoring.clocks import judge_clock
from crank.doctoring.findings import Finding, problem
from crank.doctoring.fleet import PING_SUBJECT, judge_fleet
from crank.doctoring.jetstream import judge_account
from crank.doctoring.needs import Needs
from crank.doctoring.rights import try_rights
from crank.doctoring.server import CHECK, distance_s, judge_payload, judge_version, reach
from crank.doctoring.streams import judge_replicas, judge_stream, kept_streams
from subjects.names import Subjects

# Each step ends within two seconds; this is for a server that is slow at every single one. Leaving takes two more.
_MOST_S = 8.0
_CLOCK, _ACCOUNT = "$SYS.REQ.USER.INFO", "$JS.API.INFO"


class Report(NamedTuple):
    """What was found, and whether there was a server to ask."""

    findings: list[Finding]
    reached: bool


async def examine(
    settings: ControllerSettings, version: str, worker_id: str | None = None, now: Callable[[], float] = time.time
) -> Report:
    """Look over the installation that ``settings`` name, and change nothing.

    ``version`` is ours, ``worker_id`` the worker whose rights are looked at (any, if None), ``now`` the wall clock in
    seconds since 1970.
    """
    findings: list[Finding] = []
    trial = Trial()
    bus: Bus | None = None
    try:
        async with asyncio.timeout(_MOST_S):
            bus, found = await reach(settings.nats_url, trial.hear)
            findings += found
            if bus is not None:
                await _look(bus, trial, settings, version, worker_id, now, findings)
    except (TimeoutError, BusError, NotGreeted) as error:
        said = f"the server stopped answering halfway: {error or 'time is up'}"
        findings.append(problem(CHECK, said, "is it stopped, or overloaded? Its log says more"))
    finally:
        if bus is not None:
            await bus.close()
    return Report(findings, reached=bus is not None)


async def _look(
    bus: Bus,
    trial: Trial,
    settings: ControllerSettings,
    version: str,
    worker_id: str | None,
    now: Callable[[], float],
    findings: list[Finding],
) -> None:
    """Add what is found, as it is found: what follows may never come."""
    subjects = Subjects(settings.prefix)
    kept = kept_streams(settings)
    asked = {one.spec.name: f"$JS.API.STREAM.INFO.{one.spec.name}" for one in kept}
    findings.append(judge_version(bus.greeting, bus.url, await distance_s(bus)))
    findings.append(judge_payload(bus, settings.max_body_bytes))
    token = f"doctor-{secrets.token_hex(6)}"
    rights = await try_rights(
        bus, trial, Needs(subjects, token, worker_id), (_CLOCK, _ACCOUNT, PING_SUBJECT, *asked.values())
    )
    findings += rights.findings
    asked_at = now()
    told, room, found = await asyncio.gather(
        rights.ask(_CLOCK, lambda: clock(bus)),
        rights.ask(_ACCOUNT, lambda: account(bus)),
        asyncio.gather(*(rights.ask(asks, partial(stream, bus, name)) for name, asks in asked.items())),
    )
    answered_at = now()
    clocks = (told, *(one.ts for one in found if isinstance(one, Stream)))
    theirs = next((one for one in clocks if isinstance(one, datetime)), None)
    if theirs is not None:
        findings.append(judge_clock(theirs, asked_at, answered_at))
    missing = [one.spec for one, heard in zip(kept, found, strict=True) if heard is None]
    findings += judge_account(room, found, missing, settings.replicas)
    findings += judge_replicas(found[0], settings.replicas, bus.greeting.cluster)
    for one, heard in zip(kept, found, strict=True):
        findings += judge_stream(heard, one)
    findings += await judge_fleet(bus, subjects, rights, version, token, worker_id)
