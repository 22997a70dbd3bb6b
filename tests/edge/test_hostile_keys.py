"""What strangers and full stores do to keys: nothing is left behind or forged, and nobody waits for nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from subjects.claims import claim_key, encode_claim, fingerprint
from subjects.errors import ErrorKind
from subjects.headers import Block, build_block
from tests.edge.claim_probe import record
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller, until

CLAIM = claim_key("anonymous", "test:echo", "k")
MB = 1024 * 1024


async def claims(caller: Caller) -> int:
    """How many keys stand in the store, what is left of released ones not counted."""
    _, shown = await caller.tell("crank.admin.recovery")
    return sum(shown["counts"].values())


async def test_a_job_that_found_no_room_leaves_no_claim_behind(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """It has a key that nobody knows: its claim would stand for ever, and such claims would fill the store."""
    await start_controller(jobs_max_bytes=MB)
    await start_worker(behave=lambda *_: None)
    accepted, refused = 0, 0
    for _ in range(8):
        code, answer, _ = await caller.submit("test:echo", b"x" * 300_000)
        accepted += code == 0
        refused += code == 503
        assert code == 0 or answer["type"] == ErrorKind.STORE_UNAVAILABLE.urn
    assert (accepted, refused) == (3, 5)
    async with asyncio.timeout(5):
        while await claims(caller) != accepted:
            await asyncio.sleep(0.05)


async def test_a_streamed_answer_that_one_message_cannot_hold_is_not_replayed_as_silence(
    start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """Whoever asks again is told that it was done, and that its answer was not kept."""
    await start_controller()
    piece = b"x" * 700_000

    def frames(subject: str, block: Block, body: bytes) -> list[tuple[bytes, bytes]]:
        kinds = ["chunk"] * 4 + ["end"]
        return [(build_block([("Crank-Frame", kind), ("Crank-Seq", str(n))]), piece) for n, kind in enumerate(kinds)]

    worker = await start_worker(behave=frames, streaming=True)
    await caller.ask("test:echo", Idempotency_Key="k")
    await until(lambda: len(worker.dispatches) == 1)
    code, problem, _ = await caller.ask("test:echo", Idempotency_Key="k")
    assert (code, problem["type"]) == (413, ErrorKind.TOO_LARGE.urn)
    assert len(worker.dispatches) == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"answer": 1, "content_type": "text/plain\r\nNats-Service-Error-Code: 500"}, "content_type"),
        ({"answer": 1, "content_type": ""}, "content_type"),
        ({"answer_base64": "\u00e9"}, "answer"),
    ],
)
async def test_an_operator_s_answer_is_read_as_strictly_as_a_worker_s(
    start_controller: StartController, caller: Caller, given: dict[str, Any], says: str
) -> None:
    """What would be a header of its own at the caller is refused, and nothing is met with silence."""
    await start_controller()
    code, problem = await caller.tell("crank.admin.resolve", {"job_id": CLAIM, "outcome": "done", **given})
    assert code == 400
    assert says in problem["detail"]


async def test_an_operator_s_answer_goes_to_no_subject_of_ours(
    start_controller: StartController, caller: Caller
) -> None:
    """It would be a forged message there."""
    await start_controller()
    heard: list[str] = []
    await caller.bus.subscribe("crank.control.w-1", lambda subject, *_: heard.append(subject))
    await caller.bus.request(f"$KV.crank_idempotency.{CLAIM}", encode_claim(record("unknown")))
    body = b'{"job_id": "%s", "outcome": "released"}' % CLAIM.encode()
    caller.bus.publish("crank.admin.resolve", body, reply="crank.control.w-1")
    assert (await caller.tell("crank.admin.resolve", body))[0] == 0
    await caller.bus.flush()
    assert heard == []


@pytest.mark.parametrize(
    "changed",
    [
        {"lease_s": float("nan")},
        {"lease_s": float("inf")},
        {"lease_s": -1.0},
        {"lease_s": 0.0},
        {"window_s": float("nan")},
        {"window_s": 1e300},
        {"window_s": 0.0},
        {"state": "done"},
        {"state": "dead", "job": True},
        {"state": "cancelled", "job": True},
    ],
)
async def test_a_record_that_no_controller_writes_is_met_with_a_refusal(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, changed: dict[str, Any]
) -> None:
    """Whoever asks under its key is told so, whatever they ask; nothing runs, and the next key is as good as ever."""
    await start_controller(claim_lease_s=0.5)
    worker = await start_worker(idempotent=True)
    forged = record(
        **{"state": "waiting", "key": "k", "fingerprint": fingerprint("application/json", b"{}"), **changed}
    )
    await caller.bus.request(f"$KV.crank_idempotency.{CLAIM}", encode_claim(forged))
    codes = [
        (await caller.ask("test:echo", Idempotency_Key="k", Crank_Timeout_Ms="1500"))[0],
        (await caller.submit("test:echo", Idempotency_Key="k"))[0],
        (await caller.result(CLAIM, wait_ms=1500))[0],
        (await caller.tell("crank.admin.resolve", {"job_id": CLAIM, "outcome": "released"}))[0],
        (await caller.tell("crank.admin.recovery"))[0],
        (await caller.ask("test:echo", Idempotency_Key="other"))[0],
    ]
    assert codes[4:] == [0, 0], codes
    assert all(code >= 400 for code in codes[:2]), codes
    assert len(worker.dispatches) == 1
