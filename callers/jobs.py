"""Owns what a caller holds of a durable request: that it was accepted, that it is not done yet, or its answer.

And how a result is waited for. ``callers.client`` calls it, and does the asking.
"""

from __future__ import annotations

import itertools
import random
import time
from asyncio import sleep
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from callers.failures import CrankError, Unreachable, failure
from callers.frames import Answer, Frame
from callers.once import pause_s
from subjects.errors import ErrorKind
from subjects.tokens import is_token

# Longer waits are asked for in pieces: a controller that dies in the middle of one costs no more.
_PIECE_S = 10.0


class Job(msgspec.Struct, frozen=True):
    """An accepted job. ``duplicate``: it was there before, with the same key and data."""

    job_id: str
    duplicate: bool = False


class Pending(msgspec.Struct, frozen=True):
    """A job that is not done."""

    job_id: str
    status: Literal["queued", "running"]


def read_job(frame: Frame) -> Job:
    """What ``submit`` was answered.

    Raises:
        CrankError: 502, it is something else.

    """
    job = frame.decode(Job)
    if not is_token(job.job_id):
        raise failure(ErrorKind.WORKER_PROTOCOL, f"The answer names no job: {job.job_id!r:.100} is no id.")
    return job


def read_result(frame: Frame, job_id: str) -> Answer | Pending:
    """What ``result`` was answered.

    Raises:
        CrankError: 502, it is something else.

    """
    match frame.job_status:
        case "done":
            return Answer("end", frame.seq, frame.body, frame.meta, frame.passed)
        case "queued" | "running" as status:
            return Pending(job_id, status)
        case status:
            detail = f"The answer does not say what became of the job: its status is {status!r:.60}."
            raise failure(ErrorKind.WORKER_PROTOCOL, detail)


async def until_done(
    ask: Callable[[float], Awaitable[Answer | Pending]], wait_s: float, closed: Callable[[], bool]
) -> Answer | Pending:
    """What ``ask(piece_s)`` tells of a job once it is done, or last when ``wait_s`` is over.

    Once something was told, a failure that may pass only takes time. ``closed`` says that nothing can be told any more.

    Raises:
        CrankError: whatever ``ask`` raises.

    """
    ends = time.monotonic() + wait_s
    known: Answer | Pending | None = None
    failed: CrankError | None = None
    for tries in itertools.count():
        began = time.monotonic()
        piece_s = min(max(ends - began, 0.001), _PIECE_S)
        try:
            known = await ask(piece_s)
        except CrankError as error:
            # A controller that died is followed by another one; where there is none at all, waiting is no use.
            if not error.passing or closed() or (known is None and isinstance(error, Unreachable)):
                raise
            failed = error
        now = time.monotonic()
        # A controller that is about to stop answers before the time.
        rest_s = pause_s(tries, None, random.random()) if now - began < piece_s / 2 else 0.0
        if isinstance(known, Answer) or now + rest_s >= ends:
            break
        await sleep(rest_s)
    if known is None:
        assert failed is not None, "something was told, or nothing could be"
        raise failed
    return known
