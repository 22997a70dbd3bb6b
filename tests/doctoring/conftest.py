"""Servers that are set up otherwise than Crank sets one up, and the controllers and workers of ``tests.edge``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from crank.natsd import NatsServer
from tests.edge.conftest import caller, start_controller, start_worker

__all__ = ["caller", "start_controller", "start_server", "start_worker"]

StartServer = Callable[..., Awaitable[NatsServer]]


@pytest.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    """Start servers with more configuration, each with a store of its own; all are stopped at the end."""
    started: list[NatsServer] = []

    async def start(extra: str = "", **options: Any) -> NatsServer:
        server = NatsServer(tmp_path / f"nats-{len(started)}", extra=extra, **options)
        started.append(server)
        await server.start()
        return server

    yield start
    for server in started:
        await server.stop()
