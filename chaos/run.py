"""Owns one run from its first process to its last: start, load under trouble, calm, questions, stop.

It ends by itself, within a time that the load's length bounds, and takes all of its processes with it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from chaos import settle
from chaos.calls import Line
from chaos.executions import read_executions
from chaos.load import Load
from chaos.plan import CONTROLLERS, SERVER, WORKERS, Trouble, draw_operations, draw_troubles
from chaos.processes import CrankProcess, Member, ServerProcess
from chaos.story import Story
from chaos.troubles import Troubles
from crank.natsd import NatsServer

LEASE_S = 2.0
_SETTINGS = {
    "claim_lease_s": LEASE_S,
    "heartbeat_interval_s": 0.5,
    "drain_timeout_s": 5.0,
    "http_port": 0,
}
_CALLERS = 4
# Everything that is waited for has an end of its own; together they take less than this beside the load.
_BESIDES_S = 420.0
_TELL_EVERY_S = 0.5


class Progress(NamedTuple):
    """Where a run is; for a person who waits."""

    phase: str
    begun: int = 0
    open: int = 0
    in_trouble: frozenset[str] = frozenset()


class Plan(NamedTuple):
    """What is to be run."""

    seconds: float
    rate: float
    seed: int
    troubles: Sequence[Trouble] | None = None
    """What is done to whom instead of what the seed would have done."""
    controllers: Sequence[str] = CONTROLLERS
    workers: Sequence[str] = WORKERS


Tell = Callable[[Progress], None]


async def run(plan: Plan, folder: Path, tell: Tell) -> tuple[Story, float]:
    """``(story, seconds that this process fell behind its plan)``. Everything it starts keeps its files in ``folder``.

    Raises:
        NatsServerError, OSError: a process cannot be started.
        NotReady: the installation does not come up, or not again.
        TimeoutError: none of that, and yet no end.

    """
    # For the workers; and whoever has it is one of ours.
    os.environ["CHAOS_FOLDER"] = str(folder)
    config = folder / "controller.yaml"  # JSON is YAML
    config.write_bytes(msgspec.json.encode(_SETTINGS))
    server = NatsServer(folder / "nats")
    story = Story()
    members: dict[str, Member] = {SERVER: ServerProcess(SERVER, server)}
    try:
        async with asyncio.timeout(plan.seconds + _BESIDES_S):
            tell(Progress("starting"))
            await server.start()
            members |= _crank_processes(plan, server.url, config, folder)
            for member in list(members.values())[1:]:
                await member.start()
            late_s = await _talk(plan, server.url, members, story, tell)
    finally:
        await _stop(members)
    story.executions, story.ended = read_executions(folder)
    story.faults = _faults(members, story)
    story.left += [f"process {pid}: {command}" for pid, command in _running(folder)]
    return story, late_s


def _crank_processes(plan: Plan, url: str, config: Path, folder: Path) -> dict[str, Member]:
    controllers = (
        CrankProcess(name, ["controller", "--id", name, "--config", str(config), "--nats", url], folder)
        for name in plan.controllers
    )
    workers = (
        CrankProcess(name, ["worker", "chaos.worker:worker", "--id", name, "--nats", url], folder)
        for name in plan.workers
    )
    return {process.name: process for process in (*controllers, *workers)}


async def _talk(plan: Plan, url: str, members: Mapping[str, Member], story: Story, tell: Tell) -> float:
    troubles = plan.troubles
    if troubles is None:
        troubles = draw_troubles(plan.seed, plan.seconds, LEASE_S)
    lines = [await Line.connect(url, f"chaos-caller-{number}") for number in range(_CALLERS)]
    try:
        await settle.until_all_serve(lines[0], plan.workers)
        load = Load(lines, story, plan.seed)
        making = Troubles(members, story.troubles)
        began = time.monotonic()
        telling = asyncio.create_task(_keep_telling(story, load, making, tell))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run(draw_operations(plan.seed, plan.seconds, plan.rate), began))
                group.create_task(making.make(troubles, began))
        finally:
            telling.cancel()
        tell(Progress("waiting until everybody serves again"))
        await settle.until_all_serve(lines[0], plan.workers)
        tell(Progress("asking for every key again"))
        await settle.ask_again(lines, story, plan.seed)
        tell(Progress(f"asking for the results of {len(story.jobs):,} jobs"))
        await settle.results(lines, story)
        if waiting := await settle.jobs_in_stream(lines[0]):
            story.left.append(f"{waiting} jobs in the stream")
        return load.late_s
    finally:
        for line in lines:
            await line.close()
            story.too_many_replies += line.too_many


async def _keep_telling(story: Story, load: Load, troubles: Troubles, tell: Tell) -> None:
    while True:
        tell(Progress("load", len(story.operations), load.open, frozenset(troubles.now)))
        await asyncio.sleep(_TELL_EVERY_S)


async def _stop(members: Mapping[str, Member]) -> None:
    """Workers first, then controllers, then the server."""
    for names in (WORKERS, CONTROLLERS, (SERVER,)):
        await asyncio.gather(*(members[name].stop() for name in names if name in members))


def _faults(members: Mapping[str, Member], story: Story) -> list[str]:
    found = []
    for member in members.values():
        if isinstance(member, CrankProcess):
            found += [words for at, words in member.ended_by_itself if not _server_was_away(story, at)]
            for log in member.logs:
                if "Traceback (most recent call last)" in log.read_text(errors="replace"):
                    found.append(f"there is a traceback in {log}")
    return found


# Who starts while there is no server gives up after a while.
_GIVES_UP_S = 10.0


def _server_was_away(story: Story, at: float) -> bool:
    return any(
        trouble.who == SERVER and trouble.since <= at <= trouble.until + _GIVES_UP_S for trouble in story.troubles
    )


def _running(folder: Path) -> list[tuple[int, str]]:
    """Processes that have this run's folder in their environment, but this one; none where there is no ``/proc``."""
    mark = f"CHAOS_FOLDER={folder}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((int(entry.name), (entry / "cmdline").read_text().replace("\0", " ")))
        except OSError:  # it has just ended, or is somebody else's
            continue
    return found
