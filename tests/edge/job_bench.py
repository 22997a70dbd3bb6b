"""What the tests of jobs work with: one controller's streams on a server, and everything that they fed, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from bus import Bus, Streams
from controller.core.events import Event
from controller.core.model import Request
from controller.core.stored import AppendDead, Appended, AppendJob, JobDelivered, PullJobs
from controller.edge.jobs import JobStreams
from crank.natsd import NatsServer
from subjects.claims import ClaimRecord, StoredAnswer, StoredError
from subjects.names import Subjects
from subjects.requests import NO_HEADERS, RequestHeaders
from subjects.tokens import CapabilityId, RequestId

T = TypeVar("T")
GREET = CapabilityId("greet:hello_world")
SUBJECTS = Subjects()


def request(
    capability: CapabilityId = GREET, body: bytes = b"{}", passed: str = "", headers: RequestHeaders = NO_HEADERS
) -> Request:
    """A submission."""
    return Request(capability, "anonymous", RequestId("r-1"), "", headers, body, passed, action="submit")


def dead_record(job_id: str, capability: CapabilityId = GREET, text: str = "it broke") -> ClaimRecord:
    """What stands in the store of a job that failed."""
    answer = StoredAnswer("w-1", "1.0.0", 2, b"{}", error=StoredError(500, text))
    return ClaimRecord(
        "dead", "n", "c-1.b", "anonymous", capability, "k", b"f", "r-1", 15.0, 3600.0,
        attempts=2, worker="w-1", answer=answer, job=True, published=True, reason="worker_error",
    )  # fmt: skip


class Bench:
    """One controller's streams."""

    def __init__(self, bus: Bus, max_bytes: int, results_ttl_s: int, replicas: int) -> None:
        self.bus = bus
        self.fed: list[Event] = []
        self._heard = asyncio.Event()
        self._serial = 0
        self.streams = Streams(bus)
        self.jobs = JobStreams(
            bus,
            self.streams,
            SUBJECTS,
            replicas=replicas,
            max_bytes=max_bytes,
            results_ttl_s=results_ttl_s,
            ack_wait_s=30.0,
            feed=self._feed,
        )

    @classmethod
    async def start(cls, server: NatsServer, **options: int) -> Bench:
        """Connect to a server and start."""
        return await cls.on(server.url, **options)

    @classmethod
    async def on(cls, url: str, max_bytes: int = 64 * 1024 * 1024, results_ttl_s: int = 60, replicas: int = 1) -> Bench:
        """Connect and start."""
        bench: Bench

        async def back() -> None:
            bench.jobs.check()

        bus = await Bus.connect(url, name="jobs", on_reconnect=back)
        bench = cls(bus, max_bytes, results_ttl_s, replicas)
        await bench.jobs.start()
        return bench

    async def stop(self) -> None:
        """Stop and disconnect."""
        await self.jobs.stop()
        await self.bus.close()

    def _feed(self, event: Event) -> None:
        self.fed.append(event)
        self._heard.set()

    def do(self, command: Any) -> None:
        """Carry a command out."""
        self.jobs.handlers[type(command)](command)

    def of(self, kind: type[T]) -> list[T]:
        """What was fed of this kind."""
        return [event for event in self.fed if isinstance(event, kind)]

    async def until(self, done: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(timeout_s):
            while not done():
                self._heard.clear()
                await self._heard.wait()

    async def expect(self, kind: type[T], count: int = 1, timeout_s: float = 20.0) -> list[T]:
        """The first ``count`` of what was fed of this kind, which are taken away."""
        await self.until(lambda: len(self.of(kind)) >= count, timeout_s)
        found = self.of(kind)[:count]
        for event in found:
            self.fed.remove(event)  # type: ignore[arg-type]
        return found

    async def append(self, job_id: str, what: Request | None = None, message_id: str = "") -> str | None:
        """Accept a job; the reason, if it is not."""
        return await self._stored(
            lambda life: AppendJob(life, what or request(), job_id, message_id or job_id),
        )

    async def bury(self, job_id: str, what: Request | None = None, message_id: str = "") -> str | None:
        """Add a dead job; the reason, if it is not."""
        what = what or request()
        record = dead_record(job_id, what.capability)
        return await self._stored(lambda life: AppendDead(life, what, job_id, message_id or f"{job_id}.dead", record))

    async def _stored(self, command_of: Callable[[int], Any]) -> str | None:
        self._serial += 1
        life = self._serial
        self.do(command_of(life))
        await self.until(lambda: any(event.life == life for event in self.of(Appended)))
        (appended,) = (event for event in self.of(Appended) if event.life == life)
        self.fed.remove(appended)
        return appended.reason

    async def pull(self, count: int = 1, capability: CapabilityId = GREET) -> list[JobDelivered]:
        """Pull, and wait for as many."""
        self.do(PullJobs(capability, count))
        return await self.expect(JobDelivered, count)

    async def messages(self, stream: str) -> int:
        """How many are in the stream."""
        info = await self.bus.jetstream.stream_info(stream)
        return int(info.state.messages)
