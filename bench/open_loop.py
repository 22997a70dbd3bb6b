"""Owns a load that waits for nobody: requests leave at their own times, and each is timed from when it was to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from time import perf_counter

from bus import Bus
from simulation.scenarios.arrivals import Asked
from subjects.errors import Refusal
from subjects.headers import build_block, parse_block
from subjects.replies import read_reply

# What is still out then is counted as if it came now: the queue group's line at a slow member grows without end.
_REST_S = 3.0
_BODY = b"{}"


class OpenLoop:
    """One load on one subject. ``at`` of what is asked counts from ``begin``."""

    def __init__(self, bus: Bus, subject: str) -> None:
        self._bus = bus
        self._subject = subject
        self._inbox = bus.new_inbox()
        self._skip = len(self._inbox) + 1
        self._asked: list[Asked] = []
        self._out = 0
        self._begun = 0.0
        self._done = asyncio.Event()

    @property
    def begun(self) -> float:
        """When, by the clock of this machine."""
        return self._begun

    async def play(self, arrivals: Iterable[Asked]) -> Sequence[Asked]:
        """Ask all of these, each at its time."""
        listening = await self._bus.subscribe(f"{self._inbox}.*", self._replied)
        await self._bus.flush()
        self._begun = perf_counter()
        for asked in arrivals:
            early_s = self._begun + asked.at - perf_counter()
            if early_s > 0:
                await asyncio.sleep(early_s)
            self._ask(asked)
        self._done.clear()
        if self._out:
            try:
                await asyncio.wait_for(self._done.wait(), _REST_S)
            except TimeoutError:
                self._give_up()
        await self._bus.unsubscribe(listening)
        return self._asked

    def _ask(self, asked: Asked) -> None:
        pairs = []
        if asked.priority != "normal":
            pairs.append(("Crank-Priority", asked.priority))
        if asked.latency_ms is not None:
            pairs.append(("Crank-Latency-Ms", str(asked.latency_ms)))
        reply = f"{self._inbox}.{len(self._asked)}"
        self._asked.append(asked)
        self._out += 1
        self._bus.publish(self._subject, _BODY, build_block(pairs) if pairs else None, reply)

    def _replied(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        asked = self._asked[int(subject[self._skip :])]
        if asked.outcome:
            return
        asked.took_ms = (perf_counter() - self._begun - asked.at) * 1000
        block = parse_block(headers)
        assert not isinstance(block, Refusal), block
        read = read_reply(block)
        asked.outcome = "answered" if not read.code and not block.status else str(read.code or block.status)
        asked.workers = (read.meta.get("crank-worker", ""),)
        asked.tokens = float(read.meta.get("crank-cost-tokens", 0))
        self._out -= 1
        if not self._out:
            self._done.set()

    def _give_up(self) -> None:
        now = perf_counter() - self._begun
        for asked in self._asked:
            if not asked.outcome:
                asked.took_ms, asked.outcome = (now - asked.at) * 1000, "answered"
