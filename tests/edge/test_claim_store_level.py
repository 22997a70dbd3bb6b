"""Watching over the store: full, changed, gone, and made anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bus import Bus
from controller.core.stored import (
    ClaimFailed,
    ClaimRead,
    ClaimRefused,
    ClaimStored,
    ClaimUnread,
    ReleaseClaim,
    StoreLevel,
)
from controller.edge.store_watch import StoreWatch
from crank.natsd import NatsServer
from tests.edge.claim_probe import STREAM, Probe, key, record
from tests.edge.peers import until

SMALL = 100_000


@pytest.fixture
async def small(nats_server: NatsServer) -> AsyncIterator[Probe]:
    """A store of 100 kB."""
    probe = await Probe.on(nats_server.url, max_bytes=SMALL)
    yield probe
    await probe.close()


async def _change(bus: Bus, **changed: Any) -> None:
    config = (await bus.jetstream.stream_info(STREAM)).config
    await bus.jetstream.update_stream(config.evolve(**changed))


async def test_a_store_that_is_nearly_full_is_told_once_and_again_when_it_has_room(small: Probe) -> None:
    """At 80 % of its bytes, in words that say what to do."""
    first = await small.written("a", record(reason="x" * 70_000))
    assert isinstance(first, ClaimStored)
    await until(lambda: len(small.events) > 1 or small.refuses is None)
    assert small.refuses is None
    assert isinstance(await small.written("b", record(reason="x" * 12_000)), ClaimStored)
    await until(lambda: small.refuses is not None)
    assert small.refuses is not None
    assert small.refuses.startswith(f"{STREAM} is nearly full: over 80% of its {SMALL} bytes")
    assert f"nats stream edit {STREAM} --max-bytes" in small.refuses
    small.send(ReleaseClaim(key("a"), first.seq))
    await until(lambda: small.refuses == "")
    assert len([event for event in small.events if isinstance(event, StoreLevel)]) == 2


async def test_a_store_without_room_stores_nothing_and_says_what_to_do(small: Probe) -> None:
    """Nothing is dropped to make room; what is there can be replaced by what is not larger."""
    held = await small.written("a", record(reason="x" * 90_000))
    assert isinstance(held, ClaimStored)
    failed = await small.written("b", record(reason="x" * 20_000))
    assert isinstance(failed, ClaimFailed)
    assert failed.reason == f"{STREAM} is full; give it more with `nats stream edit {STREAM} --max-bytes <bytes>`"
    assert await small.read("b") == ClaimRead(key("b"), None, 0)
    assert isinstance(await small.written("a", record(), held.seq), ClaimStored)


async def test_a_full_object_store_takes_no_new_claims_either(small: Probe) -> None:
    """A large answer would find no room after the work ran."""
    await small.bus.request("$O.crank_answers.C.x", b"x" * 85_000)
    await until(lambda: bool(small.refuses))
    assert small.refuses is not None
    assert small.refuses.startswith("OBJ_crank_answers is nearly full")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"max_age": 3600.0}, "max_age is 3600000000000, not 0"),
        ({"discard": "old"}, 'discard is "old", not "new"'),
    ],
)
async def test_a_bucket_that_somebody_changed_takes_no_new_claims_until_it_is_changed_back(
    small: Probe, changed: dict[str, Any], told: str
) -> None:
    """It would break a promise: forget claims too soon, or tell nobody of them."""
    before = (await small.bus.jetstream.stream_info(STREAM)).config
    await _change(small.bus, **changed)
    await until(lambda: bool(small.refuses))
    assert small.refuses is not None
    assert told in small.refuses
    assert f"nats stream edit {STREAM}" in small.refuses
    await small.bus.jetstream.update_stream(before)
    await until(lambda: small.refuses == "")


async def test_a_bucket_that_was_there_and_is_another_is_told_at_the_start(nats_server: NatsServer) -> None:
    """It is left as it is, and requests without a key are served."""
    bus = await Bus.connect(nats_server.url, name="t")
    await bus.jetstream.add_stream(name=STREAM, subjects=["$KV.crank_idempotency.>"], max_msgs_per_subject=5)
    probe = await Probe.on(nats_server.url)
    await until(lambda: bool(probe.refuses))
    assert probe.refuses is not None
    assert "max_msgs_per_subject is 5, not 1" in probe.refuses
    await probe.close()
    await bus.close()


async def test_a_bucket_that_is_deleted_fails_clearly_and_is_made_anew(
    small: Probe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then nothing is taken for stored or for free; what it held is forgotten, and that is logged."""
    held = await small.written("a", record())
    assert isinstance(held, ClaimStored)
    with monkeypatch.context() as between_looks:
        between_looks.setattr(StoreWatch, "look", lambda self: None)
        await small.bus.flush()
        await small.bus.jetstream.delete_stream(STREAM)
        failed, found = await small.written("a", record(), held.seq), await small.read("a")
    assert isinstance(failed, ClaimFailed)
    assert failed.reason == "JetStream is off, or the stream is missing or has no leader at present"
    assert found == ClaimUnread(key("a"), f"{STREAM} cannot be read: stream not found")
    await until(lambda: f"{STREAM} was gone, and is made anew: what it held is forgotten" in caplog.text)
    renewed = record()
    assert await small.written("a", renewed, held.seq + 5) == ClaimRefused(key("a"), renewed.nonce, None, 0)
    assert isinstance(await small.written("a", record()), ClaimStored)
    assert not small.refuses


