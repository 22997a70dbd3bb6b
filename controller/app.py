"""Owns putting a controller together, starting it and draining it. No decision and no bytes: only wiring."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bus import Bus, Streams, Subscription, Tail
from bus.connection import BusError
from controller.core.commands import Command
from controller.core.events import Closing, Event
from controller.core.registry import Registry
from controller.core.router import Router
from controller.core.world import Limits, World
from controller.driver import Driver
from controller.edge.admin import Admin
from controller.edge.claims import ClaimStore
from controller.edge.desk import Desk
from controller.edge.dice import Dice
from controller.edge.inbound import Inbound
from controller.edge.jobs import JobStreams
from controller.edge.outbound import Outbound
from controller.edge.policy import OpenPolicy
from controller.edge.record_sink import RecordSink
from controller.edge.registry_log import RegistryLog, TailOf
from controller.edge.schemas import Schemas
from controller.edge.services import Services
from controller.payload import payload_room, too_small
from controller.settings import ControllerSettings
from subjects.names import QUEUE_CONTROLLERS, Subjects
from subjects.tokens import CapabilityId

if TYPE_CHECKING:
    from controller.edge.http import HttpPort

log = logging.getLogger("crank.controller")

_REPLAY_TIMEOUT_S = 60.0
# The router's own lines in a reply, each of a known length.
_REPLY_HEADERS_BYTES = 2048
# A job whose controller died is delivered again after this; one that is worked on says so three times a lease.
_ACK_WAIT_LEASES = 2
# How often a draining controller looks whether its last request is done.
_DRAIN_POLL_S = 0.02


class _Timeouts:
    """One patience for all, until objectives say more."""

    def __init__(self, default_ms: int) -> None:
        self._default_ms = default_ms

    def timeout_ms(self, capability: CapabilityId) -> int:
        """Milliseconds."""
        return self._default_ms


class _Loop:
    """The driver's surroundings in production: the clock, the event loop's one timer, the edge."""

    # Seconds; the event loop's own clock is too coarse to measure a request by.
    now = staticmethod(time.monotonic)
    perform: Callable[[Command], Event | None]
    """``Outbound.perform``, set before anything is fed to the driver."""

    def __init__(self) -> None:
        self.driver: Driver | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def wake_at(self, due: float) -> None:
        """Arm the one timer."""
        if self._timer is not None:
            self._timer.cancel()
        # Less than a millisecond is rounded down, and the tick would come before its time, again and again.
        self._timer = self._loop.call_later(max(0.001, due - time.monotonic()), self._tick)

    def _tick(self) -> None:
        assert self.driver is not None
        self.driver.tick()

    def stop(self) -> None:
        """Disarm the timer."""
        if self._timer is not None:
            self._timer.cancel()


class Link(NamedTuple):
    """What a controller stands on: a connection, and the streams behind it."""

    bus: Bus
    streams: Streams
    tail: TailOf


class Controller:
    """One controller: ``await start()``, serve, ``await stop()``."""

    def __init__(self, settings: ControllerSettings) -> None:
        self.settings = settings
        self.http_url = ""
        self._bus: Bus | None = None
        self._registry: RegistryLog | None = None
        self._router: Router | None = None
        self._loop: _Loop | None = None
        self._http: HttpPort | None = None
        self._intake: list[Subscription] = []
        self._draining = False
        self._claims: ClaimStore | None = None
        self._jobs: JobStreams | None = None
        self._desk: Desk | None = None

    async def start(self, link: Link | None = None) -> None:
        """Connect, replay the registry, subscribe; returns when requests are served.

        With a ``link`` of somebody's it stands on that, and has no HTTP port.

        Raises:
            BusUnavailable: no NATS server answers.
            BusError: JetStream is off, full or unreachable, or max_payload is too small; the message says which.
            OSError: the HTTP port cannot be had.

        """
        settings = self.settings
        subjects = Subjects(settings.prefix)
        bus, streams, tail = link or await self._connect()
        self._bus = bus
        if (wrong := too_small(bus)) is not None:
            raise BusError("; ".join(wrong))
        self._loop = loop = _Loop()
        schemas = Schemas()
        world = World(
            controller_id=settings.controller_id,
            registry=Registry(settings.heartbeat_interval_s),
            timeouts=_Timeouts(settings.default_timeout_ms),
            check=schemas.check,
            chance=Dice(),
            limits=Limits(
                queue_limit=settings.queue_limit,
                max_attempts=settings.max_attempts,
                lease_s=settings.claim_lease_s,
                window_s=settings.idempotency_window_s,
                cache_bytes=settings.claims_cache_bytes,
                job_attempts=settings.job_attempts,
            ),
            max_answer_bytes=bus.max_body_bytes - _REPLY_HEADERS_BYTES,
            now=loop.now(),
        )
        self._router = router = Router(world)
        loop.driver = driver = Driver(router, loop)
        replies = bus.new_inbox()
        records = RecordSink(world.registry.groups)
        self._registry = registry = RegistryLog(streams, tail, subjects, settings.replicas, driver.feed)
        claims = ClaimStore(
            bus,
            streams,
            subjects,
            replicas=settings.replicas,
            max_bytes=settings.claims_max_bytes,
            feed=driver.feed,
        )
        jobs = JobStreams(
            bus,
            streams,
            subjects,
            replicas=settings.replicas,
            max_bytes=settings.jobs_max_bytes,
            results_ttl_s=settings.results_ttl_s,
            ack_wait_s=_ACK_WAIT_LEASES * settings.claim_lease_s,
            feed=driver.feed,
        )
        self._claims, self._jobs = claims, jobs
        outbound = Outbound(
            bus,
            subjects,
            settings.controller_id,
            f"{replies}.",
            registry,
            OpenPolicy(),
            claims.handlers | jobs.handlers,
            records,
        )
        loop.perform = outbound.perform
        inbound = Inbound(
            subjects, schemas, min(settings.max_body_bytes, payload_room(bus)), driver.feed, outbound.refuse
        )
        self._desk = desk = Desk(
            bus, subjects, world.max_answer_bytes, driver.feed, outbound.reply_json, outbound.refuse
        )
        admin = Admin(subjects, router, records, driver.feed, outbound.reply_json, outbound.refuse, desk.operations)
        services = Services(
            subjects, settings.controller_id, world.registry, records, world.max_answer_bytes, outbound.reply_json
        )
        driver.start()
        await registry.start()
        await self._replayed(registry)
        await claims.start()
        await jobs.start()
        await bus.subscribe(f"{replies}.*", inbound.answer)
        await bus.subscribe(subjects.all("heartbeat"), inbound.heartbeat)
        await bus.subscribe(subjects.all("cancel"), inbound.cancel)
        for kind, handler in (
            ("register", inbound.register),
            ("deregister", inbound.deregister),
            ("cancel", inbound.last_cancel),
            ("admin", admin.handle),
            ("request", inbound.request),
            ("submit", inbound.submit),
            ("result", inbound.result),
        ):
            self._intake.append(await bus.subscribe(subjects.all(kind), handler, QUEUE_CONTROLLERS))
        self._intake += [await bus.subscribe(subject, handle) for subject, handle in services.handlers()]
        await bus.flush()
        if link is None:
            await self._listen()
        log.info("controller %s serves on %s", settings.controller_id, bus.url)

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
        if self._registry is None or not self._registry.replayed.is_set():
            return "the registry is not replayed yet"
        return None

    async def _reconnected(self) -> None:
        log.warning("connected to NATS again")
        for part in (self._registry, self._claims, self._jobs):
            if part is not None:
                part.check()

    async def stop(self) -> None:
        """Leave the queue groups, finish what was accepted (up to ``drain_timeout_s``), say goodbye. Never raises."""
        self._draining = True
        bus = self._bus
        if bus is None:
            return
        try:
            if bus.connected:
                for subscription in self._intake:
                    await bus.unsubscribe(subscription)
                if self._jobs is not None:
                    await self._jobs.leave()
                await bus.flush()  # what the server had already handed to us is in the core now
            await self._drained()
        except BusError as error:
            log.warning("while draining: %s", error)
        for part in (self._desk, self._jobs, self._claims, self._registry, self._http):
            if part is not None:
                await part.stop()
        if self._loop is not None:
            self._loop.stop()
        await bus.close()

    async def _drained(self) -> None:
        router = self._router
        if router is None:
            return
        patience_s = self.settings.drain_timeout_s
        for _ in range(int(patience_s / _DRAIN_POLL_S)):
            if not router.live and not router.lingering:
                return
            await asyncio.sleep(_DRAIN_POLL_S)
        if router.live:
            log.warning("%d requests are not done after %g s; they are given up", router.live, patience_s)
            assert self._loop is not None
            assert self._loop.driver is not None
            self._loop.driver.feed(Closing())
