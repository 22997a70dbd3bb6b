"""The bus in memory keeps what a real one promises: the same tests, on both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bus import Bus, BusUnavailable, Message, NoResponder, Unanswered
from crank.natsd import NatsServer
from crank.testing.exchange import Exchange, MemoryBus

Connect = Callable[[], Awaitable[Bus]]


@pytest.fixture(params=["memory", "real"])
async def connect(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Connect]:
    """Makes connections that see each other; all are closed at the end."""
    made: list[Bus] = []
    server = NatsServer(tmp_path / "nats")
    if request.param == "real":
        await server.start()
    exchange = Exchange()

    async def connect() -> Bus:
        made.append(MemoryBus(exchange) if request.param == "memory" else await Bus.connect(server.url, name="t"))
        return made[-1]

    yield connect
    for bus in made:
        await bus.close()
    await server.stop()


class Heard(list[Message]):
    """A handler that keeps what it gets."""

    def __call__(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        self.append(Message(subject, reply, headers, body))


async def _settle(*buses: Bus) -> None:
    for _ in range(2):
        for bus in buses:
            await bus.flush()


async def test_messages_go_to_every_subscription_that_fits_in_their_order(connect: Connect) -> None:
    """Exact subjects, ``*`` for one token, ``>`` for the rest; headers and reply subjects come along as they are."""
    one, two = await connect(), await connect()
    heard = {subject: Heard() for subject in ("a.b", "a.*", "a.>", "*.b", ">", "a.b.c")}
    for subject, handler in heard.items():
        await two.subscribe(subject, handler)
    await _settle(two)
    block = b"NATS/1.0\r\nX-A: 1\r\n\r\n"
    sent = [("a.b", b"1"), ("a.b.c", b"2"), ("a", b"3"), ("a.bc", b"4"), ("b.b", b"5")]
    for subject, body in sent:
        assert one.publish(subject, body, block, "back.here")
    await _settle(one, two)
    got = {subject: b"".join(message.body for message in messages) for subject, messages in heard.items()}
    assert got == {"a.b": b"1", "a.*": b"14", "a.>": b"124", "*.b": b"15", ">": b"12345", "a.b.c": b"2"}
    assert heard["a.b"] == [Message("a.b", "back.here", block, b"1")]


async def test_one_of_a_queue_group_gets_each_message(connect: Connect) -> None:
    """And whoever listens beside the group gets all of them."""
    one, two = await connect(), await connect()
    members, beside = [Heard(), Heard()], Heard()
    for member in members:
        await two.subscribe("a.>", member, "g")
    await two.subscribe("a.b", beside)
    await _settle(two)
    for number in range(40):
        one.publish("a.b", b"%d" % number)
    await _settle(one, two)
    assert len(beside) == 40
    assert sorted(map(len, members)) != [0, 40]
    assert sum(map(len, members)) == 40


async def test_a_request_gets_the_first_answer_or_hears_that_nobody_is_there(connect: Connect) -> None:
    """Nobody listening is known at once; silence ends with the time-out."""
    one, two = await connect(), await connect()
    await two.subscribe("echo", lambda subject, reply, headers, body: [two.publish(reply, body) for _ in "12"] and None)
    await two.subscribe("silent", lambda *message: None)
    await _settle(two)
    assert (await one.request("echo", b"hi", b"NATS/1.0\r\nX-A: 1\r\n\r\n")).body == b"hi"
    with pytest.raises(NoResponder):
        await one.request("nobody", b"")
    with pytest.raises(Unanswered) as silent:
        await one.request("silent", b"", timeout_s=0.05)
    assert not isinstance(silent.value, NoResponder)


async def test_nobody_there_is_told_on_the_reply_subject(connect: Connect) -> None:
    """As a header block with the status 503 and no body."""
    bus, heard = await connect(), Heard()
    inbox = bus.new_inbox()
    await bus.subscribe(inbox, heard)
    bus.publish("nobody", b"", reply=inbox)
    await _settle(bus)
    [message] = heard
    assert message.headers is not None
    assert message.headers.startswith(b"NATS/1.0 503")
    assert (message.subject, message.body) == (inbox, b"")


async def test_after_unsubscribing_and_a_flush_nothing_comes(connect: Connect) -> None:
    """And a handler that fails costs nobody else a message."""
    bus, heard, after = await connect(), Heard(), Heard()

    def broken(*message: object) -> None:
        raise RuntimeError

    subscription = await bus.subscribe("a", heard)
    await bus.subscribe("a", broken)
    await bus.subscribe("a", after)
    bus.publish("a", b"1")
    await _settle(bus)
    await bus.unsubscribe(subscription)
    bus.publish("a", b"2")
    await _settle(bus)
    assert [message.body for message in heard] == [b"1"]
    assert [message.body for message in after] == [b"1", b"2"]


async def test_what_is_too_large_does_not_leave(connect: Connect) -> None:
    """Headers count; what is just small enough does."""
    bus, heard = await connect(), Heard()
    await bus.subscribe("a", heard)
    most, block = bus.max_payload_bytes, b"NATS/1.0\r\n\r\n"
    assert bus.publish("a", b"x" * most)
    assert not bus.publish("a", b"x" * (most + 1))
    assert not bus.publish("a", b"x" * most, block)
    assert bus.max_body_bytes + 1024 == most
    await _settle(bus)
    assert len(heard) == 1


async def test_a_closed_connection_neither_sends_nor_hears(connect: Connect) -> None:
    """Publishing says so, and a request raises."""
    one, two, heard = await connect(), await connect(), Heard()
    await one.subscribe("a", heard)
    await one.flush()
    await one.close()
    assert not one.connected
    assert not one.publish("a", b"")
    with pytest.raises(BusUnavailable):
        await one.request("a", b"")
    with pytest.raises(BusUnavailable):
        await one.flush()
    two.publish("a", b"")
    await two.flush()
    await asyncio.sleep(0)
    assert heard == []
