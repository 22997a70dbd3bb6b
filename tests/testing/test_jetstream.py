"""JetStream in memory does what controllers rely on, as the real one: the same tests, on both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bus import Bus, Conflict, Message, Stored, Streams, StreamSpec
from bus.specs import bucket
from crank.natsd import NatsServer
from crank.testing.exchange import Exchange, MemoryBus
from crank.testing.streams import MemoryStreams
from subjects.headers import build_block
from tests.testing.conftest import until

CLAIMS = bucket("c", 1, 1_000_000)
JOBS = StreamSpec("JOBS", "jobs.*", max_per_subject=-1, work_queue=True, duplicates_s=120)


class There(NamedTuple):
    """A connection and the streams behind it."""

    bus: Bus
    streams: Streams

    async def api(self, operation: str, question: dict[str, Any]) -> dict[str, Any]:
        """JetStream's answer."""
        answer = await self.bus.request(f"$JS.API.{operation}", json.dumps(question).encode())
        found: dict[str, Any] = json.loads(answer.body)
        return found


@pytest.fixture(params=["memory", "real"])
async def there(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[There]:
    """In memory, and over a server."""
    if request.param == "memory":
        exchange = Exchange()
        yield There(MemoryBus(exchange), MemoryStreams(MemoryBus(exchange)))
        return
    server = NatsServer(tmp_path / "nats")
    await server.start()
    bus = await Bus.connect(server.url, name="t")
    yield There(bus, Streams(bus))
    await bus.close()
    await server.stop()


async def test_the_last_of_a_subject_is_kept_under_a_compare_and_set(there: There) -> None:
    """Whoever knows another sequence is refused; what is read is the last."""
    _, streams = there
    assert await streams.ensure(CLAIMS) == await streams.ensure(CLAIMS) == []
    first = await streams.append("$KV.c.a", b"1", expected_seq=0, headers=(("X-A", "b"),), ttl=None)
    assert isinstance(first, Stored)
    assert await streams.append("$KV.c.a", b"2", expected_seq=0, headers=(), ttl=None) == Conflict()
    entry = await streams.read_last("KV_c", "$KV.c.a")
    assert entry is not None
    assert (entry.seq, entry.subject, entry.body) == (first.seq, "$KV.c.a", b"1")
    assert entry.headers is not None
    assert b"X-A: b\r\n" in entry.headers
    assert isinstance(await streams.append("$KV.c.a", b"2", expected_seq=1, headers=(), ttl=None), Stored)
    assert await streams.read_last("KV_c", "$KV.c.b") is None
    state = (await there.api("STREAM.INFO.KV_c", {}))["state"]
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (1, 2, 2)


async def test_a_message_whose_time_is_over_is_gone(there: There) -> None:
    """And its key is as if never used."""
    await there.streams.ensure(CLAIMS)
    block = build_block([("Nats-TTL", "1s")])
    await there.bus.request("$KV.c.a", b"1", block)
    assert await there.streams.read_last("KV_c", "$KV.c.a") is not None
    async with asyncio.timeout(5):
        while await there.streams.read_last("KV_c", "$KV.c.a") is not None:
            await asyncio.sleep(0.05)
    assert isinstance(await there.streams.append("$KV.c.a", b"2", expected_seq=0, headers=(), ttl=None), Stored)


async def test_a_message_is_stored_once_by_its_id(there: There) -> None:
    """The second one is acknowledged under the first one's sequence; it can be read by it, and removed."""
    await there.streams.ensure(JOBS)
    block = build_block([("Nats-Msg-Id", "a.1")])
    answers = [json.loads((await there.bus.request("jobs.a", b"1", block)).body) for _ in range(2)]
    assert [(answer["seq"], answer.get("duplicate", False)) for answer in answers] == [(1, False), (1, True)]
    await there.bus.request("jobs.a", b"2")
    for which, seq in (({"seq": 1}, 1), ({"seq": 2, "next_by_subj": "jobs.a"}, 2), ({"last_by_subj": "jobs.a"}, 2)):
        assert (await there.api("STREAM.MSG.GET.JOBS", which))["message"]["seq"] == seq
    assert (await there.api("STREAM.MSG.DELETE.JOBS", {"seq": 1, "no_erase": True}))["success"]
    assert (await there.api("STREAM.MSG.GET.JOBS", {"seq": 1}))["error"]["err_code"] == 10037


async def test_a_stream_that_nobody_made_is_not_found(there: There) -> None:
    """Which is not the same as that nobody stores."""
    await there.streams.ensure(JOBS)
    for operation in ("STREAM.INFO.OTHER", "STREAM.MSG.GET.OTHER", "CONSUMER.NAMES.OTHER"):
        answer = await there.api(operation, {"seq": 1} if "MSG" in operation else {})
        assert answer["error"]["err_code"] == 10059


class Puller:
    """A consumer of jobs, and what it was handed."""

    def __init__(self, there: There) -> None:
        self.there = there
        self.inbox = there.bus.new_inbox()
        self.got: list[Message] = []

    async def start(self, *, wait_s: float = 30.0) -> None:
        """Make the consumer."""
        config = {
            "durable_name": "d",
            "filter_subject": "jobs.a",
            "ack_policy": "explicit",
            "ack_wait": int(wait_s * 1e9),
        }
        made = await self.there.api("CONSUMER.CREATE.JOBS.d", {"stream_name": "JOBS", "config": config})
        assert made["name"] == "d"
        await self.there.bus.subscribe(self.inbox, lambda *message: self.got.append(Message(*message)))

    async def pulled(self, count: int, **wanted: Any) -> list[Message]:
        """Pull, and wait for so many messages, statuses too."""
        self.got.clear()
        question = json.dumps({"batch": 10, **(wanted or {"expires": 10**9})}).encode()
        self.there.bus.publish("$JS.API.CONSUMER.MSG.NEXT.JOBS.d", question, reply=self.inbox)
        await until(lambda: len(self.got) >= count)
        return list(self.got)


@pytest.fixture
async def puller(there: There) -> Puller:
    """Pulls from a stream of jobs."""
    await there.streams.ensure(JOBS)
    return Puller(there)


async def test_a_pull_brings_what_is_there_and_what_comes(there: There, puller: Puller) -> None:
    """Under the subjects that it was stored on, each with where to acknowledge it, and a status at its end."""
    await there.bus.request("jobs.a", b"1", build_block([("X-A", "b")]))
    await there.bus.request("jobs.b", b"of another")
    await puller.start()
    assert (await there.api("CONSUMER.NAMES.JOBS", {}))["consumers"] == ["d"]
    (first,) = await puller.pulled(1)
    assert (first.subject, first.body) == ("jobs.a", b"1")
    assert first.headers is not None
    assert b"X-A: b\r\n" in first.headers
    assert first.reply.split(".")[:6] == ["$JS", "ACK", "JOBS", "d", "1", "1"]
    await there.bus.request("jobs.a", b"2")
    await until(lambda: len(puller.got) == 3)
    assert [message.subject for message in puller.got] == ["jobs.a", "jobs.a", puller.inbox]
    assert puller.got[2].headers is not None
    assert puller.got[2].headers.startswith(b"NATS/1.0 408")


async def test_what_is_acknowledged_is_gone_and_what_is_not_comes_again(there: There, puller: Puller) -> None:
    """After the wait, or after the delay that was asked for; who extends it is not disturbed."""
    for body in (b"done", b"later", b"silent", b"long"):
        await there.bus.request("jobs.a", body)
    await puller.start(wait_s=1.0)
    handed = {message.body: message.reply for message in await puller.pulled(4, expires=4 * 10**9)}
    there.bus.publish(handed[b"done"], b"+ACK")
    there.bus.publish(handed[b"later"], b'-NAK {"delay": 100000000}')
    for _ in range(3):
        await asyncio.sleep(0.4)
        there.bus.publish(handed[b"long"], b"+WPI")
    await until(lambda: len(puller.got) >= 6)
    again = puller.got[4:6]
    assert {message.body for message in again} == {b"later", b"silent"}
    assert {message.reply.split(".")[4] for message in again} == {"2"}
    for message in (*again, Message("", handed[b"long"], None, b"")):
        there.bus.publish(message.reply, b"+ACK")
    await there.bus.flush()
    (end,) = await puller.pulled(1, no_wait=True)
    assert end.headers is not None
    assert end.headers.startswith(b"NATS/1.0 404")


async def test_headers_can_be_read_without_being_taken(there: There, puller: Puller) -> None:
    """By a consumer without acknowledgements, from a sequence on; then it is deleted."""
    stream = JOBS._replace(name="DEAD", subjects="dead.*", work_queue=False)
    await there.streams.ensure(stream)
    for body in (b"1", b"2", b"3"):
        await there.bus.request("dead.a", body)
    config = {"ack_policy": "none", "deliver_policy": "by_start_sequence", "opt_start_seq": 2, "headers_only": True,
              "filter_subject": "dead.a", "inactive_threshold": 10**10}  # fmt: skip
    made = await there.api("CONSUMER.CREATE.DEAD", {"stream_name": "DEAD", "config": config})
    assert made["num_pending"] == 2
    await there.bus.subscribe(puller.inbox, lambda *message: puller.got.append(Message(*message)))
    next_ = f"$JS.API.CONSUMER.MSG.NEXT.DEAD.{made['name']}"
    there.bus.publish(next_, b'{"batch": 5, "no_wait": true}', reply=puller.inbox)
    await until(lambda: len(puller.got) == 3)
    assert [message.body for message in puller.got] == [b"", b"", b""]
    assert [message.reply.split(".")[8] for message in puller.got[:2]] == ["1", "0"], "how many are left"
    there.bus.publish(f"$JS.API.CONSUMER.DELETE.DEAD.{made['name']}", b"")
    await there.bus.flush()
    state = (await there.api("STREAM.INFO.DEAD", {}))["state"]
    assert state["messages"] == 3
