"""Owns a worker whose offers change while it runs, and that may leave and come back: the adopting process as one.

Wires the SDK's desk and membership as ``workers.runtime`` does for a worker that stays as it is declared.
``crank.adopting.adoption`` says what to offer and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets

from bus import Bus, BusUnavailable
from subjects.errors import Refusal
from subjects.messages import parse_control
from subjects.names import QUEUE_WORKER, Subjects
from subjects.tokens import WorkerId
from workers import Worker
from workers.calling import Calls
from workers.declarations import Offer
from workers.dispatching import Dispatching
from workers.membership import Load, Membership
from workers.outbox import Outbox

log = logging.getLogger("crank.adopt")


class Standing:
    """One worker id, in one process; ``membership`` is None while it is away."""

    def __init__(self, bus: Bus, subjects: Subjects, worker_id: WorkerId) -> None:
        self.membership: Membership | None = None
        self._bus = bus
        self._subjects = subjects
        self._worker_id = worker_id
        self._instance = secrets.token_hex(8)
        self._outbox = Outbox(bus)
        self._desk = Dispatching(subjects, worker_id, (), self._outbox, Calls(bus, subjects.prefix))
        self._offers: tuple[Offer, ...] = ()
        self._draining: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Listen: a dispatch may follow a registration at once."""
        everything = self._subjects.worker_all(self._worker_id)
        self._dispatches = await self._bus.subscribe(everything, self._desk.on_dispatch, QUEUE_WORKER)
        await self._bus.subscribe(self._subjects.control(self._worker_id), self._on_control)

    @property
    def drained(self) -> bool:
        """Whether a controller told it to drain: it leaves then, and is not offered again."""
        return self._draining is not None

    def offer(self, worker: Worker) -> None:
        """Offer what ``worker`` does, in place of what was offered before. What runs goes on."""
        offers, before = worker.offers, self._offers
        labels = {offer.label for offer in offers}
        # A controller that has not heard of the change yet still sends what was offered before it.
        gone = (offer for offer in before if offer.label not in labels)
        self._desk.replace((*offers, *gone))
        self._desk.draining = False
        self._offers = offers
        manifest = worker.manifest(self._worker_id, self._instance)
        if self.membership is None:
            self.membership = Membership(self._bus, self._subjects, manifest, self._load, self._outbox.send_kept)
            self.membership.start()
        else:
            self.membership.replace(manifest)

    async def leave(self, reason: str) -> None:
        """Take no more work, and say no more: what still runs is lost to its callers unless it is answered soon."""
        membership, self.membership = self.membership, None
        if membership is not None:
            self._desk.draining = True
            await membership.leave(reason)
            membership.stop()

    async def end(self, patience_s: float) -> None:
        """Leave, finish what runs within ``patience_s`` seconds, and stop listening."""
        membership = self.membership
        self._desk.draining = True
        leaving = [membership.leave("shutdown")] if membership is not None else []
        # Of what runs while the service is away, nobody will bring the end.
        patience_s = patience_s if membership is not None else 0.0
        await asyncio.gather(*leaving, self._desk.drain(patience_s))
        if membership is not None:
            membership.stop()
        # A controller that has not heard yet is told "draining" until here, and "nobody listens" afterwards.
        await self._bus.unsubscribe(self._dispatches)
        with contextlib.suppress(BusUnavailable):
            await self._bus.flush()

    def due(self) -> None:
        """Register again: the connection is back."""
        if self.membership is not None:
            self.membership.due()

    def _load(self) -> Load:
        capacity = sum(offer.capability.max_concurrency for offer in self._offers)
        return Load(self._desk.in_flight, capacity, self._desk.draining, {})

    def _on_control(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        control = parse_control(body)
        if isinstance(control, Refusal):
            log.debug("a control message was ignored: %s", control.detail)
            return
        match control.op:
            case "cancel":
                self._desk.cancel(control.dispatch_id or "")
            case "reregister":
                self.due()
            case "drain" if self.membership is not None:
                log.info("%s is told to drain", self._worker_id)
                self._desk.draining = True
                self._draining = asyncio.create_task(self.membership.leave("drain"))
