"""Owns what is asked when the troubles are over: is everybody back, what became of every key and of every job.

``chaos.run`` calls it; what it hears is written down like any other attempt, as asked in the calm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import TypeVar

import msgspec

from chaos.asking import attempt
from chaos.calls import Line
from chaos.load import heard
from chaos.plan import Operation
from chaos.story import ANSWERED, Story
from subjects.names import Subjects

_READY_S = 60.0
# A job whose controller was killed is delivered again when the acknowledgement is overdue: after half a minute.
_JOBS_S = 120.0
_KEYS_S = 60.0
_POLL_S = 0.2
# One answer of the queue group is one controller's; so many in a row have asked all of them.
_IN_A_ROW = 8
_AT_ONCE = 48
_ANSWERED_SAMPLE = 500
_CALM_TRIES = 4
_FIRST_CALM_NUMBER = 30
_FINAL = ANSWERED | {"outcome_unknown"}
_subjects = Subjects()
T = TypeVar("T")


class NotReady(Exception):
    """The installation is not what it should be, though nobody is in trouble; the message says what is missing."""


async def until_all_serve(line: Line, workers: Iterable[str]) -> None:
    """Wait until whoever is asked knows all ``workers`` as alive.

    Raises:
        NotReady: it takes too long.

    """
    good, heard_last = 0, "nothing"
    until = time.monotonic() + _READY_S
    while good < _IN_A_ROW:
        replies = await line.ask(_subjects.admin("workers"), b"{}", (), 2.0)
        body = replies[-1].body if replies else b""
        alive = _alive(body)
        good = good + 1 if alive >= set(workers) else 0
        heard_last = ", ".join(sorted(alive)) or repr(body[:200])
        if time.monotonic() > until:
            raise NotReady(f"not all workers serve after {_READY_S:g} s; heard last: {heard_last}")
        if not good:
            await asyncio.sleep(_POLL_S)


def _alive(body: bytes) -> set[str]:
    try:
        workers = msgspec.json.decode(body).get("workers", ())
        return {worker["worker_id"] for worker in workers if worker["state"] == "alive"}
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError):
        return set()


async def ask_again(lines: list[Line], story: Story, seed: int) -> None:
    """Each key once more: all that have no answer yet, and some that have."""
    answered = {one.operation for one in story.attempts if one.outcome in ANSWERED and one.what == "request"}
    keyed = [operation for operation in story.operations.values() if operation.keyed and operation.kind != "job"]
    known = [operation for operation in keyed if operation.id in answered]
    again = Random(f"settle {seed}").sample(known, min(len(known), _ANSWERED_SAMPLE))

    until = time.monotonic() + _KEYS_S

    async def ask(operation: Operation, line: Line) -> None:
        for number in range(_FIRST_CALM_NUMBER, _FIRST_CALM_NUMBER + _CALM_TRIES):
            made = await attempt(line, operation, number, calm=True)
            story.attempts.append(made)
            if made.outcome in _FINAL or made.replayed or time.monotonic() > until:
                return
            await asyncio.sleep(_POLL_S)

    await _each([*(operation for operation in keyed if operation.id not in answered), *again], lines, ask)


async def results(lines: list[Line], story: Story) -> None:
    """The outcome of every accepted job, waited for, and then asked for once more."""
    until = time.monotonic() + _JOBS_S
    waiting = list(story.jobs)

    async def ask(operation: str, line: Line) -> None:
        await heard(story, line, operation, 1000, calm=True)

    while waiting and time.monotonic() < until:
        await _each(waiting, lines, ask)
        waiting = [operation for operation in waiting if not story.jobs[operation].results]
        await asyncio.sleep(_POLL_S)
    await _each([operation for operation in story.jobs if story.jobs[operation].results], lines, ask)


async def jobs_in_stream(line: Line) -> int:
    """How many jobs the stream still holds, once it holds none or patience is over; 0 where there is no stream."""
    until = time.monotonic() + _JOBS_S
    while True:
        replies = await line.ask(f"$JS.API.STREAM.INFO.{_subjects.stream_jobs}", b"", (), 2.0)
        info = msgspec.json.decode(replies[-1].body) if replies and replies[-1].body else {}
        waiting = info.get("state", {}).get("messages", 0)
        if not waiting or time.monotonic() > until:
            return int(waiting)
        await asyncio.sleep(_POLL_S)


async def _each(items: Iterable[T], lines: list[Line], ask: Callable[[T, Line], Awaitable[None]]) -> None:
    """``ask`` for every item, a few at a time."""
    rest = iter(list(items))

    async def work(line: Line) -> None:
        for item in rest:
            await ask(item, line)

    await asyncio.gather(*(work(lines[number % len(lines)]) for number in range(_AT_ONCE)))
