"""Owns a controller's life: connecting, replaying, listening, and draining. No decision and no bytes.

What it is made of is put together in ``assembly``. The command line and ``crank.testing`` call it.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from bus import Bus, Streams, Subscription, Tail
from bus.connection import BusError
from controller.assembly import Link, Parts, assemble
from controller.core.events import Closing
from controller.edge.registry_log import RegistryLog
from controller.payload import too_small
from controller.settings import ControllerSettings

if TYPE_CHECKING:
    from controller.edge.http import HttpPort

log = logging.getLogger("crank.controller")

_REPLAY_TIMEOUT_S = 60.0
# How often a draining controller looks whether its last request is done.
_DRAIN_POLL_S = 0.02


class Controller:
    """One controller: ``await start()``, serve, ``await stop()``."""

    def __init__(self, settings: ControllerSettings) -> None:
        self.settings = settings
        self.http_url = ""
        self._bus: Bus | None = None
        self._parts: Parts | None = None
        self._http: HttpPort | None = None
        self._intake: list[Subscription] = []
        self._draining = False

    async def start(self, link: Link | None = None) -> None:
        """Connect, replay the registry, subscribe; returns when requests are served.

        With a ``link`` of somebody's it stands on that, and has no HTTP port.

        Raises:
            BusUnavailable: no NATS server answers.
            BusError: JetStream is off, full or unreachable, or max_payload is too small; the message says which.
            OSError: the HTTP port cannot be had.

        """
        found = link or await self._connect()
        self._bus = bus = found.bus
        if (wrong := too_small(bus)) is not None:
            raise BusError("; ".join(wrong))
        self._parts = parts = assemble(self.settings, found)
        parts.loop.driver.start()
        await parts.rules.start()
        await parts.registry.start()
        await self._replayed(parts.registry)
        await parts.claims.start()
        await parts.jobs.start()
        for listener in parts.always:
            await bus.subscribe(*listener)
        for listener in parts.intake:
            self._intake.append(await bus.subscribe(*listener))
        await bus.flush()
        parts.counts.start()
        if link is None:
            await self._listen()
        log.info("controller %s serves on %s", self.settings.controller_id, bus.url)

    async def _connect(self) -> Link:
        name = f"crank-controller {self.settings.controller_id}"
        bus = await Bus.connect(self.settings.nats_url, name=name, on_reconnect=self._reconnected)
        return Link(bus, Streams(bus), partial(Tail, bus))

    async def _replayed(self, registry: RegistryLog) -> None:
        try:
            await asyncio.wait_for(registry.replayed.wait(), _REPLAY_TIMEOUT_S)
        except TimeoutError:
            raise BusError(f"the registry was not replayed within {_REPLAY_TIMEOUT_S:g} s") from None

    async def _listen(self) -> None:
        from controller.edge.http import HttpPort  # after the subscriptions: its import takes a tenth of a second

        self._http = HttpPort(self.settings.http_host, self.settings.http_port, self._not_ready)
        await self._http.start()
        self.http_url = self._http.url

    def _not_ready(self) -> str | None:
        if self._draining:
            return "draining"
        if self._bus is None or not self._bus.connected:
            return "not connected to NATS"
        if self._parts is None or not self._parts.registry.replayed.is_set():
            return "the registry is not replayed yet"
        return None

    async def _reconnected(self) -> None:
        log.warning("connected to NATS again")
        if self._parts is not None:
            for part in (self._parts.registry, self._parts.claims, self._parts.jobs, self._parts.counts):
                part.check()

    async def stop(self) -> None:
        """Leave the queue groups, finish what was accepted (up to ``drain_timeout_s``), say goodbye. Never raises."""
        self._draining = True
        bus, parts = self._bus, self._parts
        if bus is None:
            return
        if parts is not None:
            try:
                await self._leave(bus, parts)
            except BusError as error:
                log.warning("while draining: %s", error)
            await self._drained(parts)
            for part in (parts.counts, parts.alerts, parts.rules, parts.desk, parts.jobs, parts.claims, parts.registry):
                await part.stop()
            parts.loop.stop()
        if self._http is not None:
            await self._http.stop()
        await bus.close()

    async def _leave(self, bus: Bus, parts: Parts) -> None:
        """Take nothing more: without a connection too, since it would come back with everything that was subscribed."""
        for subscription in self._intake:
            await bus.unsubscribe(subscription)
        await parts.jobs.leave()
        if bus.connected:
            await bus.flush()  # what the server had already handed to us is in the core now

    async def _drained(self, parts: Parts) -> None:
        router, patience_s = parts.router, self.settings.drain_timeout_s
        for _ in range(int(patience_s / _DRAIN_POLL_S)):
            if not router.live and not router.lingering:
                return
            await asyncio.sleep(_DRAIN_POLL_S)
        if router.live:
            log.warning("%d requests are not done after %g s; they are given up", router.live, patience_s)
            parts.loop.driver.feed(Closing())