async def test_a_server_that_lost_its_store_gets_a_new_one(nats_server: NatsServer, small: Probe) -> None:
    """Keys are taken again."""
    assert isinstance(await small.written("a", record()), ClaimStored)
    await nats_server.stop()
    for path in sorted((nats_server.state / "jetstream").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    await nats_server.start()
    await until(lambda: small.bus.connected)

    def there() -> bool:
        small.put("b", record())
        return any(isinstance(event, ClaimStored) and event.key == key("b") for event in small.events)

    await until(there)


async def test_a_store_that_cannot_be_made_is_told_and_made_as_soon_as_it_can(nats_server: NatsServer) -> None:
    """Requests without a key do not wait for it."""
    bus = await Bus.connect(nats_server.url, name="t")
    await bus.jetstream.add_stream(name="OTHERS", subjects=["$KV.crank_idempotency.x"])
    probe = await Probe.on(nats_server.url)
    assert probe.refuses is not None
    assert probe.refuses.startswith(f"stream {STREAM} cannot be created: subjects overlap")
    assert "choose another prefix" in probe.refuses
    assert isinstance(await probe.written("a", record()), ClaimFailed)
    await bus.jetstream.delete_stream("OTHERS")
    await until(lambda: probe.refuses == "")
    assert isinstance(await probe.written("a", record()), ClaimStored)
    await probe.close()
    await bus.close()


async def test_a_server_with_too_little_room_is_told_with_the_settings_that_ask_for_less(tmp_path: Path) -> None:
    """Streams of a certain size take it from the disk when they are made."""
    account = "jetstream { max_mem: 1M, max_file: 1M }, users: [ { user: a, password: a } ]"
    server = NatsServer(tmp_path, extra=f"accounts {{ A {{ {account} }} }}\nno_auth_user: a")
    await server.start()
    probe = await Probe.on(server.url, max_bytes=2_000_000)
    assert probe.refuses is not None
    assert "raise max_file" in probe.refuses
    assert "claims_max_bytes" in probe.refuses
    await probe.close()
    await server.stop()


async def test_a_server_that_does_not_answer_says_nothing_about_room(nats_server: NatsServer, small: Probe) -> None:
    """Writes fail by themselves."""
    await nats_server.stop()
    await until(lambda: not small.bus.connected)
    small.store.check()
    assert small.refuses is None
    failed = await small.written("a", record())
    assert isinstance(failed, ClaimFailed)
