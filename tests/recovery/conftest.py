"""Controllers as processes of their own, which can be killed and frozen; workers and callers are in this process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from bus import Bus
from callers import Client
from chaos.processes import CrankProcess
from crank.natsd import NatsServer
from tests.edge.conftest import cluster as cluster
from tests.edge.conftest import start_controller as start_controller
from tests.edge.conftest import start_worker as start_worker
from tests.edge.peers import Caller, until

StartProcess = Callable[..., Awaitable["Process"]]


class Process(CrankProcess):
    """A controller's process; ``start`` returns when it serves."""

    def __init__(self, name: str, url: str, folder: Path, **settings: object) -> None:
        self._ready = folder / f"{name}.ready"
        config = folder / f"{name}.yaml"
        values = {"http_port": 0, "claim_lease_s": 1.0, "heartbeat_interval_s": 0.3, "drain_timeout_s": 5.0}
        config.write_text(json.dumps(values | settings))
        arguments = ["controller", "--id", name, "--nats", url, "--config", str(config)]
        super().__init__(name, [*arguments, "--ready-file", str(self._ready)], folder)

    async def start(self) -> None:
        """Start it; returns when it serves."""
        self._ready.unlink(missing_ok=True)
        await super().start()
        await until(self._ready.exists, 30)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It stands still meanwhile."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(autouse=True)
def no_settings_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started here take over this one's environment."""
    for name in [name for name in os.environ if name.startswith("CRANK_") and name != "CRANK_NATS_SERVER"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHAOS_FOLDER", "")  # what a run sets is forgotten with the test


@pytest.fixture
async def start_process(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[StartProcess]:
    """Start controllers; all are stopped at the end."""
    started: list[Process] = []

    async def start(name: str = "c-1", **settings: object) -> Process:
        process = Process(name, nats_server.url, tmp_path, **settings)
        started.append(process)
        await process.start()
        return process

    yield start
    for process in started:
        await process.kill()


@pytest.fixture
async def caller(nats_server: NatsServer) -> AsyncIterator[Caller]:
    """A caller that sees bytes and headers."""
    bus = await Bus.connect(nats_server.url, name="caller")
    yield Caller(bus)
    await bus.close()


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A caller as people write one."""
    async with await Client.connect(nats_server.url) as client:
        yield client
