"""The bus against a real nats-server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import weakref
from collections import Counter
from pathlib import Path

import pytest
import uvloop

import bus.client
from bus import Bus, BusUnavailable, Entry, NoResponder, NotAdmitted, Stored, Streams, StreamSpec, Tail, Unanswered
from bus.answers import Conflict
from bus.connection import BusError
from bus.ending import end
from crank.natsd import NatsServer, NatsServerError


async def test_a_request_reaches_a_handler_and_its_answer_comes_back(nats_server: NatsServer) -> None:
    """Headers, body and reply subject arrive as they were sent."""
    bus = await Bus.connect(nats_server.url, name="t")
    await bus.subscribe(
        "echo.>", lambda subject, reply, headers, body: bus.publish(reply, body + subject.encode(), headers) or None
    )
    answer = await bus.request("echo.a", b"hi ", b"NATS/1.0\r\nX: 1\r\n\r\n")
    assert (answer.body, answer.headers) == (b"hi echo.a", b"NATS/1.0\r\nX: 1\r\n\r\n")
    with pytest.raises(NoResponder):
        await bus.request("nobody", b"")
    await bus.subscribe("silent", lambda *_: None)
    with pytest.raises(Unanswered):
        await bus.request("silent", b"", timeout_s=0.05)
    await bus.close()


async def test_a_websocket_carries_the_same(tmp_path: Path) -> None:
    """``ws://`` is an address as good as ``nats://``."""
    server = NatsServer(tmp_path, extra="websocket { port: -1, no_tls: true }")
    await server.start()
    (ports,) = (tmp_path / "ports").glob("*.ports")
    bus = await Bus.connect(json.loads(ports.read_text())["websocket"][0].replace("0.0.0.0", "127.0.0.1"), name="t")
    await bus.subscribe("echo", lambda subject, reply, headers, body: bus.publish(reply, body) or None)
    assert (await bus.request("echo", b"hi")).body == b"hi"
    await bus.flush()
    await bus.close()
    await server.stop()


