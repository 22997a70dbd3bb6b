"""A controller as a worker sees it: full dispatches, as fast as they are answered. ``python -m bench.dispatcher URL``.

It chooses nobody and keeps no record, so that two workers are compared and not two routers.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from bench.load import PAYLOAD, Figures, Load, Task
from bench.paths import measure_subject
from bench.plain import run
from bus import Bus
from subjects.dispatches import build_dispatch

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Dispatcher:
    """Sends a dispatch the moment the one before it in the same slot is answered."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._inbox = bus.new_inbox()
        self._skip = len(self._inbox) + 1
        self._load: Load | None = None
        self._number = 0
        self._serial = 0

    async def listen(self) -> None:
        """Take answers from now on."""
        await self._bus.subscribe(f"{self._inbox}.*", self._on_answer)

    async def measure(self, task: Task) -> Figures:
        """Do ``task`` and count."""
        self._number += 1
        self._load = load = Load(task, self._number)
        for slot in range(task.in_flight):
            self._send(load, slot)
        return await load.figures()

    def _send(self, load: Load, slot: int) -> None:
        self._serial += 1
        dispatch_id = f"{self._serial:024x}"
        block = build_dispatch(
            traceparent=f"00-{_TRACE}-{self._serial:016x}-01",
            request_id=f"019365f0-0000-7000-8000-{self._serial:012x}",
            dispatch_id=dispatch_id,
            attempt=1,
            timeout_ms=30_000,
            version="1.0.0",
            caller="anonymous",
            priority="normal",
            content_type="application/json",
            idempotency_key=None,
            tracestate=None,
            passed="",
        )
        load.sent(slot)
        self._bus.publish(load.subject, PAYLOAD, block, f"{self._inbox}.{load.number}-{slot}")

    def _on_answer(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        number, _, slot = subject[self._skip :].partition("-")
        load = self._load
        if load is not None and int(number) == load.number and load.answered(int(slot), body):
            self._send(load, int(slot))


async def serve(bus: Bus) -> None:
    """Measure what is asked for."""
    dispatcher = Dispatcher(bus)
    await dispatcher.listen()
    under_way: set[asyncio.Task[Any]] = set()

    async def measure(reply: str, task: Task) -> None:
        bus.publish(reply, msgspec.json.encode(await dispatcher.measure(task)))

    def on_task(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        task = asyncio.create_task(measure(reply, msgspec.json.decode(body, type=Task)))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    await bus.subscribe(measure_subject("dispatcher"), on_task)


async def _connect(url: str, name: str) -> Bus:
    return await Bus.connect(url, name=name)


if __name__ == "__main__":
    run(serve, "bench dispatcher", _connect)
