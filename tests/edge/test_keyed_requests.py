"""Keys end to end: two controllers, a real JetStream, callers and workers that are nothing but NATS clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bus import Bus
from crank.natsd import NatsServer
from subjects.claims import claim_key
from subjects.errors import ErrorKind
from subjects.headers import Block, build_block
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller, RawWorker, until

KEY = {"Idempotency_Key": "k"}
CLAIM = claim_key("anonymous", "test:echo", "k")
LEASE_S = 0.6


@pytest.fixture
async def pair(start_controller: StartController) -> None:
    """Two controllers with short leases."""
    for controller_id in ("c-1", "c-2"):
        await start_controller(controller_id=controller_id, claim_lease_s=LEASE_S)


async def held(worker: RawWorker) -> list[str]:
    """Wait for a dispatch, and where its answer goes."""
    await until(lambda: bool(worker.replies))
    return worker.replies


async def test_ten_at_once_run_once_whichever_controller_has_them(
    pair: None, start_worker: StartWorker, caller: Caller
) -> None:
    """All get the same bytes, one of them at a price."""
    worker = await start_worker(
        behave=lambda *_: [(build_block([("X-Own", "y"), ("Content-Type", "text/x")]), b"\x00done")],
        cost_tokens_per_invocation=2.0,
        max_concurrency=10,
    )
    answers = await asyncio.gather(*(caller.ask("test:echo", **KEY) for _ in range(10)))
    assert len(worker.dispatches) == 1
    assert {(code, body) for code, body, _ in answers} == {(0, b"\x00done")}
    assert {headers["content-type"] for _, _, headers in answers} == {"text/x"}
    paid = [headers["crank-cost-tokens"] for _, _, headers in answers if "crank-replayed" not in headers]
    assert paid == ["2"]
    assert [h["crank-cost-tokens"] for _, _, h in answers if "crank-replayed" in h] == ["0"] * 9
    assert worker.dispatches[0][0].ours["idempotency-key"] == "k"


async def test_another_payload_under_the_key_is_refused(pair: None, start_worker: StartWorker, caller: Caller) -> None:
    """422 from either controller, and it says what to do."""
    worker = await start_worker()
    await caller.ask("test:echo", b"[1]", **KEY)
    for _ in range(4):
        code, problem, _ = await caller.ask("test:echo", b"[2]", **KEY)
        assert (code, problem["type"]) == (422, ErrorKind.KEY_REUSED.urn)
        assert "new key" in problem["detail"]
    assert len(worker.dispatches) == 1


async def test_a_duplicate_that_will_not_wait(pair: None, start_worker: StartWorker, caller: Caller) -> None:
    """409 with ``Retry-After`` from either controller."""
    worker = await start_worker(behave=lambda *_: None)
    first = asyncio.create_task(caller.ask("test:echo", **KEY))
    (reply,) = await held(worker)
    for _ in range(4):
        code, problem, _ = await caller.ask("test:echo", Crank_On_Duplicate="reject", **KEY)
        assert (code, problem["type"], problem["retry_after_ms"]) == (409, ErrorKind.IN_PROGRESS.urn, 1000)
    worker.bus.publish(reply, b"late")
    assert (await first)[1] == b"late"


async def test_whoever_asks_again_after_a_time_out_gets_the_answer(
    pair: None, start_worker: StartWorker, caller: Caller
) -> None:
    """The work is followed, and nothing runs twice."""
    worker = await start_worker(behave=lambda *_: None)
    code, problem, _ = await caller.ask("test:echo", Crank_Timeout_Ms="100", **KEY)
    assert (code, problem["maybe_executed"]) == (504, True)
    again = asyncio.create_task(caller.ask("test:echo", **KEY))
    worker.bus.publish(worker.replies[0], b"late")
    assert (await again)[:2] == (0, b"late")
    assert len(worker.dispatches) == 1
    assert worker.controls == []


async def test_a_large_answer_comes_back_whole(pair: None, start_worker: StartWorker, caller: Caller) -> None:
    """From another store than small ones, and from either controller."""
    body = bytes(range(256)) * 3500
    await start_worker(behave=lambda *_: [(None, body)])
    for _ in range(6):
        code, got, _ = await caller.ask("test:echo", **KEY)
        assert (code, got) == (0, body)


async def test_a_worker_s_error_is_the_answer_for_all(pair: None, start_worker: StartWorker, caller: Caller) -> None:
    """Its problem is the same, the first one's request id too."""
    fault = build_block([("Nats-Service-Error-Code", "422"), ("Nats-Service-Error", "no such mailbox")])
    worker = await start_worker(behave=lambda *_: [(fault, b"")])
    answers = [await caller.ask("test:echo", **KEY) for _ in range(4)]
    assert {code for code, _, _ in answers} == {500}
    assert len({str(body) for _, body, _ in answers}) == 1
    assert len(worker.dispatches) == 1


