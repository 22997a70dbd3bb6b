"""Owns how the same is asked for again under one key: when, how long to wait before, and when to leave it.

It refuses to know what is asked for. ``callers.client`` calls it, for requests and for jobs.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from callers.failures import CrankError, Silence

T = TypeVar("T")

# The pauses double from the first to the last, so that a controller that comes back is not met by everybody at once.
_FIRST_PAUSE_S = 0.1
_LAST_PAUSE_S = 5.0
# A live controller is silent for as long as the work takes. The same key only joins what runs, so asking again after a
# while costs little; the while doubles, so that long work is not asked about for ever.
_FIRST_SILENCE_S = 2.0


def pause_s(tries: int, retry_after_ms: int | None, chance: float) -> float:
    """How long to wait after ``tries`` failures; never less than was asked for. ``chance`` is from 0 to 1."""
    backoff = min(_LAST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(tries, 10))
    asked = (retry_after_ms or 0) / 1000
    return max(backoff * (1 + chance) / 2, asked * (1 + chance / 10))


async def until_told(
    ask: Callable[[float, float], Awaitable[T]], total_s: float, key: str, closed: Callable[[], bool]
) -> T:
    """What ``ask(left_s, silence_s)`` returns, asked for again while its failures may pass and time is left.

    ``ask`` raises ``Silence`` when nothing came for ``silence_s``. ``closed`` says that nothing can come any more.

    Raises:
        CrankError: the last failure, with the key.

    """
    ends = time.monotonic() + total_s
    silence_s, tries = _FIRST_SILENCE_S, 0
    while True:
        try:
            return await ask(ends - time.monotonic(), silence_s)
        except CrankError as error:
            error.idempotency_key = key
            if closed() or not error.passing:
                raise
            if isinstance(error, Silence):
                silence_s *= 2 + random.random()
                wait_s = 0.0
            else:
                wait_s = pause_s(tries, error.problem.retry_after_ms, random.random())
                tries += 1
            if time.monotonic() + wait_s >= ends:
                if isinstance(error, Silence):
                    raise Silence(total_s, error.problem.request_id, key) from None
                raise
        await asyncio.sleep(wait_s)
