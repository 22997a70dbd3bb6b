"""Registering, heartbeats, leaving, and what a lost connection does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest
from worker_peer import INTERVAL_S, Peer, Serve, until

from bus import Bus
from crank import RegistrationRefused, Worker
from crank.natsd import NatsServer
from subjects.answers import Fault, NoResponders, NotRun, Result
from subjects.errors import ErrorKind, Offence, Refusal, malformed
from subjects.replies import JSON_BLOCK


def _worker(name: str = "t") -> tuple[Worker, asyncio.Event, list[str]]:
    """A worker whose one handler waits for the event, and notes its start."""
    worker, go, started = Worker(name, max_concurrency=3), asyncio.Event(), []

    @worker.capability("a:b")
    async def wait() -> str:
        started.append("started")
        await go.wait()
        return "done"

    return worker, go, started


async def test_a_worker_registers_and_beats(peer: Peer, serve: Serve) -> None:
    """The manifest is the declaration, and heartbeats come at the interval that the acknowledgement names."""
    worker, *_ = _worker("hello")
    served = await serve(worker, worker_id=None)
    [manifest] = peer.manifests
    assert (manifest.worker_id, [c.id for c in manifest.capabilities]) == ("hello-1", ["a:b"])
    begin = asyncio.get_running_loop().time()
    await until(lambda: len(peer.heartbeats) >= 4)
    assert asyncio.get_running_loop().time() - begin >= 2 * INTERVAL_S
    assert [beat.seq for beat in peer.heartbeats] == list(range(1, len(peer.heartbeats) + 1))
    beat = peer.heartbeats[-1]
    assert (beat.instance, beat.in_flight, beat.capacity, beat.draining) == (manifest.instance, 0, 3, False)
    await served.end()
    assert peer.departures[0].instance == manifest.instance


async def test_each_process_is_an_instance_of_its_own(peer: Peer, serve: Serve) -> None:
    """The same worker served twice registers two instances, here under another prefix's silence."""
    worker, *_ = _worker()
    await serve(worker, worker_id="t-1")
    await serve(worker, worker_id="t-2")
    await serve(worker, worker_id="t-3", prefix="elsewhere", ready=False)
    assert len({manifest.instance for manifest in peer.manifests}) == 2


