"""A caller and a worker that know the wire contract and nothing else of this project's inside."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from bus import Bus, Message
from subjects.headers import Block, build_block, parse_block

Answer = tuple[bytes | None, bytes]
Behave = Callable[[str, Block, bytes], list[Answer] | None]


def header_of(message: Message) -> dict[str, str]:
    """The contract's headers of a message, lower-case names."""
    block = parse_block(message.headers)
    assert isinstance(block, Block)
    return block.ours


class Caller:
    """Sends requests as any NATS client would."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def ask(
        self, capability: str, body: bytes = b"{}", timeout_s: float = 5.0, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """``(code, body, headers)``; code 0 is an answer. ``Crank_Version="^1"`` sends the header ``Crank-Version``."""
        return await self._send(f"crank.request.{capability.replace(':', '.')}", body, timeout_s, headers)

    async def _send(
        self, subject: str, body: bytes, timeout_s: float, headers: dict[str, str]
    ) -> tuple[int, Any, dict[str, str]]:
        block = build_block((name.replace("_", "-"), value) for name, value in headers.items()) if headers else None
        return _read(await self.bus.request(subject, body, block, timeout_s))

    async def submit(
        self, capability: str, body: bytes = b"{}", timeout_s: float = 5.0, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """As ``ask``, durably."""
        return await self._send(f"crank.submit.{capability.replace(':', '.')}", body, timeout_s, headers)

    async def result(self, job_id: str, wait_ms: int = 5000) -> tuple[int, Any, dict[str, str]]:
        """What became of a job, waiting for it."""
        headers = {"Crank_Timeout_Ms": str(wait_ms)}
        return await self._send(f"crank.result.{job_id}", b"", wait_ms / 1000 + 2, headers)

    async def tell(self, subject: str, body: bytes | dict[str, Any] = b"", timeout_s: float = 5.0) -> tuple[int, Any]:
        """A control message or an operator's question."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        code, answer, _ = _read(await self.bus.request(subject, data, timeout_s=timeout_s))
        return code, answer

    async def frames(self, capability: str, body: bytes = b"{}") -> AsyncIterator[tuple[dict[str, str], bytes]]:
        """Every frame until the end."""
        queue: asyncio.Queue[Message] = asyncio.Queue()
        inbox = self.bus.new_inbox()
        await self.bus.subscribe(inbox, lambda s, r, headers, data: queue.put_nowait(Message(s, r, headers, data)))
        self.bus.publish(f"crank.request.{capability.replace(':', '.')}", body, reply=inbox)
        while True:
            message = await asyncio.wait_for(queue.get(), 5)
            headers = header_of(message)
            yield headers, message.body
            if headers.get("crank-frame") in (None, "end"):
                return


def _read(message: Message) -> tuple[int, Any, dict[str, str]]:
    headers = header_of(message)
    try:
        body = json.loads(message.body)
    except ValueError:
        body = message.body
    return int(headers.get("nats-service-error-code", 0)), body, headers


class RawWorker:
    """A worker of the fewest lines: registers, heartbeats, and behaves as it is told.

    ``behave(subject, headers, body)`` returns the messages to answer with; None answers nothing.
    """

    def __init__(
        self,
        bus: Bus,
        worker_id: str,
        *,
        behave: Behave | None = None,
        heartbeat_s: float = 0.1,
        instance: str | None = None,
        capabilities: list[dict[str, Any]] | None = None,
        **declared: Any,
    ) -> None:
        self.bus = bus
        self.id = worker_id
        self.behave: Behave = behave or (lambda subject, headers, body: [(None, body)])
        self.heartbeat_s = heartbeat_s
        self.manifest: dict[str, Any] = {
            "worker_id": worker_id,
            "capabilities": capabilities or [{"verb": "test", "name": "echo", "version": "1.0.0", **declared}],
        }
        if instance is not None:
            self.manifest["instance"] = instance
        self.dispatches: list[tuple[Block, bytes]] = []
        self.replies: list[str] = []
        """Where the answer to each dispatch goes."""
        self.controls: list[dict[str, Any]] = []
        self.registrations = 0
        self._beat: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, register, heartbeat."""
        await self.bus.subscribe(f"crank.worker.{self.id}.>", self._dispatch, "w")
        await self.bus.subscribe(f"crank.control.{self.id}", self._control)
        code, answer = await self.register()
        assert code == 0, answer
        if self.heartbeat_s:
            self._beat = asyncio.create_task(self._heartbeats())

    async def register(self) -> tuple[int, Any]:
        """Send the manifest."""
        self.registrations += 1
        return await Caller(self.bus).tell(f"crank.register.{self.id}", self.manifest)

    def heartbeat(self, **load: Any) -> None:
        """One heartbeat."""
        beat = {"seq": 1, **load}
        if "instance" in self.manifest:
            beat["instance"] = self.manifest["instance"]
        self.bus.publish(f"crank.heartbeat.{self.id}", json.dumps(beat).encode())

    async def _heartbeats(self) -> None:
        while True:
            self.heartbeat()
            await asyncio.sleep(self.heartbeat_s)

    def _dispatch(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        block = parse_block(raw)
        assert isinstance(block, Block)
        self.dispatches.append((block, body))
        self.replies.append(reply)
        for headers, data in self.behave(subject, block, body) or ():
            self.bus.publish(reply, data, headers)

    def _control(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        control = json.loads(body)
        self.controls.append(control)
        if control["op"] == "reregister":
            self._again = asyncio.create_task(self.register())

    async def die(self) -> None:
        """Vanish without a word."""
        await self.stop_heartbeat()
        await self.bus.close()

    async def stop_heartbeat(self) -> None:
        """Fall silent."""
        if self._beat is not None:
            self._beat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beat
            self._beat = None

    async def close(self) -> None:
        """Stop everything."""
        await self.die()


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until ``condition()`` holds; fails after ``timeout_s``."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
