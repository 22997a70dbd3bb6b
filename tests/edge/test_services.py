"""A controller as NATS's services protocol sees it: found, described and counted like any other service."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bus import Bus
from bus.connection import Handler, NoResponder
from controller.app import Controller
from controller.core.commands import Record
from controller.core.model import DecisionRecord, Timings
from controller.core.registry import Registry
from controller.edge import record_sink
from controller.edge.record_sink import RecordSink
from controller.edge.services import Services
from controller.settings import ControllerSettings
from crank.natsd import NatsServer
from subjects.headers import build_block
from subjects.manifests import Manifest, parse_manifest
from subjects.names import Subjects
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller, until

VERBS = ("PING", "INFO", "STATS")
is_endpoint_name = re.compile(r"[A-Za-z0-9_-]+").fullmatch


async def _one(bus: Bus, subject: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await bus.request(subject, b"", timeout_s=2.0)).body)
    return answer


async def _all(bus: Bus, subject: str, instances: int) -> list[dict[str, Any]]:
    """The answers of as many instances, in order of id; one answer more would fail too."""
    answers: list[dict[str, Any]] = []
    inbox = bus.new_inbox()
    await bus.subscribe(inbox, lambda s, r, headers, body: answers.append(json.loads(body)))
    bus.publish(subject, b"", reply=inbox)
    await until(lambda: len(answers) >= instances)
    await bus.flush()
    assert len(answers) == instances
    return sorted(answers, key=lambda answer: str(answer["id"]))


async def _endpoint(bus: Bus, verb: str, capability: str) -> dict[str, Any]:
    subject = f"crank.request.{capability.replace(':', '.')}"
    answer = await _one(bus, f"$SRV.{verb}.crank-controller")
    (found,) = [endpoint for endpoint in answer["endpoints"] if endpoint["subject"] == subject]
    return dict(found)


async def _counted(bus: Bus, requests: int, capability: str = "test:echo") -> dict[str, Any]:
    """The endpoint's counts once there are so many requests: an answer is sent again for a moment."""
    async with asyncio.timeout(10):
        while (counts := await _endpoint(bus, "STATS", capability))["num_requests"] != requests:
            await asyncio.sleep(0.005)
    return counts


async def test_every_form_of_every_verb_is_answered_and_no_other(controller: Controller, caller: Caller) -> None:
    """For all services, for this one, for this instance; not for another service or instance."""
    me = await _one(caller.bus, "$SRV.PING")
    assert me["name"] == "crank-controller"
    assert me["id"].startswith("c-1-")
    assert re.fullmatch(r"\d+\.\d+\.\d+", me["version"])
    assert me["metadata"]["controller"] == "c-1"
    assert me["metadata"]["prefix"] == "crank"
    for verb in VERBS:
        for address in ("", ".crank-controller", f".crank-controller.{me['id']}"):
            answer = await _one(caller.bus, f"$SRV.{verb}{address}")
            assert answer["type"] == f"io.nats.micro.v1.{verb.lower()}_response"
            assert {key: answer[key] for key in ("name", "id", "version", "metadata")} == {
                key: me[key] for key in ("name", "id", "version", "metadata")
            }
        for address in (".another", ".crank-controller.another", f".another.{me['id']}"):
            with pytest.raises(NoResponder):
                await caller.bus.request(f"$SRV.{verb}{address}", b"")


async def test_every_instance_answers_and_installations_are_told_apart(
    start_controller: StartController, caller: Caller
) -> None:
    """Controllers of one name in two installations have two ids and two prefixes, and can be asked alone."""
    for prefix in ("crank", "other"):
        await start_controller(controller_id="c-1", prefix=prefix)
    for verb in VERBS:
        assert len({answer["id"] for answer in await _all(caller.bus, f"$SRV.{verb}", 2)}) == 2
    both = await _all(caller.bus, "$SRV.INFO.crank-controller", 2)
    assert {answer["metadata"]["prefix"] for answer in both} == {"crank", "other"}
    assert len({answer["description"] for answer in both}) == 2
    for answer in both:
        assert await _all(caller.bus, f"$SRV.INFO.crank-controller.{answer['id']}", 1) == [answer]


