"""What a controller says when it cannot start on this nats-server, and what it does not start on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bus.connection import BusError
from controller.app import Controller
from controller.settings import ControllerSettings
from crank import natsd
from crank.natsd import NatsServer

StartServer = Callable[..., Awaitable[NatsServer]]


@pytest.fixture
async def start_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StartServer]:
    """Start a nats-server that is set up otherwise than Crank sets one up; it is stopped at the end."""
    started: list[NatsServer] = []

    async def start(
        *, jetstream: bool = True, max_payload: int = natsd.MAX_PAYLOAD_BYTES, extra: str = ""
    ) -> NatsServer:
        if not jetstream:
            whole = natsd._config
            monkeypatch.setattr(natsd, "_config", lambda *args: whole(*args).replace("jetstream {", "# {"))
        server = NatsServer(tmp_path / "nats", max_payload=max_payload, extra=extra)
        started.append(server)
        await server.start()
        return server

    yield start
    for server in started:
        await server.stop()


async def _refused(server: NatsServer) -> str:
    controller = Controller(ControllerSettings(nats_url=server.url, http_port=0, slos=None))
    try:
        with pytest.raises(BusError) as caught:
            await controller.start()
    finally:
        await controller.stop()
    return str(caught.value)


def _account(limits: str) -> str:
    return f"accounts {{ A {{ {limits} users: [{{ user: a, password: a }}] }} }}\nno_auth_user: a"


async def test_a_server_without_jetstream_is_told_how_to_get_it(start_server: StartServer) -> None:
    """JetStream is off: which server, and what to start it with."""
    server = await start_server(jetstream=False)
    words = await _refused(server)
    assert "JetStream is off" in words
    assert server.url in words
    assert "nats-server with -js" in words
    assert "None" not in words


async def test_an_account_without_jetstream_is_told_from_a_server_without_it(start_server: StartServer) -> None:
    """The server has it, the account has not."""
    words = await _refused(await start_server(extra=_account("")))
    assert "the account" in words
    assert "jetstream: enabled" in words


async def test_a_full_store_is_told_by_the_limits_that_fill_it(start_server: StartServer) -> None:
    """No room: what to raise."""
    words = await _refused(await start_server(extra=_account("jetstream: { max_mem: 1, max_file: 0 },")))
    assert "insufficient storage resources" in words
    assert "max_file" in words


async def test_replicas_on_a_single_server_are_told_by_the_setting(start_server: StartServer) -> None:
    """Three replicas need a cluster."""
    server = await start_server()
    controller = Controller(ControllerSettings(nats_url=server.url, http_port=0, slos=None, replicas=3))
    with pytest.raises(BusError, match="set replicas to 1"):
        await controller.start()
    await controller.stop()


async def test_a_server_that_takes_only_small_messages_is_refused_by_name(start_server: StartServer) -> None:
    """No request would fit beside its headers: what ``max_payload`` is, and what it must be."""
    words = await _refused(await start_server(max_payload=32 * 1024))
    assert "max_payload" in words
    assert "32768" in words
    assert "65536" in words


async def test_the_smallest_server_that_will_do_does(start_server: StartServer) -> None:
    """At the number that the refusal names, a controller starts."""
    server = await start_server(max_payload=65_536)
    controller = Controller(ControllerSettings(nats_url=server.url, http_port=0, slos=None))
    await controller.start()
    await controller.stop()
