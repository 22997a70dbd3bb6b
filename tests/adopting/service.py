"""A service as people have them: nats-py's ``nats.micro``, which knows nothing of this project."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import nats
from nats import micro
from nats.aio.client import Client
from nats.micro.request import Request

Answer = Callable[[Request], Awaitable[None]]


async def _echo(request: Request) -> None:
    await request.respond(request.data)


class Service:
    """One instance of ``orders``, with an endpoint per given handler; without any, ``echo`` alone.

    As nats-py has it, an endpoint works on one request at a time; ``at_once`` gives each a task of its own.
    """

    def __init__(self, client: Client, service: micro.Service, at_once: bool) -> None:
        self._client = client
        self._service = service
        self._at_once = at_once
        self._tasks: set[asyncio.Task[None]] = set()
        self.running = 0
        self.most_running = 0

    @classmethod
    async def start(
        cls,
        url: str,
        *,
        name: str = "orders",
        version: str = "1.2.0",
        endpoints: dict[str, Answer] | None = None,
        metadata: dict[str, str] | None = None,
        at_once: bool = False,
    ) -> Self:
        client = await nats.connect(url)
        service = cls(client, await micro.add_service(client, name=name, version=version), at_once)
        for endpoint, handler in (endpoints or {"echo": _echo}).items():
            await service.add(endpoint, handler, metadata=metadata)
        await client.flush()
        return service

    async def add(self, endpoint: str, handler: Answer = _echo, **more: Any) -> None:
        """Add an endpoint to the group ``shop``."""

        async def work(request: Request) -> None:
            if not self._at_once:
                await self._counted(handler, request)
                return
            task = asyncio.create_task(self._counted(handler, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        await self._service.add_group(name="shop").add_endpoint(name=endpoint, handler=work, **more)

    async def _counted(self, handler: Answer, request: Request) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await handler(request)
        finally:
            self.running -= 1

    async def stop(self) -> None:
        """Leave when all that has arrived is answered; ``nats.micro`` by itself drops what waits for a handler."""
        await self._client.drain()

    async def die(self) -> None:
        """Vanish."""
        for task in self._tasks:
            task.cancel()
        await self._client.close()
