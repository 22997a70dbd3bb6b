"""Owns the work that runs beside the loop: what was begun may finish, for a while, before a controller stops.

For what is rare or large; a request's own path has no task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from bus.ending import end


class Background:
    """Tasks that nobody waits for until ``stop``."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Begin ``work``, which tells what comes of it by itself."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, patience_s: float) -> None:
        """Return when all is done; what is not within ``patience_s`` is cancelled."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=patience_s)
        for task in late:
            await end(task)