async def test_a_lost_worker_s_outcome_is_unknown_until_somebody_says(
    pair: None, start_worker: StartWorker, caller: Caller
) -> None:
    """409 to whoever asks, from either controller; then the answer that the operator gave."""
    worker = await start_worker(behave=lambda *_: None)
    first = asyncio.create_task(caller.ask("test:echo", **KEY))
    await held(worker)
    await worker.die()
    code, problem, _ = await first
    assert (code, problem["type"], problem["maybe_executed"]) == (503, ErrorKind.WORKER_LOST.urn, True)
    other = await start_worker("w-2")
    for _ in range(4):
        code, problem, _ = await caller.ask("test:echo", **KEY)
        assert (code, problem["type"]) == (409, ErrorKind.OUTCOME_UNKNOWN.urn)
        assert "crank resolve" in problem["detail"]
    code, answer = await caller.tell(
        "crank.admin.resolve",
        {"capability": "test:echo", "key": "k", "outcome": "done", "answer": {"paid": True}},
    )
    assert (code, answer["resolved"]) == (0, [{"job_id": CLAIM, "state": "done"}])
    code, body, headers = await caller.ask("test:echo", **KEY)
    assert (code, body, headers["crank-replayed"]) == (0, {"paid": True}, "true")
    assert not other.dispatches


async def test_an_operator_frees_a_key_with_a_warning(pair: None, start_worker: StartWorker, caller: Caller) -> None:
    """It can be used again at once."""
    worker = await start_worker(behave=lambda *_: None)
    first = asyncio.create_task(caller.ask("test:echo", **KEY))
    await held(worker)
    await worker.die()
    await first
    other = await start_worker("w-2")
    code, answer = await caller.tell("crank.admin.resolve", {"job_id": CLAIM, "outcome": "released"})
    assert code == 0
    assert "may still be running" in answer["resolved"][0]["warning"]
    assert (await caller.ask("test:echo", **KEY))[0] == 0
    assert len(other.dispatches) == 1


@pytest.mark.parametrize(
    ("question", "code", "says"),
    [
        ({"job_id": "a" * 52, "outcome": "released"}, 404, "nothing to resolve"),
        ({"job_id": "x", "outcome": "released"}, 400, "job_id"),
        ({"capability": "test:echo", "key": "a b", "outcome": "released"}, 400, "job_id"),
        ({"job_id": "a" * 52, "outcome": "maybe"}, 400, "outcome"),
        ({"job_id": "a" * 52, "outcome": "done"}, 400, "answer"),
        ({"job_id": "a" * 52, "outcome": "done", "answer_base64": "!"}, 400, "answer"),
        ({"job_id": CLAIM, "outcome": "released"}, 404, "nothing to resolve"),
    ],
)
async def test_a_resolve_of_nothing_or_nonsense_is_refused(
    pair: None, start_worker: StartWorker, caller: Caller, question: dict[str, Any], code: int, says: str
) -> None:
    """With what to do; what is done stays done."""
    await start_worker()
    await caller.ask("test:echo", **KEY)
    got, problem = await caller.tell("crank.admin.resolve", question)
    assert got == code
    assert says in problem["detail"]
    assert (await caller.ask("test:echo", **KEY))[2]["crank-replayed"] == "true"


