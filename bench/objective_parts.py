"""Owns the processes behind ``bench.objectives``: a server, a controller with SLO files, and sleeping workers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from bench.open_loop import OpenLoop
from bench.parts import BenchError
from bench.sleepers import BE, CHANGE, SEEN, Change, Fleet
from bus import Bus
from bus.connection import Unanswered
from crank.children import Child
from crank.natsd import NatsServer
from simulation.scenarios.arrivals import Asked
from subjects.tokens import CapabilityId

_STOP_S, _READY_S = 5.0, 20.0


class ObjectiveParts:
    """All of them; ``start``, then fleets and loads, ``stop``."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._server = NatsServer(state / "nats")
        self._children: list[Child] = []
        self._bus: Bus | None = None

    async def start(self, objectives: dict[CapabilityId, dict[str, Any]]) -> None:
        """Start everything, with these objectives in force.

        Raises:
            BenchError: something did not start.

        """
        slos = self._state / "slos"
        slos.mkdir()
        for capability, asked in objectives.items():
            verb, _, name = capability.partition(":")
            # JSON is YAML, too.
            text = msgspec.json.encode({"capability": {"verb": verb, "name": name}, **asked})
            (slos / f"{verb}_{name}.yaml").write_bytes(text)
        settings = self._state / "crank.yaml"
        settings.write_text(f"slos: {slos}\n")
        await self._server.start()
        url, ready = self._server.url, self._state / "ready"
        crank = ["crank", "controller", "--id", "bench", "--http-port", "0", "--nats", url, "--with-parent"]
        commands = {
            "controller": [*crank, "--config", str(settings), "--ready-file", str(ready)],
            "sleepers": ["bench.sleepers", url],
        }
        for name, command in commands.items():
            child = Child(name, [sys.executable, "-m", *command], self._state / f"{name}.log")
            self._children.append(child)
            await child.start()
        self._bus = await Bus.connect(url, name="bench objectives")
        deadline = asyncio.get_running_loop().time() + _READY_S
        while not ready.exists():
            if asyncio.get_running_loop().time() > deadline:
                raise BenchError("\n".join(child.told() for child in self._children))
            await asyncio.sleep(0.05)

    async def be(self, fleet: Fleet) -> None:
        """Have these workers as well."""
        await self._tell(BE, msgspec.json.encode(fleet))

    async def change(self, worker: str, *, slower: float = 1.0, fails: float = 0.0) -> None:
        """One of them is like this from now on."""
        await self._tell(CHANGE, msgspec.json.encode(Change(worker, slower, fails)))

    async def given_at(self, worker: str) -> list[float]:
        """When this one was given something, by the clock of this machine."""
        return msgspec.json.decode(await self._tell(SEEN, worker.encode()), type=list[float])

    async def _tell(self, subject: str, body: bytes) -> bytes:
        assert self._bus is not None
        for _ in range(int(_READY_S / 0.1)):
            try:
                return (await self._bus.request(subject, body, timeout_s=_READY_S)).body
            except Unanswered:
                await asyncio.sleep(0.1)
        raise BenchError("\n".join(child.told() for child in self._children))

    def load(self, subject: str) -> OpenLoop:
        """A load on a subject, to be played once."""
        assert self._bus is not None
        return OpenLoop(self._bus, subject)

    async def asks(self, capability: CapabilityId, arrivals: Iterable[Asked]) -> list[Asked]:
        """Play these on a capability."""
        return list(await self.load(request_subject(capability)).play(arrivals))

    async def stop(self) -> None:
        """Stop everything; returns when it is gone."""
        if self._bus is not None:
            await self._bus.close()
        await asyncio.gather(*(child.stop(_STOP_S) for child in self._children))
        await self._server.stop()


def request_subject(capability: CapabilityId) -> str:
    """Where callers ask for it."""
    return f"crank.request.{capability.replace(':', '.')}"
