"""An adopted service as its callers meet it: what passes both ways, and what its coming and going does."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from nats.micro.request import Request, ServiceError

from bus import Bus
from crank.natsd import NatsServer
from subjects.headers import build_block, parse_block
from tests.adopting.conftest import Adopt, StartService, until_offered
from tests.edge.conftest import StartWorker
from tests.edge.peers import Caller, until

_TRACE = "a" * 32


async def _headers(request: Request) -> None:
    """Answers with what it got."""
    own = {"X-Shop": "main", "Content-Type": "text/plain"}
    await request.respond(json.dumps(dict(request.headers or {})).encode() + request.data, headers=own)


async def test_what_a_caller_sends_reaches_the_endpoint_and_comes_back(
    nats_server: NatsServer, start_service: StartService, adopting: Adopt, caller: Caller
) -> None:
    """Payload, content type, the trace, and the caller's own headers in their case, which services look for."""
    await start_service(endpoints={"headers": _headers})
    await adopting()
    sent = [
        ("Content-Type", "text/csv"),
        ("X-Tenant", "b"),
        ("traceparent", f"00-{_TRACE}-{'b' * 16}-01"),
        ("tracestate", "vendor=1"),
        ("Crank-Timeout-Ms", "3000"),
    ]
    answer = await caller.bus.request("crank.request.orders.headers", b"\xff;1", build_block(sent))
    assert answer.body.endswith(b"\xff;1")
    got = json.loads(answer.body.removesuffix(b"\xff;1"))
    assert (got["Content-Type"], got["X-Tenant"], got["tracestate"]) == ("text/csv", "b", "vendor=1")
    assert got["traceparent"].split("-")[1] == _TRACE
    assert 0 < int(got["Crank-Timeout-Ms"]) <= 3000
    block = parse_block(answer.headers)
    assert block.passed == "X-Shop: main\r\n"  # type: ignore[union-attr]
    assert block.ours["content-type"] == "text/plain"  # type: ignore[union-attr]
    assert (block.ours["crank-worker"], block.ours["crank-version"]) == ("a-1", "1.2.0")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("code", "said", "worker_code", "message"),
    [
        ("404", "No such order", 404, "No such order"),
        ("503", "Closed", 503, "Closed"),
        ("7", "Out of tea", 500, "7: Out of tea"),
        ("NOT_FOUND", "No such order", 500, "NOT_FOUND: No such order"),
    ],
)
async def test_an_endpoints_error_keeps_its_code_and_message(
    start_service: StartService, adopting: Adopt, caller: Caller, code: str, said: str, worker_code: int, message: str
) -> None:
    """Inside a 500, as every worker's; a code that is none of the contract's stands before the message."""

    async def fail(request: Request) -> None:
        raise ServiceError(code, said)

    await start_service(endpoints={"fail": fail})
    await adopting()
    status, problem, _ = await caller.ask("orders:fail")
    assert (status, problem["type"]) == (500, "urn:crank:error:worker_error")
    assert (problem["worker_code"], problem["worker_message"]) == (worker_code, message)


@pytest.mark.parametrize("how", ["stop", "die"])
async def test_a_service_that_is_gone_is_not_offered_until_it_is_back(
    start_service: StartService, adopting: Adopt, caller: Caller, how: str
) -> None:
    """503 meanwhile, whether it said goodbye or not; and another version is another one."""
    service = await start_service()
    await adopting()
    assert (await caller.ask("orders:echo", b"1"))[:2] == (0, 1)
    await getattr(service, how)()
    assert (await caller.ask("orders:echo"))[1]["type"] == "urn:crank:error:no_worker"
    await until_offered(caller)
    assert (await caller.ask("orders:echo"))[1]["type"] == "urn:crank:error:no_worker"
    await start_service(version="2.0.0")
    await until_offered(caller, "orders:echo@2.0.0")
    assert (await caller.ask("orders:echo", b"2"))[:2] == (0, 2)


async def test_what_a_service_was_doing_when_it_died_is_lost_and_not_waited_for(
    start_service: StartService, adopting: Adopt, caller: Caller
) -> None:
    """The caller is told that it may have run, long before its own deadline."""

    async def hang(request: Request) -> None:
        await asyncio.sleep(60)

    service = await start_service(endpoints={"hang": hang})
    await adopting()
    asked = asyncio.create_task(caller.ask("orders:hang", timeout_s=20, Crank_Timeout_Ms="20000"))
    await until(lambda: service.running == 1)
    await service.die()
    async with asyncio.timeout(10):
        code, problem, _ = await asked
    assert (code, problem["type"], problem["maybe_executed"]) == (503, "urn:crank:error:worker_lost", True)


