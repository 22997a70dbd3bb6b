"""Owns one measurement under way: always so many requests out, how long each took, and when it is over.

It sends nothing: ``client`` and ``dispatcher`` do, and tell it. An answer that is not what was sent is an error, and
with an error there are no figures.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter_ns

import msgspec

from bench.paths import Key
from crank.slo.measured import ordered, rounded

# A JSON object of 128 bytes, as the router may look into it; without spaces, as it is when it was read and written.
PAYLOAD = b'{"text":"' + b"x" * 117 + b'"}'
assert len(PAYLOAD) == 128
# The router's own patience with a worker is 30 s; nothing here takes a tenth of that.
_LAST_REPLY_S = 5.0


class Task(msgspec.Struct):
    """What to measure: requests to ``subject`` for ``seconds``, always ``in_flight`` of them on their way."""

    subject: str
    in_flight: int
    seconds: float
    key: Key = ""


class Figures(msgspec.Struct):
    """What came of it. ``error`` is empty when every request was answered rightly."""

    count: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    error: str = ""
    took_ms: tuple[tuple[float | None, float], ...] = ()
    """How many took how long, to three digits."""


class Load:
    """One measurement. Each slot holds one request; the next one leaves when it is answered."""

    def __init__(self, task: Task, number: int) -> None:
        self.subject = task.subject
        self.key = task.key
        self.number = number
        """Tells its answers from late ones of a measurement before."""
        self._start = perf_counter_ns()
        self._ends_at = self._start + int(task.seconds * 1e9)
        self._patience_s = task.seconds + _LAST_REPLY_S
        self._sent = [0] * task.in_flight
        self._open = task.in_flight
        self._took: list[int] = []
        self._done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def sent(self, slot: int) -> None:
        """A request leaves."""
        self._sent[slot] = perf_counter_ns()

    def answered(self, slot: int, body: bytes) -> bool:
        """Its answer came; whether another request shall leave in its place."""
        now = perf_counter_ns()
        if self._done.done():
            return False
        if body != PAYLOAD:
            self._done.set_result(f"{self.subject} answered {body[:300]!r}")
            return False
        self._took.append(now - self._sent[slot])
        if now < self._ends_at:
            return True
        self._open -= 1
        if self._open == 0:
            self._done.set_result("")
        return False

    async def figures(self) -> Figures:
        """Wait for the end, and count."""
        try:
            error = await asyncio.wait_for(self._done, self._patience_s)
        except TimeoutError:
            error = f"{self._open} of {len(self._sent)} requests on {self.subject} were never answered"
        if error:
            return Figures(error=error)
        seconds = (perf_counter_ns() - self._start) / 1e9
        took = sorted(self._took)
        times = ordered(Counter(rounded(each / 1e6) for each in took))
        return Figures(len(took), seconds, took[len(took) // 2] / 1e6, took[len(took) * 99 // 100] / 1e6, took_ms=times)