async def test_every_capability_is_an_endpoint_with_its_real_subject_and_versions(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """What is listed can be called as it is listed; the newest version comes first and describes it."""
    old = [{"verb": "test", "name": "echo", "version": version} for version in ("1.0.0", "1.9.0")]
    new = {"verb": "test", "name": "echo", "version": "1.10.0", "streaming": True, "idempotent": True}
    await start_worker("w-1", capabilities=[*old, {"verb": "a_b", "name": "c-d", "version": "1.0.0"}])
    await start_worker("w-2", capabilities=[new])
    info = await _one(caller.bus, "$SRV.INFO.crank-controller")
    assert info["description"]
    assert [endpoint["name"] for endpoint in info["endpoints"]] == ["a_b-c-d", "test-echo"]
    for endpoint in info["endpoints"]:
        assert is_endpoint_name(endpoint["name"])
        assert endpoint["queue_group"] == "controllers"
        assert all(isinstance(value, str) for value in endpoint["metadata"].values())
        assert not (await caller.bus.request(endpoint["subject"], b"hello")).body.startswith(b"{")
    assert info["endpoints"][1]["metadata"] == {
        "capability": "test:echo",
        "versions": "1.10.0, 1.9.0, 1.0.0",
        "streaming": "true",
        "idempotent": "true",
    }


async def test_requests_errors_and_times_are_counted(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """Each request once; what is no success is an error, the last one with its code; times are nanoseconds."""
    refusing = build_block([("Nats-Service-Error-Code", "418"), ("Nats-Service-Error", "short and stout")])
    worker = await start_worker(input_schema={"additionalProperties": {"type": "integer"}})
    fresh = await _endpoint(caller.bus, "STATS", "test:echo")
    assert fresh == {
        "name": "test-echo",
        "subject": "crank.request.test.echo",
        "queue_group": "controllers",
        "num_requests": 0,
        "num_errors": 0,
        "last_error": "",
        "processing_time": 0,
        "average_processing_time": 0,
    }
    for _ in range(3):
        assert (await caller.ask("test:echo"))[0] == 0
    assert (await _counted(caller.bus, 3))["num_errors"] == 0
    assert (await caller.ask("test:echo", Crank_Version="^9"))[0] == 412
    assert (await _counted(caller.bus, 4))["last_error"].startswith("412:")
    worker.behave = lambda subject, headers, body: [(refusing, b"")]
    assert (await caller.ask("test:echo"))[0] == 500
    counts = await _counted(caller.bus, 5)
    assert counts["num_errors"] == 2
    assert counts["last_error"].startswith("500:")
    assert "short and stout" in counts["last_error"]
    assert counts["processing_time"] > 0
    assert counts["average_processing_time"] == counts["processing_time"] // 5
    assert (await caller.ask("test:echo", b'{"\\u001b[31mred": "no"}'))[0] == 422
    error = (await _counted(caller.bus, 6))["last_error"]
    assert error.startswith("422:")
    assert error.isprintable()


async def test_it_says_since_when_it_counts(controller: Controller, caller: Caller) -> None:
    """``started`` is a time of the past, in UTC."""
    started = (await _one(caller.bus, "$SRV.STATS"))["started"]
    assert started.endswith("Z")
    assert datetime.fromisoformat(started) <= datetime.now(UTC)


async def test_endpoint_and_counts_stay_without_workers_and_the_endpoint_after_a_restart(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """The worker leaves: what it offered is known, counted, and known to the next controller too."""
    first = await start_controller()
    worker = await start_worker()
    assert (await caller.ask("test:echo"))[0] == 0
    assert (await caller.tell(f"crank.deregister.{worker.id}", {}))[0] == 0
    await worker.die()
    assert (await caller.ask("test:echo"))[0] == 503
    counts = await _counted(caller.bus, 2)
    assert counts["num_errors"] == 1
    metadata = (await _endpoint(caller.bus, "INFO", "test:echo"))["metadata"]
    assert metadata == {"capability": "test:echo", "versions": ""}
    await first.stop()
    await start_controller()
    assert (await _endpoint(caller.bus, "STATS", "test:echo"))["num_requests"] == 0


async def test_what_callers_make_up_is_no_endpoint(controller: Controller, caller: Caller) -> None:
    """Requests for what nobody ever offered are answered with 404 and leave nothing behind."""
    for number in range(20):
        assert (await caller.ask(f"no:such-{number}"))[0] == 404
    assert (await _one(caller.bus, "$SRV.STATS"))["endpoints"] == []


async def test_more_capabilities_than_one_message_carries_are_cut_and_the_rest_is_told(tmp_path: Path) -> None:
    """Each answer stays within ``max_payload``, is filled, and says how many endpoints are missing."""
    server = NatsServer(tmp_path / "small", max_payload=65_536)
    await server.start()
    controller = Controller(ControllerSettings(nats_url=server.url, http_port=0, slos=None))
    await controller.start()
    bus = await Bus.connect(server.url, name="caller")
    for worker_id in ("w-1", "w-2"):
        offers = [{"verb": worker_id, "name": f"{'n' * 60}{at:03}", "version": "1.0.0"} for at in range(200)]
        code, _ = await Caller(bus).tell(
            f"crank.register.{worker_id}", {"worker_id": worker_id, "capabilities": offers}
        )
        assert code == 0
    for verb in ("INFO", "STATS"):
        body = (await bus.request(f"$SRV.{verb}", b"")).body
        answer = json.loads(body)
        assert 50_000 < len(body) < 65_536
        assert len(answer["endpoints"]) + int(answer["metadata"]["endpoints_missing"]) == 400
    assert "endpoints_missing" not in (await _one(bus, "$SRV.PING"))["metadata"]
    await bus.close()
    await controller.stop()
    await server.stop()


async def test_no_answer_goes_where_it_would_be_taken_for_a_control_message(
    controller: Controller, caller: Caller
) -> None:
    """A reply subject of the installation's own or of the server's is not answered."""
    heard: list[str] = []
    for subject in ("crank.control.>", "$SRV.PING.made-up"):
        await caller.bus.subscribe(subject, lambda subject, *rest: heard.append(subject))
    for verb in VERBS:
        for reply in ("", "crank.control.w-1", "$SRV.PING.made-up"):
            caller.bus.publish(f"$SRV.{verb}", b"", reply=reply)
        await _one(caller.bus, f"$SRV.{verb}")
    await caller.bus.flush()
    assert heard == []


async def test_a_draining_controller_leaves(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """While it finishes what it accepted, nobody finds it any more."""
    controller = await start_controller()
    worker = await start_worker(behave=lambda subject, headers, body: None)
    asked = asyncio.create_task(caller.ask("test:echo"))
    await until(lambda: bool(worker.replies))
    stopping = asyncio.create_task(controller.stop())
    async with asyncio.timeout(5):
        while True:
            try:
                await caller.bus.request("$SRV.PING", b"")
            except NoResponder:
                break
    assert not stopping.done()
    caller.bus.publish(worker.replies[0], b"done")
    assert (await asked)[0] == 0
    await stopping


# Bounds ---------------------------------------------------------------------------


def _record(capability: str, status: Any = "success") -> Record:
    return Record(
        DecisionRecord("r-1", capability, "anonymous", "c-1", status, "answered", None, None, None, (), Timings(1.0))
    )


def test_counts_of_capabilities_that_are_forgotten_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come and go, the counts kept are at most twice as many as the registry keeps."""
    monkeypatch.setattr(record_sink, "MAX_CAPABILITIES", 10)
    known: set[str] = set()
    sink = RecordSink(known)
    for number in range(1000):
        known.clear()
        known.add(f"test:number-{number}")
        for capability in (f"test:number-{number}", "test:made-up"):
            sink.take(_record(capability))
        assert len(sink.by_capability) <= 20
    assert sink.by_capability["test:number-999"].requests == 1
    assert "test:made-up" not in sink.by_capability


def _serving_a_thousand(answers: list[bytes]) -> dict[str, Handler]:
    """The handlers of a controller that knows a thousand capabilities, by subject; ``answers`` gets what is sent."""
    registry = Registry(2.0)
    for worker in range(10):
        offers = [{"verb": f"v{worker}", "name": f"n{at}", "version": "1.0.0"} for at in range(100)]
        manifest = parse_manifest(json.dumps({"worker_id": "w", "capabilities": offers}).encode(), "w")
        assert isinstance(manifest, Manifest)
        registry.accept(manifest, b"", 1, 0.0, heard=True)
    records = RecordSink(registry.groups)
    services = Services(Subjects(), "c" * 64, registry, records, 1 << 20, lambda reply, body: answers.append(body))
    return dict(services.handlers())


def test_who_asks_over_and_over_gets_an_answer_that_was_made_before() -> None:
    """With a thousand capabilities an answer takes milliseconds to make; the next one is the same bytes."""
    answers: list[bytes] = []
    info = _serving_a_thousand(answers)["$SRV.INFO"]
    for _ in range(20):
        info("$SRV.INFO", "reply", None, b"")
    assert len(json.loads(answers[0])["endpoints"]) == 1000
    assert any(one is another for one, another in pairwise(answers))


def test_a_flood_of_questions_does_not_fill_the_connection() -> None:
    """Of an answer that was made, 16 MB are sent; small ones are sent to whoever asks."""
    answers: list[bytes] = []
    handlers = _serving_a_thousand(answers)
    for _ in range(1000):
        handlers["$SRV.INFO"]("$SRV.INFO", "reply", None, b"")
    made = len({id(answer) for answer in answers})
    assert 15 << 20 < sum(map(len, answers)) <= made * 16 << 20
    answers.clear()
    for _ in range(1000):
        handlers["$SRV.PING"]("$SRV.PING", "reply", None, b"")
    assert len(answers) == 1000
