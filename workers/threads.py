"""Owns the way from a plain handler's thread to the event loop and back, for one dispatch.

``workers.context`` calls others over it, ``workers.injection`` opens async dependencies over it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Bridge:
    """Runs coroutines on ``loop`` for a thread that waits for them; ``stop`` ends those that are under way."""

    __slots__ = ("_loop", "_running", "_stopped")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running: set[asyncio.Task[Any]] = set()
        self._stopped = False

    def run(self, work: Coroutine[Any, Any, T], *, finish: bool = False) -> T:
        """The result of ``work``; only in a thread. With ``finish`` it also begins after ``stop``: it cleans up.

        Raises:
            concurrent.futures.CancelledError: stopped before it was done; and whatever ``work`` raises.

        """
        return asyncio.run_coroutine_threadsafe(self._followed(work, finish=finish), self._loop).result()

    async def _followed(self, work: Coroutine[Any, Any, T], *, finish: bool) -> T:
        if self._stopped and not finish:
            work.close()
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await work
        finally:
            self._running.discard(task)

    def stop(self) -> None:
        """On the loop: nobody waits for the dispatch any more."""
        self._stopped = True
        for task in self._running:
            task.cancel()
