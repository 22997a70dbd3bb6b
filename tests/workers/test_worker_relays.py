"""What a handler needs that passes work on: the contract's own words as its answer, and headers as they came."""

from __future__ import annotations

from typing import Any

from worker_peer import Peer, Serve, until

from crank import Context, Worker
from subjects.answers import NO_RESPONDERS, Fault, Frame, NotRun, Result
from subjects.manifests import Manifest
from workers.membership import Load, Membership

_SAID = {
    "result": Result(b"\xff\x00", "X-Part: 1\r\nX-Part: 2\r\n", "image/png"),
    "fault": Fault(404, "No such order", retry_after_ms=1500),
    "not-run": NotRun("draining"),
    "nobody": NO_RESPONDERS,
}


async def test_the_contracts_own_words_are_sent_as_they_are(peer: Peer, serve: Serve) -> None:
    """From an async and from a plain handler; after frames, that nothing ran would be a lie."""
    worker = Worker("t")

    @worker.capability("a:relay")
    async def relay(what: str) -> Any:
        return _SAID[what]

    @worker.capability("a:plain")
    def plain(what: str) -> Any:
        return _SAID[what]

    @worker.capability("a:begun", streaming=True)
    async def begun(ctx: Context) -> Any:
        await ctx.progress("half")
        return _SAID["not-run"]

    await serve(worker)
    for capability in ("a:relay", "a:plain"):
        assert await peer.ask(capability, b"result") == _SAID["result"]
        fault = await peer.ask(capability, b"fault")
        assert (type(fault), fault.code, fault.retry_after_ms) == (Fault, 404, 1500)  # type: ignore[union-attr]
        for what in ("not-run", "nobody"):
            assert await peer.ask(capability, what.encode()) == _SAID[what]
    assert (await peer.stream("a:begun"))[-1] == Frame("end", 1, fault=Fault(503, "The worker could not go on", True))


async def test_a_handler_sees_its_callers_headers_as_they_came(peer: Peer, serve: Serve) -> None:
    """In their order and case, each as often as it was sent."""
    worker = Worker("t")

    @worker.capability("a:lines")
    async def lines(ctx: Context) -> bytes:
        return ctx.header_lines.encode()

    await serve(worker)
    sent = "X-Tenant: b\r\nx-tenant:  a\r\n"
    assert await peer.ask("a:lines", passed=sent) == Result(sent.encode())


async def test_a_manifest_is_replaced_while_the_worker_stays(peer: Peer) -> None:
    """Registered anew at once, under the same instance, and heartbeats go on."""
    one, two = (Worker("t") for _ in range(2))

    @one.capability("a:old")
    @two.capability("a:new")
    async def work() -> None: ...

    def manifest(worker: Worker) -> Manifest:
        return worker.manifest("t-1", "same")

    membership = Membership(peer.bus, peer.subjects, manifest(one), lambda: Load(0, 1, False, {}), lambda: None)
    membership.start()
    await until(lambda: peer.manifests == [manifest(one)])
    membership.replace(manifest(two))
    await until(lambda: peer.manifests == [manifest(one), manifest(two)])
    heard = len(peer.heartbeats)
    await until(lambda: len(peer.heartbeats) > heard + 2)
    assert not peer.departures
    membership.stop()
