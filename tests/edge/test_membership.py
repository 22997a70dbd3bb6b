"""Workers come, stay, go silent and leave; every controller knows, and a restart forgets nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bus import Bus, Streams
from bus.connection import BusError
from controller.app import Controller
from crank.natsd import NatsServer
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller, until


async def _states(caller: Caller) -> dict[str, str]:
    _, answer = await caller.tell("crank.admin.workers")
    return {row["worker_id"]: row["state"] for row in answer["workers"]}


async def _until_states(caller: Caller, expected: dict[str, str]) -> None:
    async with asyncio.timeout(10):
        while await _states(caller) != expected:
            await asyncio.sleep(0.02)


async def test_a_rejected_manifest_is_explained_field_by_field(controller: Controller, caller: Caller) -> None:
    """One 400 lists every offence with its path, those of the schemas too."""
    manifest = {
        "worker_id": "other",
        "capabilities": [
            {"verb": "a b", "name": "x", "version": "1.0"},
            {"verb": "v", "name": "n", "version": "1.0.0", "input_schema": {"type": "objekt"}, "max_concurrency": 0},
            7,
        ],
    }
    code, problem = await caller.tell("crank.register.w-1", manifest)
    assert code == 400
    assert {error["path"] for error in problem["errors"]} == {
        "worker_id",
        "capabilities[0].verb",
        "capabilities[0].version",
        "capabilities[1].max_concurrency",
        "capabilities[2]",
    }
    remote = {"$ref": "https://example.invalid/schema"}
    for schema in ({"type": "objekt"}, remote):
        capability = {"verb": "v", "name": "n", "version": "1.0.0", "input_schema": schema}
        code, problem = await caller.tell("crank.register.w-1", {"worker_id": "w-1", "capabilities": [capability]})
        assert (code, problem["errors"][0]["path"]) == (400, "capabilities[0].input_schema")
    for body in (b"", b"[]", b"\xff", b"{" * 5000):
        assert (await caller.tell("crank.register.w-1", body))[0] == 400
    assert await _states(caller) == {}


async def test_every_controller_learns_of_a_registration_and_a_departure(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """Registered with one, known to both; deregistered with one, gone from both, the capability still known."""
    both = [await start_controller(controller_id=f"c-{number}") for number in (1, 2)]
    worker = await start_worker("w-1")

    def known() -> list[int]:
        return [len(controller._parts.router.world.registry.workers) for controller in both]  # type: ignore[union-attr]

    await until(lambda: known() == [1, 1])
    await worker.stop_heartbeat()
    assert await caller.tell("crank.deregister.w-1", {"reason": "test"}) == (
        0,
        {"status": "deregistered", "worker_id": "w-1"},
    )
    await until(lambda: known() == [0, 0])
    for _ in range(6):
        code, problem, _ = await caller.ask("test:echo")
        assert (code, problem["type"]) == (503, "urn:crank:error:no_worker")


async def test_silence_makes_a_worker_suspect_then_gone_and_a_heartbeat_brings_it_back(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """Events tell of each change; a gone worker needs no new registration."""
    events: list[tuple[str, str]] = []
    await caller.bus.subscribe(
        "crank.event.worker.*", lambda s, r, h, body: events.append((s.split(".")[-1], json.loads(body)["worker_id"]))
    )
    worker = await start_worker("w-1")
    await worker.stop_heartbeat()
    await _until_states(caller, {"w-1": "gone"})
    worker.heartbeat()
    await _until_states(caller, {"w-1": "alive"})
    assert events == [("joined", "w-1"), ("suspect", "w-1"), ("left", "w-1"), ("joined", "w-1")]
    assert worker.registrations == 1


async def test_a_second_process_with_the_same_id_is_refused_until_the_first_falls_silent(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """409 while the first heartbeats; its own restart gets the place when it is gone."""
    first = await start_worker("w-1", instance="one")
    manifest = {**first.manifest, "instance": "two"}
    code, problem = await caller.tell("crank.register.w-1", manifest)
    assert (code, problem["type"]) == (409, "urn:crank:error:worker_id_taken")
    caller.bus.publish("crank.heartbeat.w-1", b'{"seq":1,"instance":"two"}')
    await first.stop_heartbeat()
    async with asyncio.timeout(10):
        while (await caller.tell("crank.register.w-1", manifest))[0] == 409:
            await asyncio.sleep(0.05)
    assert await _states(caller) == {"w-1": "alive"}


async def test_an_unknown_workers_heartbeat_makes_it_register_at_once(
    controller: Controller, nats_server: NatsServer, start_worker: StartWorker, caller: Caller
) -> None:
    """The controller looks in the registry first, then asks with the contract's words."""
    bus = await Bus.connect(nats_server.url, name="x")
    controls: list[dict[str, str]] = []
    await bus.subscribe("crank.control.w-7", lambda s, r, h, body: controls.append(json.loads(body)))
    bus.publish("crank.heartbeat.w-7", b'{"seq":1}')
    await until(lambda: bool(controls))
    assert controls[0] == {"op": "reregister", "error": "worker_not_registered"}
    await bus.close()


