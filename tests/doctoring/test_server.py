"""Who listens at the address, and why nobody can sign in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from crank.natsd import NatsServer
from tests.conftest import need
from tests.doctoring.conftest import StartServer
from tests.doctoring.looking import fault, looked, of


@asynccontextmanager
async def listener(*said: bytes, then: bytes = b"") -> AsyncIterator[str]:
    """Something that accepts, says ``said``, answers whatever comes first with ``then``, and goes silent."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in said:
            writer.write(line)
        if then and await reader.read(65536):
            writer.write(then)
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_an_address_where_nobody_listens_is_told_with_what_starts_one() -> None:
    """The commonest fault of all."""
    async with listener() as url:
        pass
    report = await looked(url)
    assert not report.reached
    (found,) = report.findings
    assert (found.check, found.result) == ("NATS", "problem")
    assert "Connection refused" in found.found
    assert "crank up" in found.mend


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ((), "says nothing"),
        ((b"HTTP/1.1 400 Bad Request\r\n",), "no NATS server"),
        ((b"x" * 200_000,), "no NATS server"),
        ((b"INFO {\r\n",), "no NATS server"),
        ((b"INFO " + b"[" * 60_000 + b"\r\n",), "no NATS server"),
        ((b'INFO {"version":"2.15.1","max_payload":"much"}\r\n',), "no NATS server"),
        ((b'INFO {"version":"2.15.1","max_payload":1048576}\r\n',), "can be signed in to"),
    ],
    ids=["silent", "http", "endless", "half", "deep", "wrong", "deaf"],
)
async def test_what_listens_and_is_no_nats_server_is_told_as_such(said: tuple[bytes, ...], told: str) -> None:
    """It may be silent, speak something else, or talk without end: the time is bounded."""
    async with listener(*said) as url:
        report = await looked(url)
    assert not report.reached
    assert told in report.findings[0].found
    assert report.findings[0].mend


async def test_a_websocket_is_looked_at_as_well(start_server: StartServer) -> None:
    """Alone; together with another kind of address it is told that they do not mix."""
    server = await start_server('websocket { listen: "127.0.0.1:-1", no_tls: true }')
    (ports,) = (server.state / "ports").glob("*.ports")
    url = json.loads(ports.read_text())["websocket"][0]
    assert of(await looked(url), "NATS")[0].result == "ok"
    assert "mixing" in (await fault(f"{url},{server.url}", "NATS")).found
    gone = await looked("ws://127.0.0.1:1")
    assert not gone.reached
    assert gone.findings[0].mend


async def test_a_server_that_talks_without_end_and_reads_nothing_does_not_hold_us() -> None:
    """It has our connection, and keeps it busy until we let go."""
    listening = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        with listening.accept()[0] as first, first.makefile("rb") as said:
            first.sendall(INFO % b"2.15.1")
            said.readline()  # it was only looked at, and nothing was said
        with contextlib.suppress(OSError), listening.accept()[0] as second:
            second.sendall(INFO % b"2.15.1")
            second.recv(65536)
            second.sendall(b"PONG\r\n")
            while True:
                second.sendall(b"PING\r\n" * 1000)

    talking = threading.Thread(target=talk)
    talking.start()
    with listening:
        report = await looked(f"nats://127.0.0.1:{listening.getsockname()[1]}")
    await asyncio.to_thread(talking.join)
    assert report.findings[-1].result == "problem"


INFO = b'INFO {"version":"%s","max_payload":2097152,"headers":true,"server_id":"X"}\r\n'


async def test_an_old_server_and_one_that_falls_silent_are_told() -> None:
    """Both, in one examination that ends."""
    async with listener(INFO % b"2.10.4", then=b"PONG\r\n") as url:
        report = await looked(url)
    assert [finding.check for finding in report.findings if finding.result == "problem"][-1] == "NATS"
    assert "stopped answering" in report.findings[-1].found


@pytest.mark.parametrize(
    ("users", "named", "told", "mend"),
    [
        ("users: [ { user: a, password: b } ]", "", "no user is named", "nats://USER:PASSWORD@HOST:PORT"),
        ("users: [ { user: a, password: b } ]", "a:c@", "refuses this user", "correct the user and password"),
        ("token: t", "wrong@", "refuses this user", "correct the user and password"),
    ],
)
async def test_who_may_not_sign_in_is_told_why(
    start_server: StartServer, users: str, named: str, told: str, mend: str
) -> None:
    """No user, the wrong password, the wrong token."""
    server = await start_server(f"authorization {{ {users} }}")
    url = server.url.replace("//", f"//{named}")
    found = await fault(url, "NATS")
    assert found.result == "problem"
    assert told in found.found
    assert mend in found.mend
    assert ":c@" not in found.found


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own issuer, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [need("openssl", "install openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-keyout", str(key), "-out", str(cert), "-subj", "/CN=nats",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


async def test_a_certificate_that_nobody_knows_is_told_with_what_makes_it_known(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is proposed works."""
    cert, key = certificate(tmp_path)
    server = await start_server(f'tls {{ cert_file: "{cert}", key_file: "{key}" }}')
    found = await fault(server.url, "NATS")
    assert "wants TLS" in found.found
    assert "certificate" in found.found
    assert "SSL_CERT_FILE" in found.mend
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert (await looked(server.url)).reached


async def test_a_server_that_wants_a_clients_certificate_is_told(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crank has none to show."""
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    server = await start_server(f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{cert}", verify: true }}')
    found = await fault(server.url, "NATS")
    assert "client's certificate" in found.found


async def test_an_address_that_says_tls_to_a_server_without_it_is_warned_of(nats_server: NatsServer) -> None:
    """It would be taken for safe."""
    found = await fault(nats_server.url.replace("nats://", "tls://"), "NATS")
    assert found.result == "warning"
    assert "in the clear" in found.found


async def test_one_dead_address_of_two_is_warned_of(nats_server: NatsServer) -> None:
    """The other one serves."""
    async with listener() as dead:
        pass
    report = await looked(f"{dead},{nats_server.url}")
    assert report.reached
    assert report.findings[0].result == "warning"
    assert dead in report.findings[0].found