async def test_a_worker_waits_for_a_controller(nats_server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """It says once why it waits, and registers when somebody listens."""
    worker, *_ = _worker()
    task = asyncio.create_task(worker.serve(nats_server.url))
    await until(lambda: "no controller is there" in caplog.text)
    late = await Peer.connect(nats_server.url)
    await until(lambda: late.manifests)
    assert caplog.text.count("waits to be registered") == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await late.bus.close()


async def test_what_time_can_heal_is_tried_again(peer: Peer, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A taken id and an unready store are waited for, each with its reason in the log, on one plain line."""
    peer.refusals = [
        Refusal(ErrorKind.WORKER_ID_TAKEN, "t-1 is alive\n\x1b[1melsewhere"),
        Refusal(ErrorKind.STORE_UNAVAILABLE, "JetStream is away"),
    ]
    worker, *_ = _worker()
    await serve(worker)
    assert len(peer.manifests) == 1
    assert "409: t-1 is alive  [1melsewhere" in caplog.text
    assert "503: JetStream is away" in caplog.text


async def test_what_time_cannot_heal_ends_the_worker_with_every_offence(peer: Peer, serve: Serve) -> None:
    """The error lists all that is wrong, and the worker is gone from NATS."""
    offences = (Offence("capabilities[0].verb", "is odd"), Offence("spiffe_id", "is not yours"))
    peer.refusals = [malformed("The manifest cannot be accepted.", *offences)]
    worker, *_ = _worker()
    served = await serve(worker)
    with pytest.raises(RegistrationRefused) as caught:
        await asyncio.wait_for(served.task, 5)
    assert (caught.value.code, caught.value.offences) == (400, offences)
    for part in ("400", "cannot be accepted", "capabilities[0].verb: is odd", "spiffe_id: is not yours"):
        assert part in str(caught.value)
    assert await peer.ask("a:b") == NoResponders()


async def test_an_answer_that_is_no_acknowledgement_is_not_believed(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever else answers on the register subject, the worker goes on asking, and logs plain lines."""
    caplog.set_level(logging.INFO)
    bus = await Bus.connect(nats_server.url, name="odd")
    odd_end = b'{"heartbeat_interval_s": -1e308, "controller": "c\\n\\u001b[1m"}'
    replies = [b"hello", b"[1]", b"[" * 9000, b'{"x":' * 9000, b'{"heartbeat_interval_s": "soon"}', odd_end]
    asked: list[bytes] = []

    def odd(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        asked.append(body)
        bus.publish(reply, replies[min(len(asked), len(replies)) - 1], JSON_BLOCK)

    await bus.subscribe("crank.register.*", odd)
    beats: list[bytes] = []
    await bus.subscribe("crank.heartbeat.*", lambda s, r, h, body: beats.append(body))
    await bus.flush()
    worker, *_ = _worker()
    task = asyncio.create_task(worker.serve(nats_server.url))
    await until(lambda: len(beats) > 1)
    assert len(asked) == len(replies)
    assert all(record.getMessage().isprintable() for record in caplog.records)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await bus.close()


async def test_a_controller_that_forgot_the_worker_is_told_again(peer: Peer, serve: Serve) -> None:
    """``reregister`` registers the same instance at once, and a burst of them never twice at the same time."""
    worker, *_ = _worker()
    await serve(worker)
    peer.control("reregister")
    await until(lambda: len(peer.manifests) == 2)
    peer.answer_delay_s = 0.03
    for _ in range(20):
        peer.control("reregister")
    await until(lambda: len(peer.manifests) >= 3)
    await asyncio.sleep(0.1)
    assert len(peer.manifests) <= 4
    assert peer.most_registering == 1
    assert len({manifest.instance for manifest in peer.manifests}) == 1


async def test_a_handler_that_blocks_the_event_loop_is_told(
    peer: Peer, serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker was taken for lost meanwhile, and nothing else would say why."""
    monkeypatch.setattr("workers.membership._STALL_S", 0.2)
    worker = Worker("t")

    @worker.capability("a:b")
    async def block() -> None:
        time.sleep(2 * 0.2 + INTERVAL_S)

    await serve(worker)
    await peer.ask("a:b")
    await until(lambda: "stood still for" in caplog.text)
    assert "As a plain `def` it runs in a thread" in caplog.text


async def test_a_stopped_worker_finishes_what_runs(peer: Peer, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """It says what it has in hand, turns new work away, beats on as draining, answers what it had, and is gone."""
    caplog.set_level(logging.INFO)
    worker, go, started = _worker()
    served = await serve(worker)
    running = await peer.send("a:b")
    await until(lambda: started)
    served.stop.set()
    await until(lambda: peer.departures)
    assert "t-1 leaves, and first finishes 1 that it has in hand" in caplog.text
    assert await peer.ask("a:b") == NotRun("draining")
    known = len(peer.heartbeats)
    await until(lambda: len(peer.heartbeats) >= known + 2)
    assert (peer.heartbeats[-1].draining, peer.heartbeats[-1].in_flight) == (True, 1)
    peer.control("reregister")
    go.set()
    assert isinstance(await running.next(), Result)
    await asyncio.wait_for(served.task, 5)
    assert (len(peer.manifests), len(peer.departures)) == (1, 1)
    assert await peer.ask("a:b") == NoResponders()


async def test_what_does_not_finish_in_time_is_given_up(peer: Peer, serve: Serve) -> None:
    """After the drain time-out its caller hears 503, and may try another worker."""
    worker, _, started = _worker()
    served = await serve(worker, drain_timeout_s=0.05)
    running = await peer.send("a:b")
    await until(lambda: started)
    await served.end()
    fault = await running.next()
    assert isinstance(fault, Fault)
    assert (fault.code, fault.retryable) == (503, True)


async def test_a_drained_worker_stays_connected(peer: Peer, serve: Serve) -> None:
    """``drain`` says goodbye and turns work away, but the process lives until it is stopped."""
    worker, go, started = _worker()
    served = await serve(worker)
    running = await peer.send("a:b")
    await until(lambda: started)
    peer.control("drain")
    await until(lambda: peer.departures)
    go.set()
    assert isinstance(await running.next(), Result)
    peer.control("reregister")
    assert await peer.ask("a:b") == NotRun("draining")
    await until(lambda: peer.heartbeats[-1].draining)
    assert not served.task.done()
    await served.end()
    assert (len(peer.manifests), [departure.reason for departure in peer.departures]) == (1, ["drain"])


async def test_after_a_restart_of_the_server_the_worker_is_back(
    peer: Peer, serve: Serve, nats_server: NatsServer
) -> None:
    """It registers again, works, and an answer that was ready meanwhile still arrives."""
    worker, go, started = _worker()
    await serve(worker)
    running = await peer.send("a:b")
    await until(lambda: started)
    await nats_server.stop(kill=True)
    await until(lambda: not peer.bus.connected)
    go.set()
    await asyncio.sleep(0.05)
    await nats_server.start()
    await until(lambda: len(peer.manifests) >= 2)
    assert peer.manifests[0] == peer.manifests[1]
    assert isinstance(await running.next(), Result)
    assert isinstance(await peer.ask("a:b"), Result)


async def test_a_worker_stops_though_the_server_is_gone(
    peer: Peer, serve: Serve, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can be told, and it ends all the same."""
    caplog.set_level(logging.INFO)
    worker, *_ = _worker()
    served = await serve(worker)
    await nats_server.stop(kill=True)
    await until(lambda: not peer.bus.connected)
    await served.end()
    assert "t-1 leaves without a goodbye" in caplog.text
    assert peer.departures == []


async def test_it_logs_in_plain_lines(peer: Peer, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A registered worker says with whom, and how often it beats."""
    caplog.set_level(logging.INFO)
    worker, *_ = _worker()
    await serve(worker)
    await until(lambda: peer.heartbeats)
    said = [record.getMessage() for record in caplog.records if record.name == "crank.worker"]
    assert said == ["t-1 is registered with peer, a heartbeat every 0.05 s"]


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_a_worker_that_is_still_opening_can_be_stopped(peer: Peer, serve: Serve, how: str) -> None:
    """What was open is closed, and nobody ever heard of it."""
    worker = Worker("t")
    happened: list[str] = []

    @worker.lifespan
    async def first() -> AsyncIterator[None]:
        yield
        happened.append("closed")

    @worker.lifespan
    async def endless() -> None:
        happened.append("opening")
        await asyncio.sleep(60)

    @worker.capability("a:b")
    async def handler() -> None: ...

    served = await serve(worker, ready=False)
    await until(lambda: happened == ["opening"])
    if how == "stop":
        await served.end()
    else:
        served.task.cancel()
        await asyncio.gather(served.task, return_exceptions=True)
    assert served.task.done()
    assert (peer.manifests, peer.departures) == ([], [])


async def test_what_a_worker_opened_is_closed_after_its_last_answer(peer: Peer, serve: Serve) -> None:
    """Handlers that finish while the worker drains still have it."""
    worker = Worker("t")
    happened: list[str] = []
    gate = asyncio.Event()

    @worker.lifespan
    async def pool() -> AsyncIterator[None]:
        yield
        happened.append("closed")

    @worker.capability("a:b")
    async def handler() -> str:
        await gate.wait()
        happened.append("answered")
        return "done"

    served = await serve(worker)
    exchange = await peer.send("a:b")
    await until(lambda: peer.heartbeats and peer.heartbeats[-1].in_flight == 1)
    served.stop.set()
    await until(lambda: peer.departures)
    gate.set()
    assert isinstance(await exchange.next(), Result)
    await served.end()
    assert happened == ["answered", "closed"]
