"""Workers that sleep as long as the simulation's would work: many in one process. ``python -m bench.sleepers URL``.

Over NATS it is told whom to be, how slow or bad one of them is from now on, and asked when one was given work. A fleet
without a capability is a queue group on a subject of its own, whose members have a line each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import Any

import msgspec

from bench.plain import run
from bus import Bus
from simulation.scenarios.fleet import Kind, Worker
from subjects.answers import Answer, build_answer
from subjects.manifests import Manifest
from subjects.messages import Heartbeat
from subjects.tokens import CapabilityId

BE, CHANGE, SEEN = "bench.sleepers.be", "bench.sleepers.change", "bench.sleepers.seen"
_BEAT_S = 2.0


class Fleet(msgspec.Struct):
    """Whom to be: so many of a kind. ``subject`` instead of a capability: members of a queue group there."""

    name: str
    count: int
    kind: Kind
    capability: CapabilityId = CapabilityId("")
    subject: str = ""


class Change(msgspec.Struct):
    """How one of them is from now on."""

    worker: str
    slower: float = 1.0
    fails: float = 0.0


class Sleeper:
    """One worker, or one member of the queue group."""

    def __init__(self, bus: Bus, worker: Worker, *, in_line: bool) -> None:
        self.worker = worker
        self.given_at: list[float] = []
        self._bus = bus
        self._line: deque[str] | None = deque() if in_line else None
        self._loop = asyncio.get_running_loop()

    def take(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        """A request, or a dispatch."""
        self.given_at.append(perf_counter())
        if self._line is not None and self.worker.running >= self.worker.kind.places:
            self._line.append(reply)
        else:
            self._begin(reply)

    def _begin(self, reply: str) -> None:
        before = self.worker.running
        takes_s, answer = self.worker.begins()
        if self.worker.running == before:
            self._say(reply, answer)
        else:
            self._loop.call_later(takes_s, self._end, reply, answer)

    def _end(self, reply: str, answer: Answer) -> None:
        self.worker.running -= 1
        self._say(reply, answer)
        if self._line:
            self._begin(self._line.popleft())

    def _say(self, reply: str, answer: Answer) -> None:
        headers, body = build_answer(answer)  # type: ignore[arg-type]  # nothing that a worker cannot say
        self._bus.publish(reply, body, headers)


class Sleepers:
    """All of them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._by_id: dict[str, Sleeper] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def be(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        """Be these as well; answered once all are registered."""
        task = asyncio.ensure_future(self._join(msgspec.json.decode(body, type=Fleet), reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, fleet: Fleet, reply: str) -> None:
        for number in range(1, fleet.count + 1):
            name = f"{fleet.name}-{number}"
            worker = Worker(name, fleet.kind, seed=number, capability=fleet.capability)
            sleeper = self._by_id[name] = Sleeper(self._bus, worker, in_line=bool(fleet.subject))
            if fleet.subject:
                await self._bus.subscribe(fleet.subject, sleeper.take, "sleepers")
            else:
                dotted = fleet.capability.replace(":", ".")
                await self._bus.subscribe(f"crank.worker.{name}.{dotted}", sleeper.take)
                await self._register(worker.manifest)
        await self._bus.flush()
        self._bus.publish(reply, b"{}")

    async def _register(self, manifest: Manifest) -> None:
        body = msgspec.json.encode(manifest)
        answer = await self._bus.request(f"crank.register.{manifest.worker_id}", body)
        if b"registered" not in answer.body:
            raise SystemExit(f"{manifest.worker_id} is not taken: {answer.body.decode()}")

    def change(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        """One of them is slower, or fails more, or is mended."""
        change = msgspec.json.decode(body, type=Change)
        worker = self._by_id[change.worker].worker
        worker.slower, worker.fails = change.slower, change.fails
        self._bus.publish(reply, b"{}")

    def seen(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        """When one of them was given something, by the clock of this machine."""
        self._bus.publish(reply, msgspec.json.encode(self._by_id[body.decode()].given_at))

    async def beat(self) -> None:
        """Say that all of them are there, for ever."""
        seq = 0
        while True:
            seq += 1
            for name, sleeper in self._by_id.items():
                beat = Heartbeat(seq, sleeper.worker.manifest.instance)
                self._bus.publish(f"crank.heartbeat.{name}", msgspec.json.encode(beat))
            await asyncio.sleep(_BEAT_S)


async def serve(bus: Bus) -> None:
    """Be whom others say."""
    sleepers = Sleepers(bus)
    handlers: dict[str, Any] = {BE: sleepers.be, CHANGE: sleepers.change, SEEN: sleepers.seen}
    for subject, handler in handlers.items():
        await bus.subscribe(subject, handler)
    await sleepers.beat()


async def _connect(url: str, name: str) -> Bus:
    return await Bus.connect(url, name=name)


if __name__ == "__main__":
    run(serve, "bench sleepers", _connect)
