"""What nats-server is set up too small for, and JetStream as a whole."""

from __future__ import annotations

import pytest

from bus import Bus, Streams
from controller.settings import ControllerSettings
from crank.doctoring.streams import kept_streams
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
    server = await start_server(LIMITED.format("max_mem: 1M, max_file: 100M"))
    bus = await Bus.connect(server.url, name="t")
    await bus.jetstream.add_stream(name="BIG", subjects=["big"], max_bytes=90_000_000)
    await bus.close()
    found = await fault(server.url, "JetStream", claims_max_bytes=2**20, jobs_max_bytes=2**20)
    assert (found.result, found.found) == (
        "warning", "there is little room: the account uses 90000000 of 100000000 bytes on file",
    )  # fmt: skip


async def test_room_that_is_too_small_for_what_controllers_make_is_told_beforehand(start_server: StartServer) -> None:
    """Streams of a size reserve all of it; smaller ones fit, and once they are made nothing is wrong."""
    server = await start_server(LIMITED.format("max_mem: 1M, max_file: 1G"))
    found = await fault(server.url, "JetStream")
    assert found.result == "problem"
    assert f"{5 * 256 * 2**20} bytes on file more, of 1000000000 that are allowed and 0 in use" in found.found
    small = {"claims_max_bytes": 10**8, "jobs_max_bytes": 10**8}
    assert of(await looked(server.url, **small), "JetStream")[0].result == "ok"
    bus = await Bus.connect(server.url, name="t")
    for kept in kept_streams(ControllerSettings(**small)):
        await Streams(bus).ensure(kept.spec)
    await bus.close()
    assert of(await looked(server.url, **small), "JetStream")[0].result == "ok"


async def test_fewer_streams_than_controllers_make_are_told(start_server: StartServer) -> None:
    """Not only none at all."""
    server = await start_server(LIMITED.format("max_mem: 1M, max_file: 4G, max_streams: 5"))
    assert "7 streams more, of 5 that are allowed" in (await fault(server.url, "JetStream")).found
