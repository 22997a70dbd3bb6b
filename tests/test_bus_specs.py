"""Streams, buckets and object stores as they are made, and what is told of one that is there and differs."""

from __future__ import annotations

from typing import Any

import pytest

from bus import Bus, Streams, StreamSpec
from bus.inspection import stream
from bus.specs import bucket, object_store
from crank.natsd import NatsServer

MADE = [
    StreamSpec("T", "t.*"),
    StreamSpec("JOBS", "jobs.>", max_per_subject=-1, max_bytes=1_000_000, discard_new=True, work_queue=True,
               duplicates_s=120),
    StreamSpec("DEAD", "dead.>", max_per_subject=-1, max_bytes=1_000_000, discard_new=True, duplicates_s=120),
    bucket("claims", 1, 1_000_000),
    bucket("results", 1, 1_000_000, max_age_s=86_400),
    object_store("answers", 1, 1_000_000),
]  # fmt: skip


@pytest.mark.parametrize("spec", MADE, ids=lambda spec: spec.name)
async def test_a_stream_is_made_as_specified_and_made_again_it_does_not_differ(
    nats_server: NatsServer, spec: StreamSpec
) -> None:
    """The second time, and in the words of the server, there is nothing to tell."""
    bus = await Bus.connect(nats_server.url, name="t")
    assert await Streams(bus).ensure(spec) == []
    assert await Streams(bus).ensure(spec) == []
    found = await stream(bus, spec.name)
    assert found is not None
    assert found.differences(spec) == []
    assert found.config["max_bytes"] == spec.max_bytes
    assert found.config["retention"] == ("workqueue" if spec.work_queue else "limits")
    if spec.duplicates_s:
        assert found.config["duplicate_window"] == spec.duplicates_s * 10**9
    await bus.close()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"max_age_s": 3600}, ["max_age is 3600000000000, not 0"]),
        ({"discard_new": False}, ['discard is "old", not "new"']),
        ({"rollup": False}, ["allow_rollup_hdrs is false, not true"]),
        ({"max_bytes": 2_000_000}, []),
    ],
    ids=["age", "discard", "rollup", "size"],
)
async def test_a_bucket_that_somebody_made_otherwise_is_told_field_by_field(
    nats_server: NatsServer, changed: dict[str, Any], told: list[str]
) -> None:
    """Its size is an operator's to set; the rest would break a promise. It is left as it is."""
    bus = await Bus.connect(nats_server.url, name="t")
    spec = MADE[3]
    await Streams(bus).ensure(spec._replace(**changed))
    assert await Streams(bus).ensure(spec) == told
    found = await stream(bus, spec.name)
    assert found is not None
    assert found.differences(spec) == told
    await bus.close()


async def test_what_was_not_asked_for_and_hurts_nobody_is_not_told(nats_server: NatsServer) -> None:
    """A stream that somebody has protected against deletions is as good."""
    bus = await Bus.connect(nats_server.url, name="t")
    await Streams(bus).ensure(StreamSpec("T", "t.*", deny_delete=True, rollup=True))
    assert await Streams(bus).ensure(StreamSpec("T", "t.*")) == []
    await bus.close()