async def test_without_jetstream_keyed_requests_are_refused_and_others_go_on(
    nats_server: NatsServer, pair: None, start_worker: StartWorker, caller: Caller
) -> None:
    """503 at once, nothing ran; and when the store is there again, so are they."""
    worker = await start_worker()
    await caller.ask("test:echo", **KEY)
    operator = await Bus.connect(nats_server.url, name="operator")
    await operator.jetstream.delete_stream("KV_crank_idempotency")
    code, problem, _ = await caller.ask("test:echo", Idempotency_Key="new")
    assert (code, problem["type"]) == (503, ErrorKind.STORE_UNAVAILABLE.urn)
    assert problem["retry_after_ms"]
    assert not problem["maybe_executed"]
    assert len(worker.dispatches) == 1
    assert (await caller.ask("test:echo"))[0] == 0

    async def protects() -> bool:
        return (await caller.ask("test:echo", Idempotency_Key="newer"))[0] == 0

    async with asyncio.timeout(10):
        while not await protects():
            await asyncio.sleep(0.1)
    await operator.close()


async def test_a_store_that_is_nearly_full_takes_no_new_keys(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """503 with what to do, before a write that grows could fail; answers that are kept are given."""
    await start_controller(claims_max_bytes=1024 * 1024)
    body = b"x" * 60_000
    await start_worker(behave=lambda *_: [(None, body)])
    assert (await caller.ask("test:echo", **KEY))[1] == body
    refused: tuple[int, Any] = (0, None)
    async with asyncio.timeout(20):
        number = 0
        while not refused[0]:
            number += 1
            code, problem, _ = await caller.ask("test:echo", Idempotency_Key=f"k{number}")
            refused = (code, problem)
            await asyncio.sleep(0.3)  # how full it is, is looked at every second
    assert refused[0] == 503
    assert "--max-bytes" in refused[1]["detail"]
    assert (await caller.ask("test:echo", **KEY))[1] == body


async def test_keys_survive_a_restart_of_every_controller(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """All that is known is read from JetStream."""
    first = await start_controller(controller_id="c-1")
    worker = await start_worker()
    await caller.ask("test:echo", **KEY)
    await first.stop()
    await start_controller(controller_id="c-1")
    code, _, headers = await caller.ask("test:echo", **KEY)
    assert (code, headers["crank-replayed"], len(worker.dispatches)) == (0, "true", 1)


async def test_a_key_can_be_used_anew_after_its_window(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """The answer ages out, in memory and in the store."""
    await start_controller(idempotency_window_s=1)
    worker = await start_worker()
    await caller.ask("test:echo", **KEY)
    async with asyncio.timeout(15):
        while len(worker.dispatches) < 2:
            await asyncio.sleep(0.2)
            await caller.ask("test:echo", **KEY)


async def test_a_dry_run_claims_nothing(pair: None, start_worker: StartWorker, caller: Caller) -> None:
    """It decides, and the key is as free as before."""
    worker = await start_worker()
    await caller.ask("test:echo", Crank_Dry_Run="true", **KEY)
    code, _, headers = await caller.ask("test:echo", **KEY)
    assert (code, "crank-replayed" in headers, len(worker.dispatches)) == (0, False, 1)


async def test_a_keyed_stream_is_streamed_once_and_replayed_whole(
    pair: None, start_worker: StartWorker, caller: Caller
) -> None:
    """One ``end``, and then the whole."""

    def frames(subject: str, block: Block, body: bytes) -> list[tuple[bytes, bytes]]:
        kinds = [("chunk", b"a"), ("chunk", b"b"), ("end", b"c")]
        return [
            (build_block([("Crank-Frame", kind), ("Crank-Seq", str(seq))]), data)
            for seq, (kind, data) in enumerate(kinds)
        ]

    worker = await start_worker(behave=frames, streaming=True)
    first = await caller.ask("test:echo", **KEY)
    assert first[1] == b"a"  # whoever asks for one message gets the first piece
    await until(lambda: len(worker.dispatches) == 1)
    for _ in range(4):
        code, body, headers = await caller.ask("test:echo", **KEY)
        assert (code, body, headers.get("crank-frame")) == (0, b"abc", None)
