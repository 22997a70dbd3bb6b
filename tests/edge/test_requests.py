"""A request on NATS reaches a worker and is answered, and whatever is wrong with it is said."""

from __future__ import annotations

import asyncio
import json

import pytest

from controller.app import Controller
from subjects.headers import Block, build_block
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Answer, Caller, until

SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_request_is_routed_answered_and_traced(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """Payload and the caller's own headers pass untouched; the router's headers say who did the work."""
    worker = await start_worker(cost_tokens_per_invocation=0.5)
    code, body, headers = await caller.ask(
        "test:echo", b"\x00raw", Content_Type="text/x", X_Own="mine", traceparent=TRACE, Crank_Request_Id="r-1"
    )
    assert (code, body) == (0, b"\x00raw")
    assert headers["crank-worker"] == "w-1"
    assert headers["crank-version"] == "1.0.0"
    assert headers["crank-attempts"] == "1"
    assert headers["crank-controller"] == "c-1"
    assert headers["crank-request-id"] == "r-1"
    assert headers["crank-cost-tokens"] == "0.5"
    block, sent = worker.dispatches[0]
    assert sent == b"\x00raw"
    assert block.passed == "X-Own: mine\r\n"
    assert block.ours["crank-caller"] == "anonymous"
    assert block.ours["content-type"] == "text/x"
    assert block.ours["crank-attempt"] == "1"
    assert 29_000 < int(block.ours["crank-timeout-ms"]) <= 30_000
    trace_ids = {value.split("-")[1] for value in (block.ours["traceparent"], headers["traceparent"], TRACE)}
    assert len(trace_ids) == 1
    assert block.ours["traceparent"].split("-")[2] != TRACE.split("-")[2]


@pytest.mark.parametrize(
    ("capability", "body", "headers", "code", "suffix", "says"),
    [
        ("no:such", b"{}", {}, 404, "no_such_capability", "crank capabilities"),
        ("test:ecko", b"{}", {}, 404, "no_such_capability", "test:echo"),
        ("test", b"{}", {}, 400, "malformed", "<verb>.<name>"),
        ("test.echo.more", b"{}", {}, 400, "malformed", "<verb>.<name>"),
        ("tést:echo", b"{}", {}, 400, "malformed", "A-Z a-z 0-9"),
        ("test:echo", b"{", {}, 400, "malformed", "not JSON"),
        ("test:echo", b'{"name": 3}', {}, 422, "invalid_input", "name"),
        ("test:echo", b"{}", {"Crank_Timeout_Ms": "soon"}, 400, "malformed", "Crank-Timeout-Ms"),
        ("test:echo", b"{}", {"Crank_Constraints": "[1]"}, 400, "malformed", "Crank-Constraints"),
        ("test:echo", b'{"name": "x"}', {"Crank_Version": "^2"}, 412, "no_match", "Crank-Version"),
        ("test:echo", b'{"name": "x"}', {"Crank_Constraints": '{"gpu_count":1}'}, 412, "no_match", "Crank-Constraints"),
        ("test:echo", b'{"name": "x"}', {"Idempotency_Key": "k" * 256}, 400, "malformed", "Idempotency-Key"),
        ("test:echo", b'{"name": "x"}', {"Idempotency_Key": "a b"}, 400, "malformed", "1 to 255"),
        ("test:echo", b'{"name": "x"}', {"Idempotency_Key": "schlüssel"}, 400, "malformed", "visible ASCII"),
        ("test:echo", b'{"name": "x"}', {"Idempotency_Key": ""}, 400, "malformed", "1 to 255"),
        ("test:echo", b'{"name": "x"}', {"Crank_On_Duplicate": "queue"}, 400, "malformed", "attach, reject"),
        ("test:echo", b"x" * 5000, {}, 413, "too_large", "5000"),
    ],
)
async def test_a_bad_request_is_refused_with_its_code_and_what_to_do(
    start_controller: StartController,
    start_worker: StartWorker,
    caller: Caller,
    capability: str,
    body: bytes,
    headers: dict[str, str],
    code: int,
    suffix: str,
    says: str,
) -> None:
    """Each refusal has the contract's code, a problem body with an id, and reaches no worker."""
    await start_controller(max_body_bytes=4096)
    worker = await start_worker(input_schema=SCHEMA)
    got, problem, reply = await caller.ask(capability, body, **headers)
    assert (got, problem["type"]) == (code, f"urn:crank:error:{suffix}")
    assert says in problem["detail"]
    assert reply["nats-service-error"]
    assert worker.dispatches == []


async def test_header_names_compare_without_case_and_a_repeated_one_is_refused(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """``CRANK-VERSION`` is ``Crank-Version``; two of them are a 400 that names it."""
    await start_worker()
    code, _, _ = await caller.ask("test:echo", CRANK_VERSION="^2")
    assert code == 412
    raw = b"NATS/1.0\r\nCrank-Version: ^1\r\ncrank-version: ^2\r\n\r\n"
    message = await caller.bus.request("crank.request.test.echo", b"{}", raw)
    problem = json.loads(message.body)
    assert problem["status"] == 400
    assert "crank-version" in problem["detail"]


async def test_forged_router_headers_reach_nobody(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """``Crank-Caller`` and ``Nats-`` headers of a caller or a worker are not passed on."""
    answer = [(build_block([("Nats-Request-Info", "{}"), ("Crank-Caller", "evil"), ("X", "y")]), b"done")]
    worker = await start_worker(behave=lambda *_: answer)
    _, _, headers = await caller.ask("test:echo", Crank_Caller="root", Nats_Request_Info="{}", Crank_New="x")
    block, _ = worker.dispatches[0]
    assert block.ours["crank-caller"] == "anonymous"
    assert "nats-request-info" not in block.ours
    assert "crank-new" not in block.ours
    assert "nats-request-info" not in headers
    assert "crank-caller" not in headers


@pytest.mark.parametrize("reply", ["crank.registry.w-9", "crank.control.w-1", "$JS.API.STREAM.DELETE.CRANK_REGISTRY"])
async def test_an_answer_is_never_published_where_it_would_be_a_message_of_the_routers(
    controller: Controller, start_worker: StartWorker, caller: Caller, reply: str
) -> None:
    """A caller that names an internal subject as its reply gets nothing run and nothing sent there."""
    worker = await start_worker()
    seen: list[bytes] = []
    if not reply.startswith("$"):
        await caller.bus.subscribe(reply, lambda s, r, h, body: seen.append(body))
    caller.bus.publish("crank.request.test.echo", b'{"op":"drain"}', reply=reply)
    assert (await caller.ask("test:echo", b"after"))[1] == b"after"
    for subject in ("crank.register.w-1", "crank.deregister.other", "crank.heartbeat.w-1", "crank.admin.workers"):
        caller.bus.publish(subject, b"[]", reply=reply)
    await caller.tell("crank.admin.health")
    assert seen == []
    assert [body for _, body in worker.dispatches] == [b"after"]


async def test_a_worker_that_answers_garbage_or_twice_harms_nobody(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """Garbage is a 502 that names the worker, the second answer is dropped, and the next request is served."""

    def behave(subject: str, headers: Block, body: bytes) -> list[tuple[bytes | None, bytes]]:
        if body == b"garbage":
            return [(b"NATS/1.0\r\nNats-Service-Error-Code: lots\r\n\r\n", b"")]
        if body == b"frame":
            return [(b"NATS/1.0\r\nCrank-Frame: chunk\r\nCrank-Seq: 0\r\n\r\n", b"")]
        return [(None, body), (None, b"again")]

    await start_worker(behave=behave, max_concurrency=4)
    for body in (b"garbage", b"frame"):
        code, problem, _ = await caller.ask("test:echo", body)
        assert (code, problem["maybe_executed"]) == (502, True)
        assert "w-1" in problem["detail"]
    for body in (b"one", b"two", b"three"):
        assert (await caller.ask("test:echo", body))[1] == body


async def test_a_worker_that_never_answers_costs_a_504_and_is_told_to_stop(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """The caller's time runs out, is told that the work may have been done, and the worker gets a cancel."""
    worker = await start_worker(behave=lambda *_: None)
    code, problem, _ = await caller.ask("test:echo", Crank_Timeout_Ms="100")
    assert (code, problem["maybe_executed"]) == (504, True)
    await until(lambda: bool(worker.controls))
    assert worker.controls[0] == {"op": "cancel", "dispatch_id": worker.dispatches[0][0].ours["crank-dispatch-id"]}


async def test_a_dead_workers_subject_is_noticed_at_once_and_another_worker_takes_over(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """*No responders* means that nothing ran: the request goes to the other worker, whatever it does."""
    dead = await start_worker("w-dead")
    await start_worker("w-live", max_concurrency=20)
    await dead.die()
    answers = [await caller.ask("test:echo") for _ in range(10)]
    assert {headers["crank-worker"] for _, _, headers in answers} == {"w-live"}


async def test_busy_is_asked_again_and_draining_is_not(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """``Crank-Not-Run: busy`` waits for room; ``draining`` takes the worker out until it says otherwise."""
    replies: list[str] = ["busy", "busy"]

    def behave(subject: str, headers: Block, body: bytes) -> list[tuple[bytes | None, bytes]]:
        return [(build_block([("Crank-Not-Run", replies.pop())]), b"")] if replies else [(None, b"ran")]

    worker = await start_worker(behave=behave, heartbeat_s=0)
    code, body, headers = await caller.ask("test:echo")
    assert (code, body, headers["crank-attempts"]) == (0, b"ran", "3")
    replies.append("draining")
    code, problem, _ = await caller.ask("test:echo")
    assert (code, problem["type"]) == (503, "urn:crank:error:no_worker")
    worker.heartbeat()
    await caller.bus.flush()
    await until_served(caller)


async def until_served(caller: Caller) -> None:
    """Ask until an answer comes."""
    async with asyncio.timeout(10):
        while (await caller.ask("test:echo"))[0] != 0:
            await asyncio.sleep(0.02)


async def test_a_workers_error_is_told_and_retried_only_where_that_is_safe(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """A retryable error of an idempotent capability goes to another worker; of any other it is the answer."""
    error = build_block(
        [
            ("Nats-Service-Error-Code", "503"),
            ("Nats-Service-Error", "disk full"),
            ("Crank-Retryable", "true"),
            ("Retry-After", "7"),
        ]
    )
    await start_worker("w-bad", behave=lambda *_: [(error, b"")], idempotent=True, max_concurrency=50)
    code, problem, headers = await caller.ask("test:echo")
    assert (code, problem["worker_code"], problem["worker_message"]) == (500, 503, "disk full")
    assert problem["retry_after_ms"] == 7000
    await start_worker("w-good", idempotent=True, max_concurrency=50)
    for _ in range(10):
        code, _, headers = await caller.ask("test:echo")
        assert (code, headers["crank-worker"]) == (0, "w-good")


async def test_requests_wait_for_a_free_worker_and_the_queue_has_an_end(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """One slot, two waiting places: three are served in turn, the fourth is refused as overloaded."""
    await start_controller(queue_limit=2)
    held: list[str] = []
    worker = await start_worker(behave=lambda *_: None, max_concurrency=1)
    worker.behave = lambda subject, headers, body: held.append(headers.ours["crank-dispatch-id"])  # type: ignore[func-returns-value]
    asked = [asyncio.create_task(caller.ask("test:echo", b"%d" % number)) for number in range(3)]
    await until(lambda: len(held) == 1)
    await _until_waiting(caller, 2)
    code, problem, _ = await caller.ask("test:echo")
    assert (code, problem["type"]) == (503, "urn:crank:error:overloaded")
    assert problem["retry_after_ms"] > 0
    worker.behave = lambda subject, headers, body: [(None, body)]
    first = worker.dispatches[0]
    assert first[1] == b"0"
    asked[0].cancel()
    code, answer = await caller.tell("crank.admin.health")
    assert answer["health"][0]["in_flight"] == 1
    # The held one is let go by its worker leaving: the other two are served by the next worker.
    await worker.die()
    await start_worker("w-2", max_concurrency=1)
    done = await asyncio.wait_for(asyncio.gather(*asked[1:]), 5)
    assert [body for _, body, _ in done] == [1, 2]


async def _until_waiting(caller: Caller, count: int) -> None:
    async with asyncio.timeout(5):
        while (await caller.tell("crank.admin.capabilities"))[1]["capabilities"][0]["waiting"] != count:
            await asyncio.sleep(0.01)


async def test_a_stream_arrives_frame_by_frame_and_ends_once(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """Chunks and progress pass with their numbers, and exactly one end closes the stream."""

    def behave(subject: str, headers: Block, body: bytes) -> list[tuple[bytes | None, bytes]]:
        kinds = [("chunk", b"a"), ("progress", b"50"), ("chunk", b"b"), ("end", b"")]
        if body == b"gap":
            return [(build_block([("Crank-Frame", "chunk"), ("Crank-Seq", str(seq))]), b"") for seq in (0, 2)]
        return [
            (build_block([("Crank-Frame", kind), ("Crank-Seq", str(seq))]), data)
            for seq, (kind, data) in enumerate(kinds)
        ]

    await start_worker(behave=behave, streaming=True)
    frames = [frame async for frame in caller.frames("test:echo")]
    assert [(headers["crank-frame"], headers["crank-seq"], body) for headers, body in frames] == [
        ("chunk", "0", b"a"),
        ("progress", "1", b"50"),
        ("chunk", "2", b"b"),
        ("end", "3", b""),
    ]
    broken = [frame async for frame in caller.frames("test:echo", b"gap")]
    assert [headers["crank-frame"] for headers, _ in broken] == ["chunk", "end"]
    assert broken[-1][0]["nats-service-error-code"] == "502"


async def test_a_running_request_is_cancelled_by_its_owner_and_an_unknown_one_is_said_to_be_unknown(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """With two controllers the one that owns the request answers; when none does, one of them says 404."""
    await start_controller(controller_id="c-1")
    await start_controller(controller_id="c-2")
    worker = await start_worker(behave=lambda *_: None, max_concurrency=10)
    for number in range(4):
        asked = asyncio.create_task(caller.ask("test:echo", Crank_Request_Id=f"r-{number}"))
        await until(lambda wanted=number: len(worker.dispatches) == wanted + 1)  # type: ignore[misc]
        assert await caller.tell(f"crank.cancel.r-{number}") == (
            0,
            {"status": "cancelled", "request_id": f"r-{number}"},
        )
        code, problem, _ = await asked
        assert (code, problem["maybe_executed"]) == (499, True)
    await until(lambda: len(worker.controls) == 4)
    code, problem = await caller.tell("crank.cancel.r-0")
    assert (code, problem["type"]) == (404, "urn:crank:error:no_such_request")
    code, problem = await caller.tell("crank.cancel.a.b")
    assert code == 400


async def test_a_dry_run_decides_and_runs_nothing(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """The answer is the decision record with each candidate's score or the reason it was left out."""
    worker = await start_worker("w-1")
    await start_worker("w-2", capabilities=[{"verb": "test", "name": "echo", "version": "2.0.0"}])
    code, record, _ = await caller.ask("test:echo", Crank_Dry_Run="true", Crank_Version="^1")
    assert (code, record["chosen"], record["outcome"]) == (0, "w-1", "would_dispatch")
    assert record["candidates"][0]["score_ms"] > 0
    assert "2.0.0" in record["candidates"][1]["left_out"]
    assert record["verdict"]["allow"] is True
    assert worker.dispatches == []


async def test_an_answer_too_large_to_carry_is_an_error_and_not_a_dead_connection(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """What fits NATS without our headers, and not with them, becomes one 502, whole or in a frame."""
    size = caller.bus.max_body_bytes + 900
    chunks = [build_block([("Crank-Frame", "chunk"), ("Crank-Seq", str(seq))]) for seq in (0, 1, 2)]
    answers: list[Answer] = [(None, b"x" * size)]
    await start_worker(behave=lambda *_: answers, streaming=True)
    code, problem, _ = await caller.ask("test:echo")
    assert code == 502
    assert str(size) in problem["detail"]
    answers[:] = [(chunks[0], b"a"), (chunks[1], b"x" * size), (chunks[2], b"b")]
    frames = [headers async for headers, _ in caller.frames("test:echo")]
    assert [frame["crank-frame"] for frame in frames] == ["chunk", "end"]
    assert frames[-1]["nats-service-error-code"] == "502"
    _, health = await caller.tell("crank.admin.health")
    assert health["health"][0]["requests"]["by_outcome"] == {"worker_protocol": 2}


async def test_a_flood_of_made_up_names_does_not_keep_a_good_request_waiting(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """Four hundred unknown capabilities, among five hundred known ones: the next request is served at once."""
    known = [{"verb": f"verb{number}", "name": f"name{number}", "version": "1.0.0"} for number in range(250)]
    for half in ("a", "b"):
        named = [{**capability, "verb": capability["verb"] + half} for capability in known]
        await start_worker(f"w-{half}", capabilities=named)
    await start_worker("w-1")
    for number in range(400):
        caller.bus.publish(f"crank.request.vreb{number}.nmae{number}", b"{}", reply="_INBOX.nobody")
    assert (await caller.ask("test:echo", timeout_s=2.0))[0] == 0


async def test_every_page_of_a_listing_fits_into_a_message(
    controller: Controller, start_worker: StartWorker, caller: Caller
) -> None:
    """Six capabilities with schemas of 400 KB each come in several pages, and all of them come."""
    for number in range(6):
        await start_worker(f"w-{number}", name=f"c{number}", input_schema={"enum": ["x" * 400_000]})
    names, after, pages = [], "", 0
    while after is not None:
        code, page = await caller.tell("crank.admin.capabilities", {"after": after})
        assert code == 0
        names += [row["name"] for row in page["capabilities"]]
        after, pages = page["next"], pages + 1
    assert names == [f"c{number}" for number in range(6)]
    assert pages > 1
