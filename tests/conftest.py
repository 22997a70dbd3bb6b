"""A real nats-server on a free port with a store of its own, for every test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crank.natsd import NatsServer


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A running nats-server with JetStream; its port stays the same when a test stops and starts it again."""
    server = NatsServer(tmp_path / "nats")
    await server.start()
    yield server
    await server.stop()
