"""Objects: bodies that one message cannot hold."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from bus import Bus, Streams
from bus.connection import BusError
from bus.objects import Objects
from bus.specs import object_store
from crank.natsd import NatsServer

MB = 1024 * 1024


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to a server with the bucket ``big``."""
    bus = await Bus.connect(nats_server.url, name="t")
    await Streams(bus).ensure(object_store("big", 1, 16 * MB))
    yield bus
    await bus.close()


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 128 * 1024 + 1, 3 * MB])
async def test_a_body_comes_back_as_it_was(bus: Bus, size: int) -> None:
    """Also where it is empty, or a whole number of pieces."""
    objects, body = Objects(bus, "big"), bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    await objects.put("a", body, None)
    assert await objects.get("a", size) == body
    assert await objects.get("b", size) is None


async def test_other_clients_can_read_it(bus: Bus) -> None:
    """It is an object store like any other."""
    body = b"y" * (300 * 1024)
    await Objects(bus, "big").put("a", body, 3600)
    store = await bus.jetstream.object_store("big")
    assert [(one.name, one.size) for one in await store.list()] == [("a", len(body))]
    assert (await store.get("a")).data == body


async def test_a_body_that_is_larger_than_whoever_asks_can_take_is_not_read(bus: Bus) -> None:
    """What a description says of a size is believed before anything is read."""
    objects = Objects(bus, "big")
    await objects.put("a", b"x" * 1000, None)
    assert await objects.get("a", 999) is None


async def test_the_same_put_twice_is_there_once(bus: Bus) -> None:
    """Whoever does not know what came of it may try again."""
    objects, body = Objects(bus, "big"), b"z" * (300 * 1024)
    await objects.put("a", body, None)
    await objects.put("a", body, None)
    assert await objects.get("a", MB) == body
    assert (await bus.jetstream.stream_info("OBJ_big")).state.messages == 4


@pytest.mark.parametrize("lost", ["piece", "description"])
async def test_a_body_of_which_something_is_lost_is_gone(bus: Bus, lost: str) -> None:
    """Never a shorter one."""
    objects = Objects(bus, "big")
    await objects.put("a", b"z" * (300 * 1024), None)
    await bus.jetstream.delete_msg("OBJ_big", 2 if lost == "piece" else 4)
    assert await objects.get("a", MB) is None


async def test_a_body_that_somebody_changed_is_gone(bus: Bus) -> None:
    """Its digest tells."""
    objects = Objects(bus, "big")
    await objects.put("a", b"z" * (200 * 1024), None)
    await bus.jetstream.delete_msg("OBJ_big", 2)
    await bus.request("$O.big.C.a", b"y" * (72 * 1024))
    assert await objects.get("a", MB) is None


async def test_a_description_that_is_none_is_no_object(bus: Bus) -> None:
    """Whoever may write there cannot make a reader fail."""
    for number, body in enumerate([b"", b"{", b"\xff", b'{"name":1}', b"[" * 100_000]):
        name = f"a{number}"
        await bus.request(f"$O.big.M.{base64.urlsafe_b64encode(name.encode()).decode()}", body)
        assert await Objects(bus, "big").get(name, MB) is None


async def test_all_of_a_body_is_forgotten_when_its_time_is_over(bus: Bus) -> None:
    """Pieces and description."""
    await Objects(bus, "big").put("a", b"z" * (300 * 1024), 1)
    assert (await bus.jetstream.stream_info("OBJ_big")).state.messages == 4
    async with asyncio.timeout(10):
        while (await bus.jetstream.stream_info("OBJ_big")).state.messages:
            await asyncio.sleep(0.05)


async def test_a_bucket_that_is_full_or_missing_is_told(bus: Bus) -> None:
    """And what is there of the body is not found."""
    with pytest.raises(BusError, match="OBJ_big is full; give it more"):
        await Objects(bus, "big").put("a", b"z" * 17 * MB, None)
    assert await Objects(bus, "big").get("a", 32 * MB) is None
    with pytest.raises(BusError, match="OBJ_other takes nothing: JetStream is off, or the stream is missing"):
        await Objects(bus, "other").put("a", b"z", None)
    with pytest.raises(BusError, match="OBJ_other cannot be read: stream not found"):
        await Objects(bus, "other").get("a", MB)
