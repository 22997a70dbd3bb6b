"""Owns the processes of a comparison: server, worker, pass-through, controller and client, up and down.

Each is its own process on the loopback; none outlives the one that started it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec

from bench import paths
from bench.client import Figures, Task
from bench.machine import cpu_seconds
from bus import Bus
from bus.connection import Unanswered
from crank.children import Child
from crank.natsd import NatsServer

_READY_TIMEOUT_S = 30.0
_POLL_S = 0.05
_STOP_S = 5.0
# One request a path: is it there?
_PROBE_S = 0.001


class BenchError(Exception):
    """A part did not start, or a path gave a wrong answer; the message is for a person."""


class Parts:
    """All processes of one comparison; ``start``, ``measure`` as often as wanted, ``stop``."""

    def __init__(self, state: Path, *, plain_ends: bool) -> None:
        self._server = NatsServer(state / "nats")
        self._state = state
        self._ends = ["--plain"] if plain_ends else []
        self._bus: Bus | None = None
        self._children: dict[str, Child] = {}

    async def start(self) -> None:
        """Start everything; return when a request passes on every path.

        Raises:
            BenchError: something did not start; the message holds its last words.

        """
        await self._server.start()
        url = self._server.url
        commands = {
            "worker": ["bench.worker", url, *self._ends],
            "pass-through": ["bench.passthrough", url],
            "crank": [
                "crank",
                "controller",
                "--nats",
                url,
                "--prefix",
                "crank",
                "--id",
                "bench",
                "--http-port",
                "0",
                "--with-parent",
            ],
            "client": ["bench.client", url, *self._ends],
        }
        for name, (module, *arguments) in commands.items():
            child = Child(name, [sys.executable, "-m", module, *arguments], self._state / f"{name}.log")
            self._children[name] = child
            await child.start()
        self._bus = await Bus.connect(url, name="bench")
        for path in paths.SUBJECTS:
            await self._ready(path)

    async def _ready(self, path: str) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            try:
                await self.measure(path, 1, _PROBE_S)
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

    async def measure(self, path: str, in_flight: int, seconds: float) -> Figures:
        """Requests on ``path`` for ``seconds``.

        Raises:
            BenchError: a request was answered wrongly or not at all.

        """
        assert self._bus is not None
        task = Task(paths.SUBJECTS[path], in_flight, seconds)
        try:
            answer = await self._bus.request(paths.MEASURE, msgspec.json.encode(task), timeout_s=seconds + 10)
        except Unanswered as error:
            raise BenchError(f"the client does not answer: {error}") from None
        figures = msgspec.json.decode(answer.body, type=Figures)
        if figures.error:
            raise BenchError(figures.error)
        return figures

    def cpu_seconds(self) -> dict[str, float] | None:
        """The processor time each process has used so far, or None where that cannot be seen."""
        server = self._server.process
        pids = {"server": server.pid if server is not None else None}
        pids |= {name: child.pid for name, child in self._children.items()}
        used = {name: cpu_seconds(pid) for name, pid in pids.items()}
        return None if None in used.values() else {name: seconds or 0.0 for name, seconds in used.items()}

    async def stop(self) -> None:
        """Stop everything; returns when it is gone."""
        if self._bus is not None:
            await self._bus.close()
        await asyncio.gather(*(child.stop(_STOP_S) for child in self._children.values()))
        await self._server.stop()
