"""Owns the callers: each operation is asked for as a careful caller would, and what came of it is written down.

A caller repeats what has a key until it has an answer, with the same key and payload, and never what has none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from random import Random

import msgspec

from chaos.asking import Accepted, ask_result, attempt, cancel
from chaos.calls import Line
from chaos.plan import Operation
from chaos.story import ANSWERED, Attempt, Job, Story

TRIES = 6
# What another try cannot change.
_FINAL = ANSWERED | {"outcome_unknown", "cancelled"}
_BACK_OFF_S = 0.1
_RESULT_WAIT_MS = 1000
_RESULT_ASKED = 0.3
# In request ids; tries have the numbers below.
_TWIN, _REPEATED = 10, 20


class Load:
    """Callers on a few connections. ``story`` gets every attempt."""

    def __init__(self, lines: list[Line], story: Story, seed: int) -> None:
        self._lines = lines
        self._story = story
        self._random = Random(f"load {seed}")
        self.open = 0
        """Operations that are not over."""
        self.late_s = 0.0
        """How far this process fell behind the plan, at worst."""

    async def run(self, operations: Iterable[Operation], began: float) -> None:
        """Ask for all of it, each at its time after ``began``, whatever has become of the others; return at the end."""
        async with asyncio.TaskGroup() as group:
            for operation in operations:
                ahead = began + operation.at_s - time.monotonic()
                if ahead > 0:
                    await asyncio.sleep(ahead)
                else:
                    self.late_s = max(self.late_s, -ahead)
                self._story.operations[operation.id] = operation
                group.create_task(self._perform(operation))

    async def _perform(self, operation: Operation) -> None:
        self.open += 1
        line, other = self._random.sample(self._lines, 2)
        try:
            if operation.kind == "job":
                await self._job(operation, line)
            elif operation.keyed:
                asks = [self._until_known(operation, line)]
                if operation.twin:
                    asks.append(self._twin(operation, other))
                await asyncio.gather(*asks)
                if operation.repeated:
                    await self._attempt(operation, other, _REPEATED)
            else:
                self._cancel_soon(operation, line)
                await self._attempt(operation, line, 0)
        finally:
            self.open -= 1

    async def _attempt(self, operation: Operation, line: Line, number: int, on_duplicate: str = "attach") -> Attempt:
        made = await attempt(line, operation, number, on_duplicate=on_duplicate)
        self._story.attempts.append(made)
        return made

    async def _until_known(self, operation: Operation, line: Line) -> None:
        self._cancel_soon(operation, line)
        for number in range(TRIES):
            made = await self._attempt(operation, line, number)
            if made.outcome in _FINAL:
                return
            await self._back_off(number)

    def _cancel_soon(self, operation: Operation, line: Line) -> None:
        if operation.cancelled:
            asyncio.get_running_loop().call_later(operation.ms / 2000, cancel, line, f"{operation.id}-0")

    async def _back_off(self, number: int) -> None:
        await asyncio.sleep(_BACK_OFF_S * 2**number * self._random.uniform(0.5, 1.5))

    async def _twin(self, operation: Operation, line: Line) -> None:
        await asyncio.sleep(operation.ms / 1000 * self._random.random())
        await self._attempt(operation, line, _TWIN, operation.twin)

    async def _job(self, operation: Operation, line: Line) -> None:
        job = await self._accepted(operation, line)
        if job is None:
            return
        if operation.cancelled:
            cancel(line, job.job_id)
        if operation.repeated:
            accept(self._story, operation, await self._attempt(operation, line, _REPEATED))
        if self._random.random() < _RESULT_ASKED:
            await heard(self._story, line, operation.id, _RESULT_WAIT_MS)

    async def _accepted(self, operation: Operation, line: Line) -> Job | None:
        # Without a key, another submit would be another job.
        for number in range(TRIES if operation.keyed else 1):
            job = accept(self._story, operation, await self._attempt(operation, line, number))
            if job is not None:
                return job
            await self._back_off(number)
        return None


def accept(story: Story, operation: Operation, made: Attempt) -> Job | None:
    """The job that an answer to a submit promises, if it does."""
    if made.outcome != "answer":
        return None
    try:
        accepted = msgspec.json.decode(made.body, type=Accepted)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    job = story.jobs.setdefault(operation.id, Job(accepted.job_id))
    job.accepted += 1
    job.ids.add(accepted.job_id)
    return job


async def heard(story: Story, line: Line, operation: str, wait_ms: int, *, calm: bool = False) -> str:
    """Ask for a job's result; returns its status, or "" when that cannot be told now."""
    job = story.jobs[operation]
    made, status = await ask_result(line, operation, job.job_id, wait_ms, calm=calm)
    story.attempts.append(made)
    job.last_heard = status or made.outcome
    if status in ("done", "dead", "cancelled"):
        job.results.add((status, made.outcome, made.body))
    return status
