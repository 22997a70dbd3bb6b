"""Owns the processes of a comparison: server, workers, routers, peers and whoever asks, up and down.

Each is its own process on the loopback; none outlives the one that started it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import msgspec

from bench.load import Figures, Task
from bench.machine import cpu_seconds
from bench.paths import DISPATCHES, REQUESTS, SDK_ID, Lane, measure_subject
from bus import Bus
from bus.connection import Unanswered
from crank.children import Child
from crank.natsd import NatsServer

_READY_TIMEOUT_S = 30.0
_POLL_S = 0.05
_STOP_S = 5.0
# One request a lane: is it there?
_PROBE_S = 0.001


class BenchError(Exception):
    """A part did not start, or a lane gave a wrong answer; the message is for a person."""


def has_faststream() -> bool:
    """Whether this peer is installed; nothing else needs it."""
    return find_spec("faststream") is not None


class Parts:
    """All processes of one comparison; ``start``, ``measure`` as often as wanted, ``stop``."""

    def __init__(self, state: Path, *, plain_ends: bool) -> None:
        self._server = NatsServer(state / "nats")
        self._state = state
        self._ends = ["--plain"] if plain_ends else []
        self._bus: Bus | None = None
        self._children: dict[str, Child] = {}
        self.lanes = tuple(lane for lane in REQUESTS + DISPATCHES if lane.worker != "FastStream" or has_faststream())

    def _commands(self, url: str) -> dict[str, list[str]]:
        crank = ["--nats", url, "--prefix", "crank", "--with-parent"]
        commands = {
            "worker": ["bench.worker", url, *self._ends],
            "pass-through": ["bench.passthrough", url],
            "nats.micro": ["bench.micro", url],
            "FastStream": ["bench.faststream_service", url],
            "crank": ["crank", "controller", "--id", "bench", "--http-port", "0", *crank],
            "bare": ["bench.bare", url],
            "sdk": ["crank", "worker", "bench.sdk:worker", "--id", SDK_ID, *crank],
            "client": ["bench.client", url, *self._ends],
            "dispatcher": ["bench.dispatcher", url],
        }
        needed = {name for lane in self.lanes for name in (lane.worker, lane.router, lane.by)}
        return {name: command for name, command in commands.items() if name in needed}

    async def start(self) -> None:
        """Start everything; return when a request passes on every lane.

        Raises:
            BenchError: something did not start; the message holds its last words.

        """
        await self._server.start()
        for name, command in self._commands(self._server.url).items():
            child = Child(name, [sys.executable, "-m", *command], self._state / f"{name}.log")
            self._children[name] = child
            await child.start()
        self._bus = await Bus.connect(self._server.url, name="bench")
        for lane in self.lanes:
            await self._ready(lane)

    async def _ready(self, lane: Lane) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            try:
                await self.measure(lane, 1, _PROBE_S)
                return
            except BenchError as error:
                dead = await self._dead()
                if dead or time.monotonic() > deadline:
                    raise BenchError("\n".join([str(error), *dead])) from None
            await asyncio.sleep(_POLL_S)

    async def _dead(self) -> list[str]:
        """The last words of every process that ended by itself."""
        ends = {child: asyncio.ensure_future(child.ended()) for child in self._children.values()}
        await asyncio.wait(ends.values(), timeout=0.001)
        dead = [child.told() for child, end in ends.items() if end.done()]
        for end in ends.values():
            end.cancel()
        return dead

    async def measure(self, lane: Lane, in_flight: int, seconds: float) -> Figures:
        """Requests on ``lane`` for ``seconds``.

        Raises:
            BenchError: a request was answered wrongly or not at all.

        """
        assert self._bus is not None
        task = Task(lane.subject, in_flight, seconds, lane.key)
        asked = measure_subject(lane.by)
        try:
            answer = await self._bus.request(asked, msgspec.json.encode(task), timeout_s=seconds + 10)
        except Unanswered as error:
            raise BenchError(f"the {lane.by} does not answer: {error}") from None
        figures = msgspec.json.decode(answer.body, type=Figures)
        if figures.error:
            raise BenchError(figures.error)
        return figures

    def cpu_seconds(self) -> dict[str, float] | None:
        """The processor time each process has used so far, or None where that cannot be seen."""
        server = self._server.process
        pids = {"nats": server.pid if server is not None else None}
        pids |= {name: child.pid for name, child in self._children.items()}
        used = {name: cpu_seconds(pid) for name, pid in pids.items()}
        return None if None in used.values() else {name: seconds or 0.0 for name, seconds in used.items()}

    async def stop(self) -> None:
        """Stop everything; returns when it is gone."""
        if self._bus is not None:
            await self._bus.close()
        await asyncio.gather(*(child.stop(_STOP_S) for child in self._children.values()))
        await self._server.stop()
