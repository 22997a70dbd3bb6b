"""Owns the run of one worker from connecting to closing, and what control messages do to it.

Wires the bus, the desk (``workers.dispatching``) and the standing (``workers.membership``). ``Worker.serve`` and
``workers.process`` call it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import Any

from bus import Bus, BusUnavailable, Subscription
from subjects.errors import Refusal
from subjects.manifests import Manifest, parse_manifest
from subjects.messages import encode, parse_control
from subjects.names import QUEUE_WORKER, Subjects
from subjects.tokens import TOKEN_RULE, is_token
from workers.calling import Calls
from workers.dispatching import Dispatching
from workers.errors import DeclarationError
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
    ident = worker.default_id if worker_id is None else worker_id
    if not (is_token(ident) and is_token(prefix)):
        raise DeclarationError(f"a worker's id and the prefix are each {TOKEN_RULE}, not {ident!r} and {prefix!r}")
    manifest = worker.manifest(ident, secrets.token_hex(8))
    whole = parse_manifest(encode(manifest), ident)
    if isinstance(whole, Refusal):
        raise DeclarationError(f"worker {worker.name} cannot be served: {whole.detail}")
    running: _Running | None = None

    async def back() -> None:
        if running is not None:
            running.membership.due()

    bus = await Bus.connect(nats_url, name=f"crank-worker-{ident}", on_reconnect=back)
    running = _Running(bus, worker, manifest, Subjects(prefix))
    stopping = asyncio.create_task((stop or asyncio.Event()).wait())
    patience_s = 0.0
    try:
        await running.begin()
        ends: set[asyncio.Future[Any]] = {stopping, running.membership.refused}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        patience_s = drain_timeout_s
    finally:
        stopping.cancel()
        left = await running.end(patience_s)
    if running.membership.refused.done():
        running.membership.refused.result()
    return left


class _Running:
    """A connected worker."""

    def __init__(self, bus: Bus, worker: Worker, manifest: Manifest, subjects: Subjects) -> None:
        self._bus = bus
        self._manifest = manifest
        self._subjects = subjects
        outbox = Outbox(bus)
        calls = Calls(bus, subjects.prefix)
        self._desk = Dispatching(subjects, manifest.worker_id, worker.offers, outbox, calls)
        self.membership = Membership(bus, subjects, manifest, self._load, outbox.send_kept)
        self._dispatches: Subscription | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def _load(self) -> Load:
        return Load(self._desk.in_flight, self._desk.capacity, self._desk.draining)

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
        """Leave, finish what runs within ``patience_s`` seconds, close. How many handlers would not end."""
        try:
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
            await self._bus.close()
        return left
