"""Owns the run of one worker from connecting to closing, and what control messages do to it.

Wires the bus, the lifespans, the desk (``workers.dispatching``) and the standing (``workers.membership``).
``Worker.serve``, ``workers.process`` and the command line call ``serve``; ``crank.testing`` has a connection already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from bus import Bus, BusUnavailable, Subscription
from subjects.errors import Refusal
from subjects.manifests import Bid, Manifest, parse_manifest
from subjects.messages import encode, parse_control
from subjects.names import QUEUE_WORKER, Subjects
from subjects.tokens import TOKEN_RULE, is_token
from workers.calling import Calls
from workers.dependencies import Overrides
from workers.dispatching import Dispatching
from workers.errors import DeclarationError
from workers.lifespan import Lifespan
from workers.membership import Load, Membership
from workers.outbox import Outbox
from workers.worker import Worker

log = logging.getLogger("crank.worker")


async def serve(
    worker: Worker,
    nats_url: str,
    worker_id: str | None,
    prefix: str,
    stop: asyncio.Event | None,
    drain_timeout_s: float,
) -> int:
    """See ``Worker.serve``. How many plain handlers still run, in threads that nothing can interrupt.

    A cancelled ``serve`` leaves too, but does not wait for what runs.
    """
    running = Running(worker, worker_id, prefix)
    bus = await Bus.connect(nats_url, name=f"crank-worker-{running.worker_id}", on_reconnect=running.reconnected)
    return await running.serve(bus, stop or asyncio.Event(), drain_timeout_s)


class Running:
    """A worker under an id, to be served on a connection. ``overrides`` puts functions in the place of dependencies.

    Raises:
        DeclarationError: it cannot be served as it is.

    """

    def __init__(self, worker: Worker, worker_id: str | None, prefix: str, overrides: Overrides | None = None) -> None:
        ident = worker.default_id if worker_id is None else worker_id
        if not (is_token(ident) and is_token(prefix)):
            raise DeclarationError(f"a worker's id and the prefix are each {TOKEN_RULE}, not {ident!r} and {prefix!r}")
        manifest = worker.manifest(ident, secrets.token_hex(8))
        whole = parse_manifest(encode(manifest), ident)
        if isinstance(whole, Refusal):
            raise DeclarationError(f"worker {worker.name} cannot be served: {whole.detail}")
        self.registered = asyncio.Event()
        """Set once a controller has accepted it."""
        self._lifespans, self._offers = worker.planned(overrides or {})
        self._manifest = manifest
        self._bids = worker.bids
        self._subjects = Subjects(prefix)
        self._standing: _Standing | None = None

    @property
    def worker_id(self) -> str:
        """Its id."""
        return self._manifest.worker_id

    async def reconnected(self) -> None:
        """The connection is back: register again."""
        if self._standing is not None:
            self._standing.membership.due()

    async def serve(self, bus: Bus, stop: asyncio.Event, drain_timeout_s: float) -> int:
        """Open the lifespans, register, work until ``stop`` is set, drain, close everything, ``bus`` too.

        How many plain handlers still run.

        Raises:
            LifespanError, RegistrationRefused: as ``Worker.serve``.

        """
        lifespan = Lifespan(self._lifespans)
        stopping = asyncio.create_task(stop.wait())
        try:
            if not await lifespan.opened(stopping):
                return 0
            return await self._work(bus, lifespan.resources, stopping, drain_timeout_s)
        finally:
            stopping.cancel()
            try:
                await lifespan.close()
            finally:
                await bus.close()

    async def _work(
        self, bus: Bus, resources: Mapping[Any, Any], stopping: asyncio.Future[Any], drain_timeout_s: float
    ) -> int:
        outbox, ident = Outbox(bus), self._manifest.worker_id
        calls = Calls(bus, self._subjects.prefix)
        desk = Dispatching(self._subjects, ident, self._offers, outbox, calls, resources)

        def on_registered() -> None:
            outbox.send_kept()
            self.registered.set()

        standing = _Standing(bus, self._subjects, self._manifest, desk, self._bids, on_registered)
        self._standing = standing
        patience_s = 0.0
        try:
            await standing.begin()
            ends: set[asyncio.Future[Any]] = {stopping, standing.membership.refused}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            patience_s = drain_timeout_s
        finally:
            left = await standing.end(patience_s)
        if standing.membership.refused.done():
            standing.membership.refused.result()
        return left


class _Standing:
    """A worker that takes part."""

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        manifest: Manifest,
        desk: Dispatching,
        bids: Mapping[str, float | Bid],
        on_registered: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._manifest = manifest
        self._subjects = subjects
        self._desk = desk
        self._bids = bids
        self.membership = Membership(bus, subjects, manifest, self._load, on_registered)
        self._dispatches: Subscription | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def _load(self) -> Load:
        return Load(self._desk.in_flight, self._desk.capacity, self._desk.draining, self._bids)

    async def begin(self) -> None:
        """Listen first and register then: a dispatch may follow the acknowledgement at once."""
        ident = self._manifest.worker_id
        self._dispatches = await self._bus.subscribe(
            self._subjects.worker_all(ident), self._desk.on_dispatch, QUEUE_WORKER
        )
        await self._bus.subscribe(self._subjects.control(ident), self._on_control)
        self.membership.start()

    def _on_control(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        control = parse_control(body)
        if isinstance(control, Refusal):
            log.debug("a control message was ignored: %s", control.detail)
            return
        match control.op:
            case "cancel":
                self._desk.cancel(control.dispatch_id or "")
            case "reregister":
                self.membership.due()
            case "drain":
                log.info("%s is told to drain", self._manifest.worker_id)
                self._leave("drain")

    def _leave(self, reason: str) -> None:
        self._desk.draining = True
        self._leaving.add(asyncio.create_task(self.membership.leave(reason)))

    async def end(self, patience_s: float) -> int:
        """Leave, finish what runs within ``patience_s`` seconds. How many handlers would not end."""
        try:
            busy = self._desk.in_flight
            log.info(
                "%s leaves%s", self._manifest.worker_id,
                f", and first finishes {busy} that it has in hand; once more ends it at once" if busy else "",
            )  # fmt: skip
            self._leave("shutdown")
            left = await self._desk.drain(patience_s)
            await asyncio.gather(*self._leaving)
            # A controller that has not heard yet is told "draining" until here, and "nobody listens" afterwards.
            if self._dispatches is not None:
                await self._bus.unsubscribe(self._dispatches)
            with contextlib.suppress(BusUnavailable):
                await self._bus.flush()
        finally:
            self.membership.stop()
        return left