async def test_an_endpoint_that_nobody_serves_shuts_no_other(
    start_service: StartService, start_worker: StartWorker, adopting: Adopt, caller: Caller, nats_server: NatsServer
) -> None:
    """Nothing ran: another worker that offers the same gets the request; and the other endpoints go on."""
    service = await start_service()
    await service.add("ghost")
    await service._service._endpoints[-1]._stop()
    await adopting()
    code, problem, _ = await caller.ask("orders:ghost")
    assert (code, problem["type"]) == (503, "urn:crank:error:no_worker")
    assert (await caller.ask("orders:echo", b"1"))[:2] == (0, 1)
    capability = {"verb": "orders", "name": "ghost", "version": "1.2.0"}
    await start_worker("w-1", capabilities=[capability])
    for _ in range(5):
        code, _, headers = await caller.ask("orders:ghost")
        assert (code, headers["crank-worker"]) == (0, "w-1")


async def test_a_request_out_of_time_gives_its_place_back(
    start_service: StartService, adopting: Adopt, caller: Caller
) -> None:
    """504 by the caller's own patience; then there is room for the next one."""

    async def wait(request: Request) -> None:
        await asyncio.sleep(json.loads(request.data))
        await request.respond(b"1")

    await start_service(endpoints={"wait": wait}, at_once=True)
    await adopting(max_concurrency=1)
    code, problem, _ = await caller.ask("orders:wait", b"30", Crank_Timeout_Ms="150")
    assert (code, problem["type"]) == (504, "urn:crank:error:deadline")
    assert (await caller.ask("orders:wait", b"0"))[:2] == (0, 1)


async def test_an_instance_gets_no_more_at_once_than_it_is_said_to_take(
    start_service: StartService, adopting: Adopt, caller: Caller
) -> None:
    """Two for the one, then two for each of two; the rest waits in the router."""

    async def wait(request: Request) -> None:
        await asyncio.sleep(0.02)
        await request.respond(b"1")

    async def most(*services: object) -> int:
        for service in services:
            service.most_running = 0  # type: ignore[attr-defined]
        answers = await asyncio.gather(*(caller.ask("orders:wait") for _ in range(12)))
        assert [code for code, _, _ in answers] == [0] * 12
        return max(service.most_running for service in services)  # type: ignore[attr-defined]

    first = await start_service(endpoints={"wait": wait}, at_once=True)
    await adopting(max_concurrency=2)
    assert await most(first) == 2
    second = await start_service(endpoints={"wait": wait}, at_once=True)
    async with asyncio.timeout(8):
        while await most(first, second) < 3:
            await asyncio.sleep(0.05)
    assert await most(first, second) <= 4


async def test_what_runs_through_a_change_of_the_service_keeps_its_place(
    start_service: StartService, adopting: Adopt, caller: Caller
) -> None:
    """The worker keeps to its places itself, since another controller may not know of what runs."""
    go_on = asyncio.Event()

    async def wait(request: Request) -> None:
        await go_on.wait()
        await request.respond(b"1")

    service = await start_service(endpoints={"wait": wait}, at_once=True)
    await adopting(max_concurrency=1)
    asked = asyncio.create_task(caller.ask("orders:wait"))
    await until(lambda: service.running == 1)
    await service.add("second")
    await until_offered(caller, "orders:wait@1.2.0", "orders:second@1.2.0")
    dispatch = [("Crank-Dispatch-Id", "d-1"), ("Crank-Request-Id", "r-1")]
    dispatch += [("Crank-Attempt", "1"), ("Crank-Timeout-Ms", "5000")]
    answer = await caller.bus.request("crank.worker.a-1.orders.wait", b"", build_block(dispatch))
    assert b"Crank-Not-Run: busy" in (answer.headers or b"")
    go_on.set()
    assert (await asked)[:2] == (0, 1)


