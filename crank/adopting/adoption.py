"""Owns an adoption from the first look at a service to the goodbye: the plan is carried out anew whenever it changes.

Wires the watch, the plan, the relay and the standing. ``crank adopt`` calls it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from bus import Bus
from crank.adopting.plans import Offered, Wishes, plan
from crank.adopting.refusals import MAX_LINES, CannotAdopt, check_names, no_such_service, nothing_to_offer
from crank.adopting.relay import relay
from crank.adopting.standing import Standing
from crank.adopting.watch import Watch, services_there
from subjects.errors import Refusal
from subjects.headers import one_line
from subjects.manifests import parse_manifest
from subjects.messages import encode
from subjects.names import SERVICE_NAME, Subjects
from subjects.tokens import WorkerId
from workers import DeclarationError, Worker

log = logging.getLogger("crank.adopt")

# A service answers in a millisecond or two; one that is busy, or far away, gets this long before it counts as absent.
_FIRST_LOOK_S = 2.0
# Until the controllers say how often they want to hear of a worker.
_FIRST_INTERVAL_S = 0.5
_MAX_REMARK_CHARS = 240


async def adopt(
    nats_url: str,
    service: str,
    worker_id: WorkerId,
    prefix: str,
    wishes: Wishes,
    stop: asyncio.Event,
    drain_timeout_s: float,
) -> None:
    """Offer the endpoints of ``service`` until ``stop`` is set, then finish what runs.

    Raises:
        CannotAdopt: no such service, or nothing of it can be offered.
        BusUnavailable: no NATS server at ``nats_url``.
        RegistrationRefused: a controller will not take it.

    """
    if service == SERVICE_NAME:
        raise CannotAdopt(f"{service} is Crank itself: what it offers would be asked of it, again and again")
    adoption: _Adoption | None = None

    async def back() -> None:
        if adoption is not None:
            adoption.standing.due()

    bus = await Bus.connect(nats_url, name=f"crank-adopt-{service}", on_reconnect=back)
    try:
        adoption = _Adoption(bus, service, worker_id, Subjects(prefix), wishes)
        await adoption.run(stop, drain_timeout_s)
    finally:
        await bus.close()


class _Adoption:
    """One service and the worker that stands for it."""

    def __init__(self, bus: Bus, service: str, worker_id: WorkerId, subjects: Subjects, wishes: Wishes) -> None:
        self.standing = Standing(bus, subjects, worker_id)
        self._watch = Watch(bus, service)
        self._bus = bus
        self._service = service
        self._worker_id = worker_id
        self._subjects = subjects
        self._wishes = wishes
        self._offered: tuple[Offered, ...] = ()
        self._said: frozenset[str] = frozenset()

    async def run(self, stop: asyncio.Event, drain_timeout_s: float) -> None:
        """See ``adopt``."""
        await self.standing.begin()
        stopping = asyncio.create_task(stop.wait())
        asking = asyncio.create_task(self._ask_for_ever())
        patience_s = 0.0
        try:
            await self._watch.start()
            await self._next(stopping, _FIRST_LOOK_S)
            if not stop.is_set():
                await self._look_first()
            while not stop.is_set():
                await self._follow()
                await self._next(stopping)
            patience_s = drain_timeout_s
        finally:
            stopping.cancel()
            asking.cancel()
            await self.standing.end(patience_s)

    async def _ask_for_ever(self) -> None:
        interval_s = _FIRST_INTERVAL_S
        while True:
            if self.standing.membership is not None:
                interval_s = self.standing.membership.interval_s
            await asyncio.sleep(interval_s)
            self._watch.ask()

    async def _next(self, stopping: asyncio.Task[bool], timeout_s: float | None = None) -> None:
        """Wait for a change of the service, a refusal of the controllers, or the end."""
        changed = asyncio.create_task(self._watch.changed.wait())
        ends: set[asyncio.Future[Any]] = {changed, stopping}
        membership = self.standing.membership
        if membership is not None:
            ends.add(membership.refused)
        await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        self._watch.changed.clear()
        if membership is not None and membership.refused.done():
            membership.refused.result()

    async def _look_first(self) -> None:
        if not self._watch.there:
            raise no_such_service(self._service, await services_there(self._bus))
        check_names(self._service, self._watch.there, self._wishes)
        worker, _, remarks = self._planned()
        if not worker.offers:
            raise nothing_to_offer(self._service, remarks)

    def _planned(self) -> tuple[Worker, tuple[Offered, ...], list[str]]:
        """The worker that the service is now, from which endpoints, and what is to be said of the others."""
        planned = plan(self._service, self._watch.there, self._subjects, self._wishes)
        worker, offered, remarks = Worker(self._service), [], list(planned.remarks)
        for offer in planned.offers:
            handler = relay(self._bus, offer.subject)
            try:
                worker.capability(offer.capability, version=offer.version, **offer.metadata)(handler)
            except DeclarationError as error:
                remarks.append(f"left out: {error}")
            else:
                offered.append(offer)
        whole = parse_manifest(encode(worker.manifest(self._worker_id)), self._worker_id) if offered else None
        if isinstance(whole, Refusal):
            remarks.append(whole.detail)
            return Worker(self._service), (), remarks
        return worker, tuple(offered), remarks

    async def _follow(self) -> None:
        """Offer what there is now."""
        worker, offered, remarks = self._planned()
        for remark in [remark for remark in remarks if remark not in self._said][:MAX_LINES]:
            log.warning("%s: %s", self._service, one_line(remark, _MAX_REMARK_CHARS))
        self._said = frozenset(remarks)
        if offered == self._offered or self.standing.drained:
            return
        before, self._offered = self._offered, offered
        if offered:
            self._tell(before)
            self.standing.offer(worker)
            return
        what = f"nothing of {self._service} can be offered" if self._watch.there else f"{self._service} is gone"
        log.warning("%s; it is offered again when it is back", what)
        await self.standing.leave("the service is gone")

    def _tell(self, before: tuple[Offered, ...]) -> None:
        places = {offer.place for offer in before}
        labels = {offer.label for offer in self._offered}
        lines = [offer.place for offer in self._offered if offer.place not in places]
        lines += [f"{offer.label} no more" for offer in before if offer.label not in labels]
        if len(lines) > MAX_LINES:
            lines[MAX_LINES:] = [f"and {len(lines) - MAX_LINES} more"]
        count = len(self._watch.there)
        instances = "1 instance" if count == 1 else f"{count} instances"
        log.info("%s has %s%s", self._service, instances, " and offers" if lines else "")
        for line in lines:
            log.info("  %s", line)
