"""The controllers' side of the contract, by hand and over a real server: a peer to test workers against."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from bus import Bus, Message
from subjects.answers import Answer, Frame, parse_answer
from subjects.dispatches import build_dispatch
from subjects.errors import Refusal
from subjects.manifests import Manifest, parse_manifest
from subjects.messages import Control, Deregister, Heartbeat, Registered, encode, parse_deregister, parse_heartbeat
from subjects.names import QUEUE_CONTROLLERS, Subjects
from subjects.replies import JSON_BLOCK, ReplyMeta, build_refusal
from subjects.tokens import CapabilityId, WorkerId

INTERVAL_S = 0.05
TRACEPARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


class Peer:
    """Accepts every registration, unless ``refusals`` holds something to say first; notes what it hears."""

    def __init__(self, bus: Bus, prefix: str = "crank") -> None:
        self.bus = bus
        self.subjects = Subjects(prefix)
        self.manifests: list[Manifest] = []
        self.heartbeats: list[Heartbeat] = []
        self.departures: list[Deregister] = []
        self.refusals: list[Refusal] = []
        self.registering = 0
        self.answer_delay_s = 0.0
        self.most_registering = 0
        self._serial = itertools.count(1)

    @classmethod
    async def connect(cls, url: str, prefix: str = "crank") -> Peer:
        peer = cls(await Bus.connect(url, name="peer"), prefix)
        for kind, handler in (("register", peer._on_register), ("deregister", peer._on_deregister)):
            await peer.bus.subscribe(peer.subjects.all(kind), handler, QUEUE_CONTROLLERS)
        await peer.bus.subscribe(peer.subjects.all("heartbeat"), peer._on_heartbeat)
        await peer.bus.flush()
        return peer

    def _on_register(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        self.registering += 1
        self.most_registering = max(self.most_registering, self.registering)
        asyncio.get_running_loop().call_later(self.answer_delay_s, self._acknowledge, subject, reply, body)

    def _acknowledge(self, subject: str, reply: str, body: bytes) -> None:
        self.registering -= 1
        ident = self.subjects.parse_one("register", subject)
        assert ident is not None
        outcome = self.refusals.pop(0) if self.refusals else parse_manifest(body, ident)
        if isinstance(outcome, Refusal):
            block, problem = build_refusal(outcome, ReplyMeta("", "peer", TRACEPARENT))
            self.bus.publish(reply, problem, block)
            return
        self.manifests.append(outcome)
        self.bus.publish(reply, encode(Registered(ident, "peer", INTERVAL_S)), JSON_BLOCK)

    def _on_heartbeat(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        heartbeat = parse_heartbeat(body)
        assert isinstance(heartbeat, Heartbeat)
        self.heartbeats.append(heartbeat)

    def _on_deregister(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        departure = parse_deregister(body)
        assert isinstance(departure, Deregister)
        self.departures.append(departure)
        self.bus.publish(reply, b"{}", JSON_BLOCK)

    def control(self, op: Any, dispatch_id: str | None = None, worker_id: str = "t-1") -> None:
        self.bus.publish(self.subjects.control(WorkerId(worker_id)), encode(Control(op, dispatch_id)))

    def headers(
        self,
        dispatch_id: str,
        timeout_ms: int = 5000,
        version: str = "1.0.0",
        passed: str = "",
        key: str | None = "key-1",
    ) -> bytes:
        return build_dispatch(
            traceparent=TRACEPARENT, request_id=f"r-{dispatch_id}", dispatch_id=dispatch_id, attempt=1,
            timeout_ms=timeout_ms, version=version, caller="spiffe://crank.local/caller/a", priority="high",
            content_type="application/json", idempotency_key=key, tracestate=None, passed=passed,
        )  # fmt: skip

    async def send(
        self,
        capability: str,
        body: bytes | dict[str, Any] = b"",
        *,
        dispatch_id: str | None = None,
        timeout_ms: int = 5000,
        version: str = "1.0.0",
        worker_id: str = "t-1",
        passed: str = "",
        key: str | None = "key-1",
    ) -> Exchange:
        """Publish a dispatch; its answers arrive in the exchange."""
        dispatch_id = dispatch_id or f"d-{next(self._serial)}"
        exchange = Exchange()
        inbox = self.bus.new_inbox()
        await self.bus.subscribe(inbox, exchange.hear)
        payload = msgspec.json.encode(body) if isinstance(body, dict) else body
        subject = self.subjects.worker(WorkerId(worker_id), CapabilityId(capability))
        assert self.bus.publish(subject, payload, self.headers(dispatch_id, timeout_ms, version, passed, key), inbox)
        return exchange

    async def ask(self, capability: str, body: bytes | dict[str, Any] = b"", **more: Any) -> Answer:
        """Dispatch, and the first answer."""
        return await (await self.send(capability, body, **more)).next()

    async def stream(self, capability: str, body: bytes | dict[str, Any] = b"", **more: Any) -> list[Frame]:
        """Dispatch, and every frame up to the end."""
        return await (await self.send(capability, body, **more)).frames()


class Exchange:
    """What comes back for one dispatch."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()

    def hear(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        self.messages.put_nowait(Message(subject, reply, headers, body))

    async def next(self) -> Answer:
        message = await asyncio.wait_for(self.messages.get(), 5)
        return parse_answer(message.headers, message.body)

    async def frames(self) -> list[Frame]:
        frames: list[Frame] = []
        while not frames or frames[-1].kind != "end":
            frame = await self.next()
            assert isinstance(frame, Frame), frame
            frames.append(frame)
        return frames


async def until(condition: Callable[[], object], timeout_s: float = 8) -> None:
    """Return as soon as ``condition`` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


class Served:
    """A worker that runs beside the test."""

    def __init__(self, task: asyncio.Task[None], stop: asyncio.Event) -> None:
        self.task = task
        self.stop = stop

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 8)


Serve = Callable[..., Awaitable[Served]]