async def test_registering_the_same_again_writes_nothing(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """An identical manifest is acknowledged without a new entry in the stream; another one replaces it."""
    worker = await start_worker("w-1")
    bus = caller.bus

    async def last_seq() -> int:
        return int((await bus.jetstream.stream_info("CRANK_REGISTRY")).state.last_seq)

    before = await last_seq()
    assert (await worker.register())[0] == 0
    assert await last_seq() == before
    worker.manifest["capabilities"][0]["version"] = "1.1.0"
    assert (await worker.register())[0] == 0
    assert await last_seq() == before + 1
    assert (await caller.ask("test:echo"))[2]["crank-version"] == "1.1.0"


async def test_garbage_on_every_subject_is_answered_and_harms_nobody(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """Control messages that cannot be read get a 400, and requests are served as before."""
    await start_worker("w-1")
    for subject, body in (
        ("crank.register.a.b", b"{}"),
        ("crank.deregister.w-1", b"[]"),
        ("crank.deregister.a.b", b""),
        ("crank.heartbeat.w-1", b'{"seq":-1}'),
        ("crank.heartbeat.a.b", b"{}"),
        ("crank.admin.nothing", b""),
        ("crank.admin.workers", b'{"limit":"x"}'),
        ("crank.admin.workers.more", b""),
    ):
        code, problem = await caller.tell(subject, body)
        assert (subject, code) == (subject, 400)
        assert problem["detail"]
    assert (await caller.ask("test:echo"))[0] == 0


async def test_two_hundred_workers_survive_their_controllers_death(
    nats_server: NatsServer, tmp_path: Path, caller: Caller
) -> None:
    """Kill -9 a controller process: its successor knows all workers from the stream and routes to them at once."""
    bus = await Bus.connect(nats_server.url, name="fleet")
    seen: set[str] = set()

    def serve(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        seen.add(subject.split(".")[2])
        bus.publish(reply, body)

    await bus.subscribe("crank.worker.>", serve, "w")
    fleet = Caller(bus)
    capability = {"verb": "test", "name": "echo", "version": "1.0.0", "max_concurrency": 4}
    async with _controller_process(nats_server, "c-1", tmp_path / "one"):
        answers = await asyncio.gather(
            *(
                fleet.tell(f"crank.register.w-{number}", {"worker_id": f"w-{number}", "capabilities": [capability]})
                for number in range(200)
            )
        )
        assert {code for code, _ in answers} == {0}
    async with _controller_process(nats_server, "c-2", tmp_path / "two"):
        done = await asyncio.gather(*(caller.ask("test:echo", b"%d" % number) for number in range(300)))
        assert [body for _, body, _ in done] == list(range(300))
        assert {headers["crank-controller"] for _, _, headers in done} == {"c-2"}
        assert len(await _states(caller)) == 200
    assert len(seen) > 50
    await bus.close()


@asynccontextmanager
async def _controller_process(server: NatsServer, ident: str, ready: Path) -> AsyncIterator[None]:
    """A controller in a process of its own, ready to serve; killed without warning at the end."""
    command = ("-m", "crank", "controller", "--nats", server.url, "--id", ident, "--http-port", "0")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--ready-file", str(ready), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(ready.exists)
        yield
    finally:
        process.kill()
        await process.wait()


async def test_an_emptied_store_is_filled_again_by_the_heartbeating_workers_without_a_gap(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """The registry stream is deleted: requests go on, and each worker is stored again within moments."""
    workers = [await start_worker(f"w-{number}") for number in range(5)]
    await caller.bus.jetstream.delete_stream("CRANK_REGISTRY")
    controller._parts.registry.check()  # type: ignore[union-attr]  # otherwise it looks every ten seconds
    async with asyncio.timeout(10):
        while await _stored(caller) != len(workers):
            assert (await caller.ask("test:echo"))[0] == 0
    assert {worker.registrations for worker in workers} == {2}


async def _stored(caller: Caller) -> int:
    state = await Streams(caller.bus).state("CRANK_REGISTRY")
    return 0 if state is None else state.last_seq


async def test_a_restart_of_the_server_is_survived_with_the_store_and_without_it(
    controller: Controller, nats_server: NatsServer, start_worker: StartWorker, caller: Caller
) -> None:
    """After nats-server comes back, even with an empty store, requests are served again."""
    worker = await start_worker("w-1")
    for empty in (False, True):
        await nats_server.stop()
        if empty:
            shutil.rmtree(nats_server.state / "jetstream")
        await nats_server.start()
        await until(lambda: caller.bus.connected and worker.bus.connected)
        async with asyncio.timeout(15):
            while not await _served(caller):
                await asyncio.sleep(0.05)
    async with asyncio.timeout(15):
        while worker.registrations < 2:
            await asyncio.sleep(0.05)


async def _served(caller: Caller) -> bool:
    try:
        return (await caller.ask("test:echo", timeout_s=1))[0] == 0
    except BusError:
        return False


async def test_a_draining_controller_finishes_what_it_accepted_and_takes_nothing_new(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """Stopped with twenty requests under way while two hundred more come in: every one is answered by somebody."""
    leaving = await start_controller(controller_id="c-1")
    await start_controller(controller_id="c-2")
    worker = await start_worker("w-1", max_concurrency=1000, behave=lambda *_: None)
    first = [asyncio.create_task(caller.ask("test:echo", b"%d" % number)) for number in range(20)]
    await until(lambda: len(worker.dispatches) == 20)
    more = [asyncio.create_task(caller.ask("test:echo", b"%d" % number)) for number in range(20, 220)]
    stopping = asyncio.create_task(leaving.stop())
    await until(lambda: len(worker.dispatches) == 220)
    for reply, (_, body) in zip(worker.replies, worker.dispatches, strict=True):
        worker.bus.publish(reply, body)
    done = await asyncio.gather(*first, *more)
    await stopping
    assert [body for _, body, _ in done] == list(range(220))
    assert {headers["crank-controller"] for _, _, headers in done} == {"c-1", "c-2"}
    worker.behave = lambda *_: [(None, b"{}")]
    assert (await caller.ask("test:echo", timeout_s=1))[2]["crank-controller"] == "c-2"


async def test_a_controller_whose_patience_with_draining_ends_tells_every_caller_and_worker(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """Nobody is left in silence: the caller gets a 503 that says whether the work may have run."""
    leaving = await start_controller(drain_timeout_s=0.1)
    worker = await start_worker("w-1", behave=lambda *_: None)
    asked = [asyncio.create_task(caller.ask("test:echo", Crank_Timeout_Ms="60000")) for _ in range(2)]
    await until(lambda: len(worker.dispatches) == 1)
    await leaving.stop()
    answers = await asyncio.wait_for(asyncio.gather(*asked), 2)
    assert {(code, problem["maybe_executed"]) for code, problem, _ in answers} == {(503, True), (503, False)}
    await until(lambda: [control["op"] for control in worker.controls] == ["cancel"])


async def test_health_is_told_over_http(controller: Controller) -> None:
    """``/healthz`` and ``/readyz`` answer on loopback, and readiness ends when draining begins."""
    async with aiohttp.ClientSession() as session:
        for path, text in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
            async with session.get(controller.http_url + path) as response:
                assert (response.status, await response.text()) == (200, text)
        controller._draining = True
        async with session.get(controller.http_url + "/readyz") as response:
            assert (response.status, await response.text()) == (503, "draining\n")
