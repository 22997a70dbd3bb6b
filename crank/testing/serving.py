"""Owns workers, a controller and a client in one process: what a test of handlers needs, without NATS or a port.

The core, the edges and the SDK are the real ones; only the network and JetStream are in memory.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypedDict, Unpack

from callers import Client
from controller.app import Controller
from controller.assembly import Link
from controller.settings import ControllerSettings
from crank.testing.exchange import Exchange, MemoryBus
from crank.testing.streams import MemoryStreams
from workers import DeclarationError, Worker
from workers.runtime import Running

# Settings of whoever runs the tests are none of theirs, nor are the objectives and limits of the folder they run in.
_NOBODYS: dict[str, Any] = {"_env_prefix": "CRANK_TESTING_IGNORES_", "slos": None, "limits_file": None}


class Settings(TypedDict, total=False):
    """The controller's settings that mean something here; see ``docs/quickstart.md``."""

    default_timeout_ms: int
    max_body_bytes: int
    queue_limit: int
    max_attempts: int
    heartbeat_interval_s: float


@asynccontextmanager
async def serving(
    *workers: Worker,
    overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
    drain_timeout_s: float = 1.0,
    **settings: Unpack[Settings],
) -> AsyncIterator[Client]:
    """A client whose requests these workers answer; to be entered with ``async with``.

    ``overrides`` puts functions in the place of those that handlers depend on, lifespans too:
    ``{open_session: fake_session}``. The workers' ids are ``<name>-1``, ``<name>-2``, …

    When the block ends, what still runs may finish for ``drain_timeout_s``; then everything is stopped and closed, the
    client last.

    Raises:
        DeclarationError: a worker cannot be served, or depends on nothing that is to be replaced.
        LifespanError: a lifespan failed.
        TypeError, ValueError: there is no such setting, or it cannot have this value.

    """
    if unknown := settings.keys() - Settings.__annotations__.keys():
        raise TypeError(f"no setting {', '.join(unknown)}; there are {', '.join(Settings.__annotations__)}")
    _check(workers, overrides or {})
    exchange = Exchange()
    streams = MemoryStreams(MemoryBus(exchange))
    values: dict[str, Any] = {**settings, **_NOBODYS, "drain_timeout_s": drain_timeout_s}
    controller = Controller(ControllerSettings(**values))
    prefix = controller.settings.prefix
    async with AsyncExitStack() as stack:
        caller = MemoryBus(exchange)
        client = await stack.enter_async_context(await Client.on(caller, prefix))
        stack.push_async_callback(caller.flush)
        stack.push_async_callback(controller.stop)
        bus = MemoryBus(exchange)
        await controller.start(Link(bus, streams, streams.tail))
        for ident, worker in _named(workers):
            running = Running(worker, ident, prefix, overrides)
            await stack.enter_async_context(_served(running, MemoryBus(exchange), drain_timeout_s))
        yield client


@asynccontextmanager
async def _served(running: Running, bus: MemoryBus, drain_timeout_s: float) -> AsyncIterator[None]:
    """From the worker's registration until it has left."""
    stop = asyncio.Event()
    serve = asyncio.create_task(running.serve(bus, stop, drain_timeout_s))
    registered = asyncio.create_task(running.registered.wait())
    try:
        await asyncio.wait((serve, registered), return_when=asyncio.FIRST_COMPLETED)
        if not serve.done():
            yield
    finally:
        registered.cancel()
        stop.set()
        if left := await serve:
            # Python waits for their threads, so that the tests would not end, and nobody would know why.
            warnings.warn(
                f"{left} handlers of {running.worker_id} still run; let plain ones return when ctx.cancelled is set",
                RuntimeWarning,
                stacklevel=2,
            )


def _named(workers: tuple[Worker, ...]) -> list[tuple[str, Worker]]:
    seen: Counter[str] = Counter()
    named = []
    for worker in workers:
        seen[worker.name] += 1
        named.append((f"{worker.default_id.removesuffix('1')}{seen[worker.name]}", worker))
    return named


def _check(workers: tuple[Worker, ...], overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
    known = {key for worker in workers for key in worker.dependencies}
    for function in overrides:
        if function not in known:
            name = getattr(function, "__qualname__", repr(function))
            raise DeclarationError(f"overrides: none of these workers depends on {name}")
