"""The streams that controllers stand on: made otherwise, nearly full, or on servers that are away."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from bus import Bus, Streams
from bus.inspection import Group, Peer, Stream
from bus.specs import config_of
from controller.edge.registry_log import registry_spec
from controller.settings import ControllerSettings
from crank.doctoring.streams import Kept, judge_stream, kept_streams
from crank.natsd import NatsServer
from subjects.names import Subjects
from tests.doctoring.conftest import StartServer
from tests.doctoring.looking import fault, looked, of

SPECS = {kept.check: kept.spec for kept in kept_streams(ControllerSettings())}


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


@pytest.mark.parametrize(
    ("check", "changed", "result", "told", "cost"),
    [
        ("claims", {"max_age": 3600.0}, "problem", "max_age is 3600000000000, not 0", "may be done again"),
        ("answers", {"discard": "old"}, "problem", 'discard is "old", not "new"', "cannot be given again"),
        ("jobs", {"retention": "limits"}, "problem", 'retention is "limits", not "workqueue"', "never done"),
        ("dead", {"storage": "memory"}, "warning", 'storage is "memory", not "file"', "gone, with their data"),
        ("results", {"max_age": 60.0}, "warning", "max_age is 60000000000, not 86400000000000", "are gone"),
    ],
)
async def test_any_other_stream_that_somebody_made_otherwise_is_told_with_what_it_costs_to_delete_it(
    nats_server: NatsServer, check: str, changed: dict[str, Any], result: str, told: str, cost: str
) -> None:
    """A problem where controllers refuse what they could lose, a warning where they go on."""
    spec = SPECS[check]
    bus = await Bus.connect(nats_server.url, name="t")
    await bus.jetstream.add_stream(config_of(spec).evolve(**changed))
    await bus.close()
    found = await fault(nats_server.url, check)
    assert found.result == result
    assert told in found.found
    assert f"nats stream edit {spec.name}" in found.mend
    assert cost in found.mend


async def test_streams_made_by_controllers_are_as_they_should_be(nats_server: NatsServer) -> None:
    """Nothing is found, before they are made and after."""
    for words in ("is not there yet; a controller makes it", "is there, and as controllers make it"):
        report = await looked(nats_server.url)
        assert [(found.result, found.found) for check, spec in SPECS.items() for found in of(report, check)] == [
            ("ok", f"{spec.name} {words}") for spec in SPECS.values()
        ]
        bus = await Bus.connect(nats_server.url, name="t")
        for spec in SPECS.values():
            await Streams(bus).ensure(spec)
        await bus.close()


@pytest.mark.parametrize(
    ("check", "subject", "result", "mend"),
    [
        ("claims", "$KV.crank_idempotency.k{}", "problem", "older keys"),
        ("answers", "$O.crank_answers.C.k{}", "problem", "older keys"),
        ("jobs", "crank.jobs.a.k{}", "warning", "crank jobs"),
        ("dead", "crank.dead.a.k{}", "warning", "crank dead list"),
        ("results", "$KV.crank_results.k{}", "problem", "older results"),
    ],
)
async def test_a_stream_that_is_nearly_full_is_told(
    nats_server: NatsServer, check: str, subject: str, result: str, mend: str
) -> None:
    """A problem where nothing new is taken already; and the mend gives it more."""
    small = {"claims_max_bytes": 2**20, "jobs_max_bytes": 2**20}
    spec = {kept.check: kept.spec for kept in kept_streams(ControllerSettings(**small))}[check]
    bus = await Bus.connect(nats_server.url, name="t")
    await Streams(bus).ensure(spec)
    for number in range(9):
        await bus.request(subject.format(number), bytes(100_000), timeout_s=5.0)
    found = await fault(nats_server.url, check, **small)
    assert found.result == result
    assert f"{spec.name} is nearly full: over 80% of its {2**20} bytes" in found.found
    assert mend in found.mend
    assert f"nats stream edit {spec.name} --max-bytes" in found.mend
    await bus.jetstream.update_stream(config_of(spec._replace(max_bytes=2**22)))
    await bus.close()
    assert of(await looked(nats_server.url, **small), check)[0].result == "ok"


async def test_more_replicas_than_servers_are_told_before_a_controller_starts(nats_server: NatsServer) -> None:
    """It would not."""
    found = await fault(nats_server.url, "replicas", replicas=3)
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
    found = await fault(url, "replicas")
    assert found.result == "warning"
    assert "set replicas to 3" in found.mend
    assert [one.result for one in of(await looked(url, replicas=3), "replicas")] == ["ok"]
    bus = await Bus.connect(url, name="t")
    await Streams(bus).ensure(registry_spec(Subjects(), 3))
    await bus.close()
    await _until(url, "is there, and as controllers make it")
    assert "nats stream edit CRANK_REGISTRY --replicas 1" in (await fault(url, "registry")).mend


@pytest.mark.parametrize(
    ("group", "told"),
    [
        (Group("a", (Peer("b", current=True), Peer("c", current=False))), "is behind on c"),
        (Group("a", (Peer("b", current=True, offline=True), Peer("c", current=True))), "is behind on b"),
        (Group("", (Peer("b", current=True), Peer("c", current=True))), "has no leader: {away}"),
    ],
)
@pytest.mark.parametrize("kept", kept_streams(ControllerSettings(replicas=3)), ids=lambda kept: kept.check)
def test_a_server_of_a_cluster_that_is_away_is_told_by_name(group: Group, told: str, kept: Kept) -> None:
    """nats-server itself takes ten seconds to notice."""
    found = judge_stream(Stream(config_of(kept.spec).as_dict(), group), kept)
    assert len(found) == 1
    assert found[0].found.startswith(f"{kept.spec.name} {told.format(away=kept.away)}")


async def _until(url: str, told: str) -> None:
    async with asyncio.timeout(30):
        while not any(told in finding.found for finding in of(await looked(url, replicas=3), "registry")):
            await asyncio.sleep(0.05)


async def _has_a_leader(url: str) -> None:
    async with asyncio.timeout(20):
        while of(await looked(url), "JetStream")[0].result != "ok":
            await asyncio.sleep(0.05)
