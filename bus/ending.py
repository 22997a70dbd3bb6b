"""Owns ending a task for certain. Whoever runs one beside the loop calls it, when it stops.

A cancel is lost where what the task waits for comes in the same moment: in ``asyncio.wait_for`` before Python 3.12,
and so in most of nats-py. Whoever waited for such a task to end waited for ever.
"""

from __future__ import annotations

import asyncio
import logging

log = logging.getLogger("crank.bus")

_AGAIN_S = 0.2


async def end(task: asyncio.Task[None]) -> None:
    """Cancel ``task`` until it is over; an error that it ended with before is logged."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=_AGAIN_S)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s failed", task.get_name(), exc_info=error)
