"""Owns how a long-running command is asked to stop: SIGINT, SIGTERM, or the end of whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from typing import Any

# After its parent's death a child may drain this long; the NATS server it talked to goes down as well.
_ORPHAN_S = 5.0


def stop_event(*, with_parent: bool = False) -> asyncio.Event:
    """An event that is set on SIGINT and SIGTERM; a second signal ends the process at once.

    ``with_parent``: also when standard input closes, which is how a child learns that its parent was killed.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    if with_parent:
        loop.add_reader(0, _on_input, loop, stop)
    return stop


def _on_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    with contextlib.suppress(BlockingIOError):
        if os.read(0, 1024):
            return
        loop.remove_reader(0)
        loop.call_later(_ORPHAN_S, os._exit, 1)
        stop.set()


async def unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Whether ``work`` came to its end; it is cancelled when ``stop`` is set first. What it raises is raised."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        await working
        return True
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
