"""Owns pulling jobs: a request for so many, what it brings, and its end, which comes once whatever happens.

The requests go to JetStream's API as they are: nats-py's pull subscriptions have a queue and a task each. It reads no
job; ``jobs`` does, and says when to pull.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from bus import Bus, Subscription
from controller.core.events import Event
from controller.core.stored import PullEnded, PullJobs
from controller.edge.jetstream import read_delivery
from controller.edge.job_consumers import consumer_name
from subjects.names import Subjects
from subjects.tokens import CapabilityId

log = logging.getLogger("crank.jobs")

Deliver = Callable[[CapabilityId, str, bytes | None, bytes], None]
"""``deliver(capability, where to acknowledge, raw header block or None, body)``."""

# How long a pull stands where there is nothing to bring; then the server says so.
EXPIRES_S = 5.0
# A server that is gone says nothing.
_GRACE_S = 1.0
# A pull that fails at once is not followed by the next at once.
_LEAST_S = 1.0


class _Pull(msgspec.Struct, eq=False):
    capability: CapabilityId
    left: int
    started: float
    timer: asyncio.TimerHandle


class JobPulls:
    """The pulls of one controller."""

    def __init__(self, bus: Bus, subjects: Subjects, feed: Callable[[Event], None], deliver: Deliver) -> None:
        self._bus = bus
        self._subjects = subjects
        self._feed = feed
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._inbox = f"{bus.new_inbox()}."
        self._subscription: Subscription | None = None
        self._serial = 0
        self._open: dict[str, _Pull] = {}
        self._ending: set[asyncio.TimerHandle] = set()

    async def start(self) -> None:
        """Be ready to pull.

        Raises:
            BusUnavailable: the server does not read.

        """
        self._subscription = await self._bus.subscribe(f"{self._inbox}*", self._on_message)

    async def leave(self) -> None:
        """Ask for nothing more. What the server has sent is still handed over; all pulls end, and no other begins.

        Raises:
            BusUnavailable: the server did not answer in time.

        """
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        await self._bus.unsubscribe(subscription)
        try:
            if self._bus.connected:
                await self._bus.flush()
        finally:
            self.end_all()

    def stop(self) -> None:
        """Forget all pulls."""
        for timer in (*self._ending, *(pull.timer for pull in self._open.values())):
            timer.cancel()
        self._open.clear()
        self._ending.clear()

    def pull(self, command: PullJobs) -> None:
        """Ask for jobs of a capability."""
        self._serial += 1
        serial = str(self._serial)
        timer = self._loop.call_later(EXPIRES_S + _GRACE_S, self._end, serial)
        self._open[serial] = _Pull(command.capability, command.count, self._loop.time(), timer)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._subjects.stream_jobs}.{consumer_name(command.capability)}"
        question = msgspec.json.encode({"batch": command.count, "expires": int(EXPIRES_S * 1e9)})
        if self._subscription is None or not self._bus.publish(subject, question, reply=self._inbox + serial):
            self._end(serial)

    def end_all(self) -> None:
        """The connection was lost, and the pulls with it."""
        for serial in tuple(self._open):
            self._end(serial)

    def _on_message(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        if subject.startswith(self._inbox):  # a status: nothing there, consumer or leader gone, no such consumer
            self._end(subject[len(self._inbox) :])
            return
        capability = self._subjects.parse_capability("jobs", subject)
        if capability is None or read_delivery(reply) is None:
            log.warning("something that is no job came on the subject %r", subject[:128])
            return
        self._deliver(capability, reply, headers, body)
        # A job's message does not say which pull it is for; the oldest is as good as any.
        for serial, pull in self._open.items():
            if pull.capability == capability:
                pull.left -= 1
                if pull.left == 0:
                    self._end(serial)
                return

    def _end(self, serial: str) -> None:
        pull = self._open.pop(serial, None)
        if pull is None:
            return
        pull.timer.cancel()
        wait_s = pull.started + _LEAST_S - self._loop.time()
        if pull.left == 0:
            self._feed(PullEnded(pull.capability))
            return

        def ended() -> None:
            self._ending.discard(handle)
            self._feed(PullEnded(pull.capability))

        handle = self._loop.call_later(max(0.0, wait_s), ended)
        self._ending.add(handle)
