"""Owns what a worker opens once: its lifespans, in order before it registers, closed in reverse after it has drained.

All in one task, and what is plain among them in one thread, since what is entered in one is often to be left in the
same. ``workers.runtime`` calls it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import traceback
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any

from workers.dependencies import Plan, Provider, name_of
from workers.errors import LifespanError

log = logging.getLogger("crank.worker")


class Lifespan:
    """The lifespans of one running worker; ``resources`` is what they yielded, by function."""

    def __init__(self, plan: Plan) -> None:
        self.resources: dict[Any, Any] = {}
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._live(plan), name="crank-lifespan")

    async def opened(self, stopping: asyncio.Future[Any]) -> bool:
        """Whether all are open; False when ``stopping`` was done first.

        Raises:
            LifespanError: one of them failed; those before it are closed.

        """
        await asyncio.wait((self._task, self._opened, stopping), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        return self._opened.done()

    async def close(self) -> None:
        """Close what is open, and open no more.

        Raises:
            LifespanError: one of them failed; the others are closed.

        """
        if self._task.done():
            return
        self._closing.set()
        if not self._opened.done():
            self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.result()

    async def _live(self, plan: Plan) -> None:
        thread = ThreadPoolExecutor(1, "crank-lifespan")
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(thread.shutdown, wait=False)
            for provider in plan:
                given = {name: self.resources[key] for name, key in provider.needs.items()}
                self.resources[provider.key] = await stack.enter_async_context(_told(provider, given, thread))
            self._opened.set_result(None)
            await self._closing.wait()


@contextlib.asynccontextmanager
async def _told(provider: Provider, given: dict[str, Any], thread: Executor) -> AsyncIterator[Any]:
    """The lifespan; whatever it raises, as what a person is told."""
    doing = "open"
    try:
        async with _open(provider, given, thread) as value:
            doing = "close"
            yield value
    except LifespanError:  # of one that was opened after it
        raise
    except Exception as error:
        name = name_of(provider.function)
        log.debug("%s", name, exc_info=error)
        raise LifespanError(
            f"the lifespan {name} did not {doing}: {type(error).__name__}: {error}{_place(provider, error)}"
        ) from error


def _place(provider: Provider, error: Exception) -> str:
    """Where in the lifespan's own file it failed."""
    file = inspect.unwrap(provider.function).__code__.co_filename
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"\n  at {file}:{lines[-1]}" if lines else ""


@contextlib.asynccontextmanager
async def _open(provider: Provider, given: dict[str, Any], thread: Executor) -> AsyncIterator[Any]:
    run = partial(asyncio.get_running_loop().run_in_executor, thread)
    match provider.kind:
        case "async generator":
            async with contextlib.asynccontextmanager(provider.function)(**given) as value:
                yield value
        case "coroutine":
            yield await provider.function(**given)
        case "plain generator":
            manager = contextlib.contextmanager(provider.function)(**given)
            value = await run(manager.__enter__)
            try:
                yield value
            finally:
                await run(manager.__exit__, None, None, None)
        case "plain":
            yield await run(partial(provider.function, **given))
