"""Owns following a stream: replay from its start, then its tail, checked, and from the start again when it went back.

nats-py's ordered consumer saw nothing for 25 s after a stream was recreated under it, so the consumer here is checked:
gaps in its delivery numbers, silence of its idle heartbeats, and every 10 s the stream's creation time and last
sequence. It knows nothing of what an entry means; ``controller.edge.registry_log`` calls it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import nats.errors
from nats.js import api, errors

from bus.answers import Entry
from bus.connection import Bus, BusError, Subscription
from bus.ending import end
from bus.specs import StreamSpec
from bus.streams import Streams, StreamState

log = logging.getLogger("crank.bus")

_IDLE_HEARTBEAT_S = 1.0
# Three heartbeats: one lost in a busy second is no reason to start over.
_SILENCE_S = 3 * _IDLE_HEARTBEAT_S
_CHECK_EVERY_S = 10.0
_RETRY_S = 0.5


class Tail:
    """One consumer on one stream.

    ``on_entry`` gets every entry in order; ``on_restart`` is called before a replay from the start that is not the
    first (what was known may be gone); ``on_replayed`` after each replay reached the end of what was stored.
    """

    def __init__(
        self,
        bus: Bus,
        spec: StreamSpec,
        on_entry: Callable[[Entry], None],
        on_restart: Callable[[], None],
        on_replayed: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._streams = Streams(bus)
        self._spec = spec
        self._on_entry, self._on_restart, self._on_replayed = on_entry, on_restart, on_replayed
        self._subscription: Subscription | None = None
        self._consumer: str | None = None
        self._known: StreamState | None = None
        self._last_seq = 0
        self._delivered = 0
        self._behind = True
        self._heard_at = 0.0
        self._broken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Create the stream if need be, begin the replay, and keep watch until ``stop``.

        Raises:
            BusError: JetStream is off, full or unreachable.

        """
        await self._streams.ensure(self._spec)
        await self._follow(from_start=True)
        self._task = asyncio.create_task(self._watch(), name=f"tail-{self._spec.name}")

    async def stop(self) -> None:
        """Stop watching and drop the consumer."""
        if self._task is not None:
            await end(self._task)
        await self._drop()

    def check(self) -> None:
        """Compare with the stream and follow it anew: after a reconnect, which a consumer in memory may not survive."""
        self._broken.set()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        checked_at = loop.time()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._broken.wait(), _IDLE_HEARTBEAT_S)
            silent = loop.time() - self._heard_at > _SILENCE_S
            due = loop.time() - checked_at > _CHECK_EVERY_S
            if not (self._broken.is_set() or silent or due) or not self._bus.connected:
                continue
            try:
                went_back = await self._went_back()
                if went_back or silent or self._broken.is_set():
                    self._broken.clear()
                    await self._follow(from_start=went_back)
                checked_at = loop.time()
            except BusError as error:
                log.warning("%s: %s; trying again", self._spec.name, error)
                self._broken.set()
                await asyncio.sleep(_RETRY_S)

    async def _went_back(self) -> bool:
        state = await self._streams.state(self._spec.name)
        if state is None:
            await self._streams.ensure(self._spec)
            return True
        return self._known is None or state.created != self._known.created or state.last_seq < self._last_seq

    async def _follow(self, *, from_start: bool) -> None:
        await self._drop()
        if from_start:
            if self._known is not None:
                log.warning("%s was recreated or went back; reading it again from its start", self._spec.name)
                self._on_restart()
            self._last_seq = 0
            self._known = await self._streams.state(self._spec.name)
        self._delivered = 0
        self._behind = True
        deliver = self._bus.new_inbox()
        self._subscription = await self._bus.subscribe(deliver, self._on_message)
        config = api.ConsumerConfig(
            deliver_subject=deliver,
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._last_seq + 1,
            ack_policy=api.AckPolicy.NONE,
            max_deliver=1,
            idle_heartbeat=_IDLE_HEARTBEAT_S,
            flow_control=True,
            inactive_threshold=30.0,
            mem_storage=True,
            num_replicas=1,
        )
        try:
            info = await self._bus.jetstream.add_consumer(self._spec.name, config)
        except (errors.Error, nats.errors.Error, TimeoutError) as error:
            raise BusError(f"no consumer on {self._spec.name}: {error}") from None
        self._consumer = info.name
        self._heard_at = asyncio.get_running_loop().time()
        if not info.num_pending and (info.delivered is None or not info.delivered.consumer_seq):
            self._caught_up()

    async def _drop(self) -> None:
        if self._subscription is not None:
            await self._bus.unsubscribe(self._subscription)
            self._subscription = None
        if self._consumer is not None and self._bus.connected:
            with contextlib.suppress(errors.Error, nats.errors.Error, TimeoutError):
                await self._bus.jetstream.delete_consumer(self._spec.name, self._consumer)
        self._consumer = None

    def _on_message(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if headers is not None and headers.startswith(b"NATS/1.0 100"):
            if reply:  # flow control: the server waits until we say that we are done reading
                self._bus.publish(reply, b"")
            return
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>, from the right:
        # a domain and an account hash may stand in front.
        parts = reply.split(".")
        if not reply.startswith("$JS.ACK.") or len(parts) < 9:
            return
        seq, delivered, pending = int(parts[-4]), int(parts[-3]), int(parts[-1])
        if len(parts) >= 12:
            seq, delivered, pending = int(parts[7]), int(parts[8]), int(parts[10])
        if delivered != self._delivered + 1:
            self._broken.set()
            return
        self._delivered = delivered
        self._last_seq = seq
        self._on_entry(Entry(seq, subject, headers, body))
        if pending == 0:
            self._caught_up()

    def _caught_up(self) -> None:
        if self._behind:
            self._behind = False
            self._on_replayed()
