"""What nats-server is set up too small for, JetStream, and the registry's stream."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from bus import Bus, Streams
from bus.inspection import Group, Peer, Stream
from controller.edge.registry_log import registry_spec
from crank.doctoring.jetstream import judge_registry
from crank.natsd import NatsServer
from subjects.names import Subjects
from tests.doctoring.conftest import StartServer
from tests.doctoring.looking import fault, looked, of

LIMITED = "accounts {{ A {{ jetstream: {{ {} }}, users: [ {{ user: a, password: a }} ] }} }}\nno_auth_user: a"


@pytest.mark.parametrize(("limit", "result"), [(32 * 1024, "problem"), (1024 * 1024, "warning")])
async def test_messages_that_are_too_small_are_told_with_what_would_do(
    start_server: StartServer, limit: int, result: str
) -> None:
    """At nats-server's own default requests of the size that the settings allow do not fit; and the number works."""
    server = await start_server(max_payload=limit)
    found = await fault(server.url, "max_payload")
    assert found.result == result
    enough = next(int(word) for word in found.mend.split() if word.isdigit())
    again = await start_server(max_payload=enough)
    report = await looked(again.url)
    assert not any(finding.result == result for finding in report.findings if finding.check == "max_payload")


@pytest.mark.parametrize(
    ("extra", "result", "told", "mend"),
    [
        ("jetstream: false", "problem", "JetStream is off at", "-js"),
        ("accounts { A { users: [ { user: a, password: a } ] } }\nno_auth_user: a", "problem", "off for the account",
         "jetstream: enabled"),
        (LIMITED.format("max_mem: 1M, max_file: 0"), "problem", "0 of 0 bytes on file", "limits"),
        (LIMITED.format("max_mem: 1M, max_file: 1M, max_streams: 0"), "problem", "0 of 0 streams", "limits"),
        (LIMITED.format("max_mem: 1M, max_file: 1M, max_bytes: true"), "problem", "wants a size", "max_bytes"),
        ('server_name: a\ncluster { name: c, listen: "127.0.0.1:-1", routes: [ "nats://127.0.0.1:1" ] }', "problem",
         "does not answer", "cluster"),
    ],
    ids=["off", "account", "file", "streams", "sizes", "majority"],
)  # fmt: skip
async def test_a_jetstream_that_will_not_do_is_told(
    start_server: StartServer, extra: str, result: str, told: str, mend: str
) -> None:
    """Off, off for the account, full, or without most of its servers."""
    server = await start_server(extra)
    found = await fault(server.url, "JetStream")
    assert found.result == result
    assert told in found.found
    assert mend in found.mend


async def test_little_room_is_warned_of(start_server: StartServer) -> None:
    """Before it is none: a stream that reserves nearly all of it."""
    server = await start_server(LIMITED.format("max_mem: 1M, max_file: 1M"))
    bus = await Bus.connect(server.url, name="t")
    await bus.jetstream.add_stream(name="BIG", subjects=["big"], max_bytes=900_000)
    await bus.close()
    found = await fault(server.url, "JetStream")
    assert (found.result, found.found) == (
        "warning", "there is little room: the account uses 900000 of 1000000 bytes on file",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"max_age": 3600.0}, "max_age is 3600000000000, not 0"),
        ({"storage": "memory"}, 'storage is "memory", not "file"'),
        ({"max_msgs_per_subject": 5}, "max_msgs_per_subject is 5, not 1"),
        ({"allow_msg_ttl": False}, "allow_msg_ttl is false, not true"),
        ({"subjects": ["crank.registry.>"]}, 'subjects is ["crank.registry.>"], not ["crank.registry.*"]'),
    ],
)
async def test_a_registry_that_somebody_made_otherwise_is_told_field_by_field(
    nats_server: NatsServer, changed: dict[str, Any], told: str
) -> None:
    """Controllers take a stream that is there as it is."""
    bus = await Bus.connect(nats_server.url, name="t")
    made = {"subjects": ["crank.registry.*"], "max_msgs_per_subject": 1, "allow_msg_ttl": True, "storage": "file"}
    await bus.jetstream.add_stream(name="CRANK_REGISTRY", **{**made, **changed})
    await bus.close()
    found = await fault(nats_server.url, "registry")
    assert found.result == "problem"
    assert told in found.found
    assert "nats stream rm CRANK_REGISTRY" in found.mend


async def test_a_registry_made_by_a_controller_is_as_it_should_be(nats_server: NatsServer) -> None:
    """Nothing is found, on a server with a stream."""
    bus = await Bus.connect(nats_server.url, name="t")
    await Streams(bus).ensure(registry_spec(Subjects(), 1))
    await bus.close()
    report = await looked(nats_server.url)
    assert [finding.result for finding in (*of(report, "JetStream"), *of(report, "registry"))] == ["ok", "ok"]


async def test_more_replicas_than_servers_are_told_before_a_controller_starts(nats_server: NatsServer) -> None:
    """It would not."""
    found = await fault(nats_server.url, "registry", replicas=3)
    assert found.result == "problem"
    assert "set replicas to 1" in found.mend


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


async def test_what_a_cluster_keeps_in_one_place_is_told(start_server: StartServer) -> None:
    """One replica on three servers; and three, as they should be."""
    ports = _free_ports(3)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    starting = [
        start_server(f'server_name: n{port}\ncluster {{ name: c, listen: "127.0.0.1:{port}", routes: [ {routes} ] }}')
        for port in ports
    ]
    servers = await asyncio.gather(*starting)
    url = servers[0].url
    await _has_a_leader(url)
    found = await fault(url, "registry")
    assert (found.result, found.mend) == ("warning", "set replicas to 3")
    bus = await Bus.connect(url, name="t")
    await Streams(bus).ensure(registry_spec(Subjects(), 3))
    await bus.close()
    await _until(url, "is there, and as controllers make it")
    assert "nats stream edit CRANK_REGISTRY --replicas 1" in (await fault(url, "registry")).mend


@pytest.mark.parametrize(
    ("group", "told"),
    [
        (Group("a", (Peer("b", current=True), Peer("c", current=False))), "behind on c"),
        (Group("a", (Peer("b", current=True, offline=True), Peer("c", current=True))), "behind on b"),
        (Group("", (Peer("b", current=True), Peer("c", current=True))), "no leader"),
    ],
)
def test_a_server_of_a_cluster_that_is_away_is_told_by_name(group: Group, told: str) -> None:
    """nats-server itself takes ten seconds to notice."""
    spec = registry_spec(Subjects(), 3)
    made = {"subjects": ["crank.registry.*"], "storage": "file", "max_msgs_per_subject": 1, "allow_msg_ttl": True}
    found = judge_registry(Stream({**made, "discard": "old", "num_replicas": 3}, group), spec, "c")
    assert len(found) == 1
    assert told in found[0].found


async def _until(url: str, told: str) -> None:
    async with asyncio.timeout(30):
        while not any(told in finding.found for finding in of(await looked(url, replicas=3), "registry")):
            await asyncio.sleep(0.05)


async def _has_a_leader(url: str) -> None:
    async with asyncio.timeout(20):
        while of(await looked(url), "JetStream")[0].result != "ok":
            await asyncio.sleep(0.05)
