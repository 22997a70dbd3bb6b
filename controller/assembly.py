"""Owns putting a controller's parts together: which there are, what each is given, and which subjects each hears.

Nothing is sent here, and nothing awaited: ``app`` starts the parts, and stops them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from bus import Bus, Streams
from controller.core.commands import Command
from controller.core.events import Event, RulesChanged
from controller.core.registry import Registry
from controller.core.router import Router
from controller.core.world import Limits, World
from controller.driver import Driver
from controller.edge.admin import Admin
from controller.edge.alerts import Alerts
from controller.edge.claims import ClaimStore
from controller.edge.desk import Desk
from controller.edge.dice import Dice
from controller.edge.inbound import Inbound
from controller.edge.jobs import JobStreams
from controller.edge.outbound import Outbound
from controller.edge.policy import OpenPolicy
from controller.edge.record_sink import RecordSink
from controller.edge.registry_log import RegistryLog, TailOf
from controller.edge.rules_watch import RulesWatch
from controller.edge.schemas import Schemas
from controller.edge.services import Services
from controller.edge.slo_counts import SloCounts
from controller.payload import payload_room
from controller.settings import ControllerSettings
from subjects.names import QUEUE_CONTROLLERS, Subjects
from subjects.tokens import CapabilityId

# The router's own lines in a reply, each of a known length.
_REPLY_HEADERS_BYTES = 2048
# A job whose controller died is delivered again after this; one that is worked on says so three times a lease.
_ACK_WAIT_LEASES = 2

Hear = Callable[[str, str, bytes | None, bytes], None]
"""A message's subject, reply subject, raw header block or None, and body."""


class Link(NamedTuple):
    """What a controller stands on: a connection, and the streams behind it."""

    bus: Bus
    streams: Streams
    tail: TailOf


class Listener(NamedTuple):
    """Who hears what; with a queue one of all controllers does."""

    subject: str
    hear: Hear
    queue: str = ""


class Loop:
    """The driver's surroundings in production: the clock, the event loop's one timer, the edge."""

    # Seconds; the event loop's own clock is too coarse to measure a request by.
    now = staticmethod(time.monotonic)
    perform: Callable[[Command], Event | None]
    """``Outbound.perform``, set before anything is fed to the driver."""
    driver: Driver

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def wake_at(self, due: float) -> None:
        """Arm the one timer."""
        self.stop()
        # Less than a millisecond is rounded down, and the tick would come before its time, again and again.
        self._timer = self._loop.call_later(max(0.001, due - time.monotonic()), self.driver.tick)

    def stop(self) -> None:
        """Disarm the timer."""
        if self._timer is not None:
            self._timer.cancel()


class _Timeouts:
    """How patient a caller is that does not say, where no objective says either."""

    def __init__(self, default_ms: int) -> None:
        self._default_ms = default_ms

    def timeout_ms(self, capability: CapabilityId) -> int:
        """Milliseconds."""
        return self._default_ms


class Parts(NamedTuple):
    """A controller's parts. ``intake`` is left first when it stops; ``always`` is heard to the end."""

    router: Router
    loop: Loop
    registry: RegistryLog
    claims: ClaimStore
    jobs: JobStreams
    desk: Desk
    rules: RulesWatch
    counts: SloCounts
    alerts: Alerts
    always: list[Listener]
    intake: list[Listener]


def assemble(settings: ControllerSettings, link: Link) -> Parts:
    """The parts, not started. Needs a running event loop."""
    subjects = Subjects(settings.prefix)
    bus, streams, tail = link
    loop, schemas = Loop(), Schemas()
    world = _world(settings, bus, schemas, loop.now())
    router = Router(world)
    loop.driver = driver = Driver(router, loop)
    records = RecordSink(world.registry.groups)
    registry = RegistryLog(streams, tail, subjects, settings.replicas, driver.feed)
    claims = ClaimStore(
        bus, streams, subjects, replicas=settings.replicas, max_bytes=settings.claims_max_bytes, feed=driver.feed
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
    alerts = Alerts(settings.alert_webhooks, settings.prefix)
    counts = SloCounts(bus, tail, subjects, settings.replicas, driver.feed)
    replies = bus.new_inbox()
    outbound = Outbound(
        bus,
        subjects,
        settings.controller_id,
        f"{replies}.",
        registry,
        OpenPolicy(),
        claims.handlers | jobs.handlers | counts.handlers | alerts.handlers,
        records,
    )
    loop.perform = outbound.perform
    inbound = Inbound(subjects, schemas, min(settings.max_body_bytes, payload_room(bus)), driver.feed, outbound.refuse)
    desk = Desk(bus, subjects, world.max_answer_bytes, driver.feed, outbound.reply_json, outbound.refuse)

    def ruled(event: Event) -> None:
        if isinstance(event, RulesChanged):
            alerts.named_by(event.rules.objectives)
        driver.feed(event)

    rules = RulesWatch(settings.slos, settings.limits_file, ruled)
    admin = Admin(
        subjects,
        router,
        records,
        driver.feed,
        outbound.reply_json,
        outbound.refuse,
        desk.operations,
        lambda: rules.mistakes,
    )
    services = Services(
        subjects, settings.controller_id, world.registry, records, world.max_answer_bytes, outbound.reply_json
    )
    asked: dict[str, Hear] = {
        "register": inbound.register,
        "deregister": inbound.deregister,
        "cancel": inbound.last_cancel,
        "admin": admin.handle,
        "request": inbound.request,
        "submit": inbound.submit,
        "result": inbound.result,
    }
    return Parts(
        router,
        loop,
        registry,
        claims,
        jobs,
        desk,
        rules,
        counts,
        alerts,
        always=[
            Listener(f"{replies}.*", inbound.answer),
            Listener(subjects.all("heartbeat"), inbound.heartbeat),
            Listener(subjects.all("cancel"), inbound.cancel),
        ],
        intake=[
            *(Listener(subjects.all(kind), hear, QUEUE_CONTROLLERS) for kind, hear in asked.items()),
            *(Listener(subject, hear) for subject, hear in services.handlers()),
        ],
    )


def _world(settings: ControllerSettings, bus: Bus, schemas: Schemas, now: float) -> World:
    max_answer_bytes = bus.max_body_bytes - _REPLY_HEADERS_BYTES
    return World(
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
            # Whoever asks again gets it in one message.
            max_kept_bytes=max_answer_bytes,
        ),
        max_answer_bytes=max_answer_bytes,
        now=now,
        wall_offset_s=time.time() - now,
    )