async def test_stopping_finishes_what_runs(start_service: StartService, adopting: Adopt, caller: Caller) -> None:
    """And leaves then."""
    go_on = asyncio.Event()

    async def wait(request: Request) -> None:
        await go_on.wait()
        await request.respond(b'"done"')

    service = await start_service(endpoints={"wait": wait})
    adopted = await adopting()
    asked = asyncio.create_task(caller.ask("orders:wait"))
    await until(lambda: service.running == 1)
    adopted.stop.set()
    await until_offered(caller)
    assert (await caller.ask("orders:wait"))[1]["type"] == "urn:crank:error:no_worker"
    assert not adopted.task.done()
    go_on.set()
    assert (await asked)[:2] == (0, "done")
    await asyncio.wait_for(adopted.task, 5)


async def test_the_lowest_version_is_offered_while_several_answer(
    start_service: StartService, adopting: Adopt, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """NATS chooses among them. What runs and what is asked through the change of an upgrade is answered."""
    old = await start_service(version="1.2.0")
    await adopting()
    asking = True

    async def ask_on() -> list[int]:
        codes = []
        while asking:
            codes.append((await caller.ask("orders:echo"))[0])
        return codes

    askers = [asyncio.create_task(ask_on()) for _ in range(4)]
    await start_service(version="1.10.0")
    await until(lambda: "NATS may choose an instance of 1.10.0" in caplog.text)
    await until_offered(caller, "orders:echo@1.2.0")
    await old.stop()
    await until_offered(caller, "orders:echo@1.10.0")
    asking = False
    assert {code for codes in await asyncio.gather(*askers) for code in codes} == {0}


async def test_an_endpoint_that_is_added_later_is_offered_too(
    start_service: StartService, adopting: Adopt, caller: Caller
) -> None:
    """A service tells nobody, so it is asked again."""
    service = await start_service()
    await adopting()
    await service.add("second")
    await until_offered(caller, "orders:echo@1.2.0", "orders:second@1.2.0")
    assert (await caller.ask("orders:second", b"2"))[:2] == (0, 2)


async def test_an_adoption_survives_a_restart_of_the_nats_server(
    nats_server: NatsServer, start_service: StartService, adopting: Adopt, caller: Caller
) -> None:
    """All of them reconnect, in whatever order."""
    await start_service()
    await adopting()
    await nats_server.stop()
    await nats_server.start()
    async with asyncio.timeout(20):
        while True:
            try:
                if (await caller.ask("orders:echo", b"1", timeout_s=1))[:2] == (0, 1):
                    break
            except Exception:
                await asyncio.sleep(0.05)


async def test_a_service_that_answers_no_pings_is_given_up_after_three(
    nats_server: NatsServer, adopting: Adopt, caller: Caller
) -> None:
    """It hangs, with its subscriptions in place; it is offered again as soon as it answers."""
    bus = await Bus.connect(nats_server.url, name="raw")
    told = {"name": "orders", "id": "x1", "version": "1.0.0"}
    hangs = False

    def on_question(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        endpoints = [{"name": "echo", "subject": "raw.echo"}]
        if not hangs:
            bus.publish(reply, json.dumps({**told, "endpoints": endpoints}).encode())

    await bus.subscribe("$SRV.*.orders", on_question)
    await bus.subscribe("raw.echo", lambda s, reply, h, body: bus.publish(reply, body), "q")
    await bus.flush()
    await adopting()
    assert (await caller.ask("orders:echo", b"1"))[:2] == (0, 1)
    hangs = True
    await until_offered(caller)
    hangs = False
    await until_offered(caller, "orders:echo@1.0.0")
    assert (await caller.ask("orders:echo", b"1"))[:2] == (0, 1)
    await bus.close()


async def test_an_adoption_that_is_told_to_drain_leaves_and_stays_away(
    start_service: StartService, adopting: Adopt, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """As every worker; also when the service changes afterwards, of which nothing is said that is not so."""
    caplog.set_level(logging.INFO, "crank.adopt")
    await start_service()
    adopted = await adopting()
    caller.bus.publish("crank.control.a-1", b'{"op":"drain"}')
    await until_offered(caller)
    await start_service(version="1.1.0")
    await until(lambda: "offered as 1.1.0" in caplog.text)
    assert caplog.text.count("and offers") == 1
    assert (await caller.ask("orders:echo"))[1]["type"] == "urn:crank:error:no_worker"
    adopted.stop.set()
    await asyncio.wait_for(adopted.task, 5)
