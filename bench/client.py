"""The caller of all three paths: nats-py with one inbox for all replies. ``python -m bench.client URL``.

It is told over NATS what to measure, one thing at a time, and answers with the figures. A reply that is not what was
sent counts as an error, and with an error there are no figures.
"""

from __future__ import annotations

import asyncio
import json
from time import perf_counter_ns
from typing import NamedTuple

import msgspec

from bench import paths
from bench.plain import Client, Msg, connect_end, run

# A JSON object of 128 bytes, as the router may look into it.
PAYLOAD = json.dumps({"text": "x" * 116}).encode()
assert len(PAYLOAD) == 128
# The router's own patience with a worker is 30 s; nothing here takes a tenth of that.
_LAST_REPLY_S = 5.0


class Task(msgspec.Struct):
    """What to measure: requests to ``subject`` for ``seconds``, always ``in_flight`` of them on their way."""

    subject: str
    in_flight: int
    seconds: float


class Figures(msgspec.Struct):
    """What came of it. ``error`` is empty when every request was answered rightly."""

    count: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    error: str = ""


class _Run(NamedTuple):
    """One measurement under way. ``sent`` is the time of each slot's request, ``took`` all latencies, nanoseconds."""

    subject: str
    number: int
    ends_at: int
    sent: list[int]
    took: list[int]
    done: asyncio.Future[str]


class Caller:
    """Sends a request the moment the one before it in the same slot is answered."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._inbox = connection.new_inbox()
        self._skip = len(self._inbox) + 1
        self._run: _Run | None = None
        self._number = 0
        self._open = 0

    async def listen(self) -> None:
        """Take replies from now on."""
        await self._connection.subscribe(f"{self._inbox}.*", cb=self._on_reply)

    async def measure(self, task: Task) -> Figures:
        """Do ``task`` and count."""
        self._number += 1
        self._open = task.in_flight
        start = perf_counter_ns()
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        run = _Run(task.subject, self._number, start + int(task.seconds * 1e9), [0] * task.in_flight, [], done)
        self._run = run
        for slot in range(task.in_flight):
            await self._send(run, slot)
        try:
            error = await asyncio.wait_for(done, task.seconds + _LAST_REPLY_S)
        except TimeoutError:
            error = f"{self._open} of {task.in_flight} requests on {task.subject} were never answered"
        self._run = None
        took = sorted(run.took)
        if error or not took:
            return Figures(error=error or "nothing was answered")
        seconds = (perf_counter_ns() - start) / 1e9
        return Figures(len(took), seconds, took[len(took) // 2] / 1e6, took[len(took) * 99 // 100] / 1e6)

    async def _send(self, run: _Run, slot: int) -> None:
        run.sent[slot] = perf_counter_ns()
        await self._connection.publish(run.subject, PAYLOAD, f"{self._inbox}.{run.number}-{slot}")

    async def _on_reply(self, message: Msg) -> None:
        now = perf_counter_ns()
        number, _, slot = message.subject[self._skip :].partition("-")
        run = self._run
        if run is None or int(number) != run.number or run.done.done():
            return
        if message.data != PAYLOAD:
            run.done.set_result(f"{run.subject} answered {message.data[:300]!r}")
            return
        index = int(slot)
        run.took.append(now - run.sent[index])
        if now < run.ends_at:
            await self._send(run, index)
            return
        self._open -= 1
        if self._open == 0:
            run.done.set_result("")


async def serve(connection: Client) -> None:
    """Measure what is asked for."""
    caller = Caller(connection)
    await caller.listen()

    async def on_task(message: Msg) -> None:
        figures = await caller.measure(msgspec.json.decode(message.data, type=Task))
        await connection.publish(message.reply, msgspec.json.encode(figures))

    await connection.subscribe(paths.MEASURE, cb=on_task)


if __name__ == "__main__":
    run(serve, "bench client", connect_end)