async def test_a_handler_that_fails_does_not_end_the_connection(nats_server: NatsServer) -> None:
    """An error in one handler costs one message."""
    bus = await Bus.connect(nats_server.url, name="t")
    seen: list[bytes] = []

    def handler(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        if body == b"bad":
            raise RuntimeError("boom")
        seen.append(body)

    await bus.subscribe("s", handler)
    bus.publish("s", b"bad")
    bus.publish("s", b"good")
    await bus.flush()
    assert seen == [b"good"]
    await bus.close()


async def test_a_subject_that_is_not_text_is_handed_over_readable(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """NATS carries any bytes in a subject: the handler answers such a message, and nothing is logged as an error."""
    bus = await Bus.connect(nats_server.url, name="t")
    seen: list[tuple[str, str]] = []
    await bus.subscribe("s.>", lambda subject, reply, headers, body: seen.append((subject, reply)))
    await bus.flush()  # what another connection sends next must not overtake the subscription
    _, raw = await asyncio.open_connection("127.0.0.1", nats_server.port)
    raw.write(b'CONNECT {"verbose":false}\r\nPUB s.\xff\xfe back 0\r\n\r\nPUB s.a \xff 0\r\n\r\nPUB s.b back 0\r\n\r\n')
    await _until(lambda: ("s.b", "back") in seen)
    raw.close()
    await raw.wait_closed()
    assert seen == [("s.\ufffd\ufffd", "back"), ("s.b", "back")], "an answer to the second could not be addressed"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    await bus.close()


async def test_a_subject_with_a_form_feed_costs_nobody_the_connection(nats_server: NatsServer) -> None:
    """The server lets such a subject pass; also where its messages come in pieces, all arrive and none breaks it."""
    lost: list[str] = []
    came_back = asyncio.Event()

    async def back() -> None:
        came_back.set()

    bus = await Bus.connect(nats_server.url, name="t", on_error=lost.append, on_reconnect=back)
    seen: list[str] = []
    await bus.subscribe("s.>", lambda subject, *_: seen.append(subject))
    await bus.flush()
    _, raw = await asyncio.open_connection(*nats_server.url.removeprefix("nats://").split(":"))
    body = b"x" * 3000
    raw.write(b'CONNECT {"verbose":false}\r\n' + (b"PUB s.\x0cb re\x0bply 3000\r\n" + body + b"\r\n") * 200)
    await raw.drain()
    async with asyncio.timeout(10):
        while len(seen) < 200 and not came_back.is_set():
            await asyncio.sleep(0.01)
    assert seen == ["s.\x0cb"] * 200
    assert lost == []
    raw.close()
    await bus.close()


async def test_a_server_that_does_not_read_is_sent_no_more_than_a_bound(nats_server: NatsServer) -> None:
    """Publishing says False at 64 MB of unsent bytes, over many turns of the loop, and True when they left."""
    bus = await Bus.connect(nats_server.url, name="t")
    assert nats_server.process is not None
    os.kill(nats_server.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, nats_server.process.pid, os.WSTOPPED | os.WNOWAIT)  # it may take a moment
    body, taken = b"x" * 1024 * 1024, 0
    try:
        while taken < 200 and bus.publish("s", body):
            taken += 1
            await asyncio.sleep(0)
        assert 60 <= taken < 80, "a few more than 64, for the buffers of the system"
        assert not bus.publish("s", b"")
    finally:
        os.kill(nats_server.process.pid, signal.SIGCONT)
    await _until(lambda: bus.publish("s", b""))
    await bus.flush()
    await bus.close()


async def test_what_the_server_would_not_take_is_refused_before_it_closes_the_connection(
    nats_server: NatsServer,
) -> None:
    """A message over the server's limit does not leave, and the connection lives on."""
    bus = await Bus.connect(nats_server.url, name="t")
    assert not bus.publish("s", b"x" * (bus.max_body_bytes + 2000))
    assert bus.publish("s", b"x")
    await bus.flush()
    assert bus.connected
    await bus.close()


async def test_nothing_is_published_while_disconnected_nor_later(nats_server: NatsServer) -> None:
    """A publish without a server says False, and does not arrive after the reconnect."""
    back = asyncio.Event()

    async def on_reconnect() -> None:
        back.set()

    bus = await Bus.connect(nats_server.url, name="t", on_reconnect=on_reconnect)
    seen: list[bytes] = []
    await bus.subscribe("s", lambda s, r, h, body: seen.append(body))
    await nats_server.stop()
    while bus.connected:
        await asyncio.sleep(0.01)
    assert not bus.publish("s", b"late")
    await nats_server.start()
    await asyncio.wait_for(back.wait(), 10)
    assert bus.publish("s", b"now")
    await bus.flush()
    assert seen == [b"now"]
    await bus.close()


async def test_no_server_is_said_plainly() -> None:
    """The error names the address, and not the password in it."""
    with pytest.raises(BusUnavailable) as caught:
        await Bus.connect("nats://user:secret@127.0.0.1:1", name="t", timeout_s=0.5)
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_subscription_that_ends_still_handles_what_was_on_its_way(nats_server: NatsServer) -> None:
    """Between unsubscribe and flush nothing is lost."""
    bus, other = await Bus.connect(nats_server.url, name="t"), await Bus.connect(nats_server.url, name="o")
    seen: list[bytes] = []
    subscription = await bus.subscribe("s", lambda s, r, h, body: seen.append(body))
    await bus.flush()
    for number in range(100):
        other.publish("s", b"%d" % number)
    await other.flush()
    await bus.unsubscribe(subscription)
    await bus.flush()
    assert len(seen) == 100
    other.publish("s", b"after")
    await other.flush()
    await bus.flush()
    assert len(seen) == 100
    await bus.close()
    await other.close()


SPEC = StreamSpec("T", "t.*")


async def test_an_append_under_a_stale_sequence_is_refused(nats_server: NatsServer) -> None:
    """Compare-and-set per subject: the second writer with the same knowledge loses."""
    bus = await Bus.connect(nats_server.url, name="t")
    streams = Streams(bus)
    await streams.ensure(SPEC)
    first = await streams.append("t.a", b"1", expected_seq=0, headers=(("X", "y"),), ttl=None)
    assert isinstance(first, Stored)
    assert await streams.append("t.a", b"2", expected_seq=0, headers=(), ttl=None) == Conflict()
    entry = await streams.read_last("T", "t.a")
    assert entry is not None
    assert (entry.seq, entry.body) == (first.seq, b"1")
    assert await streams.read_last("T", "t.b") is None
    await bus.close()


async def test_a_tail_replays_follows_and_starts_over_when_the_stream_is_recreated(nats_server: NatsServer) -> None:
    """A stream deleted under the tail is read again from its start, within seconds."""
    bus = await Bus.connect(nats_server.url, name="t")
    streams = Streams(bus)
    await streams.ensure(SPEC)
    for name in ("a", "b"):
        await streams.append(f"t.{name}", name.encode(), expected_seq=0, headers=(), ttl=None)
    log: list[str] = []
    tail = Tail(
        bus,
        SPEC,
        on_entry=lambda entry: log.append(entry.body.decode()),
        on_restart=lambda: log.append("restart"),
        on_replayed=lambda: log.append("replayed"),
    )
    await tail.start()
    await _until(lambda: log == ["a", "b", "replayed"])
    await streams.append("t.c", b"c", expected_seq=0, headers=(), ttl=None)
    await _until(lambda: log[-1] == "c")
    await bus.jetstream.delete_stream("T")
    await _recreated(streams)
    await streams.append("t.d", b"d", expected_seq=0, headers=(), ttl=None)
    tail.check()
    await _until(lambda: log[4:] == ["restart", "d", "replayed"])
    await tail.stop()
    await bus.close()


async def test_a_tail_goes_on_after_the_server_restarted(nats_server: NatsServer) -> None:
    """Entries stored after a restart of nats-server arrive; entries from before do not arrive twice."""
    bus = await Bus.connect(nats_server.url, name="t")
    streams = Streams(bus)
    log: list[Entry] = []
    tail = Tail(bus, SPEC, on_entry=log.append, on_restart=lambda: None, on_replayed=lambda: None)
    await tail.start()
    await streams.append("t.a", b"a", expected_seq=0, headers=(), ttl=None)
    await _until(lambda: len(log) == 1)
    await nats_server.stop()
    await nats_server.start()
    await _until(lambda: bus.connected)
    tail.check()
    await _until_stored(streams)
    await _until(lambda: [entry.body for entry in log] == [b"a", b"b"])
    await tail.stop()
    await bus.close()


async def _recreated(streams: Streams) -> None:
    for _ in range(50):
        try:
            return await streams.ensure(SPEC)
        except BusError:  # nats-server is still removing the files of the one that was deleted
            await asyncio.sleep(0.1)
    raise AssertionError("the stream cannot be created again")


async def _until_stored(streams: Streams) -> None:
    for _ in range(100):
        if isinstance(await streams.append("t.b", b"b", expected_seq=0, headers=(), ttl=None), Stored):
            return
        await asyncio.sleep(0.1)


async def _until(condition: object, timeout_s: float = 10) -> None:
    assert callable(condition)
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_server_that_lets_nobody_in_is_told_from_none(tmp_path: Path) -> None:
    """There is a server; it is the user that is wrong."""
    server = NatsServer(tmp_path, extra="authorization { user: a, password: b }")
    with contextlib.suppress(NatsServerError):  # which asks as nobody whether it is ready
        await server.start()
    with pytest.raises(NotAdmitted, match="refuses this user or password") as caught:
        await Bus.connect(server.url.replace("//", "//a:secret@"), name="t", timeout_s=1.0)
    assert "secret" not in str(caught.value)
    await server.stop()


async def test_a_refusal_that_was_heard_once_outlives_a_reset() -> None:
    """A server that refuses may close before it has read all, and then the next attempt hears a reset only."""
    attempts = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.write(b'INFO {"auth_required":true,"max_payload":1024}\r\n')
        await reader.readline()
        if attempts == 1:
            await reader.readline()
            writer.write(b"-ERR 'Authorization Violation'\r\n")
            await writer.drain()
            writer.close()
        else:
            writer.transport.abort()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotAdmitted, match="refuses this user or password"):
            await Bus.connect(f"nats://a:secret@127.0.0.1:{port}", name="t", timeout_s=1.0)
    assert attempts > 1


async def test_a_lost_connection_is_told_and_a_closed_one_is_not(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is cut off looks healthy otherwise."""
    closed, cut = await Bus.connect(nats_server.url, name="closed"), await Bus.connect(nats_server.url, name="cut")
    await closed.close()
    assert "lost" not in caplog.text
    await nats_server.stop()
    async with asyncio.timeout(10):
        while "the connection to NATS is lost" not in caplog.text:
            await asyncio.sleep(0.02)
    await cut.close()
    assert caplog.text.count("is lost") == 1


async def test_who_subscribes_on_a_connection_that_just_closes_is_subscribed_on_the_next(
    nats_server: NatsServer,
) -> None:
    """On uvloop, which refuses to write to what is closed; leaving a subject then is no error either."""

    async def scenario() -> bytes:
        connection = await Bus.connect(nats_server.url, name="t")
        ended = await connection.subscribe("ended", lambda *_: None)
        client = connection._client
        client._flusher_task.cancel()
        client._transport._io_writer.transport.abort()
        await asyncio.sleep(0)
        assert connection.connected  # it has not been noticed
        await connection.unsubscribe(ended)
        await connection.subscribe("echo", lambda subject, reply, h, body: connection.publish(reply, body) or None)
        try:
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(BusError):
                        return (await connection.request("echo", b"hi", timeout_s=0.5)).body
                    await asyncio.sleep(0.02)
        finally:
            await connection.close()

    assert await asyncio.to_thread(uvloop.run, scenario()) == b"hi"


async def test_a_subscription_that_ended_is_forgotten(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches one key after the other would fill the memory with those that nobody watches any more."""
    monkeypatch.setattr(bus.client, "_ON_THEIR_WAY_S", 0.0)
    connection = await Bus.connect(nats_server.url, name="t")
    handlers = [Counter() for _ in range(3)]
    kept = [weakref.ref(handler) for handler in handlers]
    for handler in handlers:
        await connection.unsubscribe(await connection.subscribe("s", lambda *_, to=handler: to.update("x")))
    del handler, handlers
    await asyncio.sleep(0)
    await connection.flush()
    gc.collect()
    assert [ref() for ref in kept] == [None] * 3
    await connection.close()


async def test_a_subscription_that_was_given_up_does_not_come_with_the_next_connection(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was told that there is none hears nothing."""
    back = asyncio.Event()

    async def on_back() -> None:
        back.set()

    connection = await Bus.connect(nats_server.url, name="t", on_reconnect=on_back)
    other = await Bus.connect(nats_server.url, name="o")
    seen: list[bytes] = []
    with monkeypatch.context() as patch:
        patch.setattr(bus.client, "_COMMANDS_LEAVE_S", 0.0)
        with pytest.raises(BusUnavailable):
            await connection.subscribe("s", lambda s, r, h, body: seen.append(body))
    await nats_server.stop()
    await nats_server.start()
    async with asyncio.timeout(20):
        await back.wait()
        while not other.connected:
            await asyncio.sleep(0.05)
    other.publish("s", b"x")
    await other.flush()
    await connection.flush()
    assert seen == []
    await connection.close()
    await other.close()


async def test_a_cancel_that_comes_together_with_the_answer_is_not_lost(nats_server: NatsServer) -> None:
    """Whoever cancels and waits for the end would wait for what is done after the answer."""
    bus = await Bus.connect(nats_server.url, name="t")
    await bus.subscribe("silent", lambda *_: None)
    asking = asyncio.create_task(bus.request("silent", b""))
    await _until(lambda: bus._waiting)
    bus._on_inbox(next(iter(bus._waiting)), "", None, b"answer")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await bus.close()


async def test_a_task_that_loses_a_cancel_is_ended_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """And the error of one that had failed is logged, not raised where something else is being stopped."""

    async def loses_one() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def fails() -> None:
        raise RuntimeError("boom")

    tasks = [asyncio.create_task(loses_one()), asyncio.create_task(fails())]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        for task in tasks:
            await end(task)
    assert tasks[0].cancelled()
    assert "boom" in caplog.text
