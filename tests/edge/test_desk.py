"""What operators are told of jobs, dead jobs and recovery, read from a real nats-server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from controller.core.events import RetryAsked
from controller.edge.claims import claims_spec
from controller.edge.desk import Desk
from controller.edge.registry_log import registry_spec
from controller.edge.stream_reading import headlines
from crank.natsd import NatsServer
from subjects.claims import ClaimRecord, ClaimState, encode_claim
from subjects.errors import ErrorKind, Refusal
from subjects.headers import build_block
from subjects.requests import RequestHeaders
from subjects.tokens import CapabilityId
from tests.edge.job_bench import GREET, SUBJECTS, Bench, dead_record, request

OTHER = CapabilityId("greet:other")


class Operator:
    """An operator before a desk."""

    def __init__(self, bench: Bench, max_bytes: int = 512 * 1024) -> None:
        self.bench = bench
        self._answers: dict[str, asyncio.Future[dict[str, Any] | Refusal]] = {}
        self._serial = 0
        self.desk = Desk(
            bench.bus,
            SUBJECTS,
            max_bytes,
            bench._feed,
            lambda reply, body: self._answers[reply].set_result(json.loads(body)),
            lambda reply, refusal, request_id: self._answers[reply].set_result(refusal),
        )

    def ask_raw(self, operation: str, body: bytes) -> asyncio.Future[dict[str, Any] | Refusal]:
        """Ask in these bytes."""
        self._serial += 1
        reply = f"reply.{self._serial}"
        self._answers[reply] = future = asyncio.get_running_loop().create_future()
        self.desk.operations[operation](reply, body)
        return future

    async def ask(self, operation: str, **question: Any) -> dict[str, Any]:
        """The answer, which is no refusal."""
        answer = await asyncio.wait_for(self.ask_raw(operation, json.dumps(question).encode()), 10)
        assert not isinstance(answer, Refusal), answer
        return answer

    async def refused(self, operation: str, **question: Any) -> Refusal:
        """The refusal."""
        answer = await asyncio.wait_for(self.ask_raw(operation, json.dumps(question).encode()), 10)
        assert isinstance(answer, Refusal), answer
        assert answer.detail
        return answer

    async def ids(self, operation: str, **question: Any) -> list[str]:
        """Of all pages, in order."""
        found: list[str] = []
        while True:
            page = await self.ask(operation, **question)
            found += [row["job_id"] for row in page[operation]]
            if "next" not in page:
                return found
            question["after"] = page["next"]


@pytest.fixture
async def operator(nats_server: NatsServer) -> AsyncIterator[Operator]:
    """An operator of an installation with all its streams."""
    bench = await Bench.start(nats_server)
    await bench.streams.ensure(registry_spec(SUBJECTS, 1))
    await bench.streams.ensure(claims_spec(SUBJECTS, 1, 64 * 1024 * 1024))
    operator = Operator(bench)
    yield operator
    await operator.desk.stop()
    await bench.stop()


async def claim(bench: Bench, key: str, state: ClaimState, **fields: Any) -> ClaimRecord:
    """Have a record stand under a key."""
    record = msgspec.structs.replace(dead_record(key), state=state, answer=None, reason="", **fields)
    block = build_block([("Crank-Claim", state)])
    await bench.bus.request(f"$KV.crank_idempotency.{key}", encode_claim(record), block)
    return record


async def test_jobs_are_listed_with_what_their_records_say(operator: Operator) -> None:
    """Queued, running, and whatever else a record says; one without a record is queued."""
    states: list[ClaimState] = ["waiting", "dispatching", "unknown"]
    for state in states:
        await operator.bench.append(f"j-{state}")
        await claim(operator.bench, f"j-{state}", state, attempts=3)
    await operator.bench.append("j-none", request(OTHER))
    rows = (await operator.ask("jobs"))["jobs"]
    assert [(row["job_id"], row["status"], row["attempts"]) for row in rows] == [
        ("j-waiting", "queued", 3), ("j-dispatching", "running", 3), ("j-unknown", "unknown", 3),
        ("j-none", "queued", 0),
    ]  # fmt: skip
    last = rows[-1]
    assert 0 <= last.pop("age_s") < 60
    assert last == {
        "job_id": "j-none", "capability": OTHER, "caller": "anonymous", "status": "queued", "attempts": 0,
        "request_id": "r-1", "seq": 4,
    }  # fmt: skip
    assert await operator.ids("jobs", capability=OTHER) == ["j-none"]
    assert await operator.ids("jobs", limit=1) == [f"j-{state}" for state in (*states, "none")]


async def test_listing_jobs_hands_none_out(operator: Operator) -> None:
    """They can still be pulled, and what is handed out is still listed."""
    await operator.bench.append("j-1")
    assert await operator.ids("jobs") == ["j-1"]
    (job,) = await operator.bench.pull()
    assert job.job_id == "j-1"
    assert await operator.ids("jobs") == ["j-1"]


async def test_a_page_of_jobs_ends_after_so_much_data(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs come with their data from the server, and nobody waits for gigabytes; the next page goes on."""
    monkeypatch.setattr("controller.edge.job_list._MOST_READ_BYTES", 250_000)
    for n in range(7):
        await operator.bench.append(f"j-{n}", request(body=b"x" * 100_000))
    assert len((await operator.ask("jobs"))["jobs"]) == 3
    assert await operator.ids("jobs") == [f"j-{n}" for n in range(7)]


async def test_dead_jobs_are_listed_with_why(operator: Operator) -> None:
    """The oldest first, page by page, of all capabilities or of one."""
    for n in range(5):
        await operator.bench.bury(f"j-{n}", request(OTHER if n == 3 else GREET))
    row = (await operator.ask("dead"))["dead"][0]
    assert 0 <= row.pop("age_s") < 60
    assert row == {
        "job_id": "j-0", "capability": GREET, "caller": "anonymous", "reason": "worker_error", "detail": "it broke",
        "attempts": 2, "seq": 1,
    }  # fmt: skip
    assert await operator.ids("dead", op="list", limit=2) == [f"j-{n}" for n in range(5)]
    assert await operator.ids("dead", capability=OTHER) == ["j-3"]
    assert await operator.ids("dead", capability="nobody:has") == []


async def test_a_dead_job_is_shown_with_its_data(operator: Operator) -> None:
    """Text as text, anything else as base64, with its content type."""
    text = request(body='{"a": "é"}'.encode(), headers=RequestHeaders(content_type="application/json"))
    data = request(body=b"\xff\x00", headers=RequestHeaders(content_type="image/png"))
    await operator.bench.bury("j-1", text)
    await operator.bench.bury("j-2", data)
    (row,) = (await operator.ask("dead", op="show", job_id="j-1"))["dead"]
    assert (row["job_id"], row["reason"], row["content_type"], row["body"]) == (
        "j-1", "worker_error", "application/json", '{"a": "é"}'
    )  # fmt: skip
    (row,) = (await operator.ask("dead", op="show", job_id="j-2"))["dead"]
    assert (row["content_type"], base64.b64decode(row["body_base64"])) == ("image/png", b"\xff\x00")


async def test_data_that_no_answer_can_hold_is_left_out(operator: Operator) -> None:
    """The rest is told, and how much there is."""
    await operator.bench.bury("j-1", request(body=b"\xff" * 600_000))
    (row,) = (await operator.ask("dead", op="show", job_id="j-1"))["dead"]
    assert (row["left_out"], row["size"], row["reason"]) == (["body"], 600_000, "worker_error")
    assert "body_base64" not in row


async def test_a_dropped_job_is_gone(operator: Operator) -> None:
    """All of its messages are, and no other's; once more there is none to drop."""
    await operator.bench.bury("j-1")
    await operator.bench.bury("j-2")
    await operator.bench.bury("j-1", message_id="again")
    assert await operator.ids("dead") == ["j-2", "j-1"]
    assert await operator.ask("dead", op="drop", job_id="j-1") == {"dead": [{"job_id": "j-1", "status": "dropped"}]}
    assert await operator.ids("dead") == ["j-2"]
    for op in ("drop", "show", "retry"):
        assert (await operator.refused("dead", op=op, job_id="j-1")).kind is ErrorKind.NO_SUCH_JOB


async def test_a_retry_hands_the_core_the_job_as_it_was(operator: Operator) -> None:
    """With its caller, its key and its data, to be answered where the operator waits; a second copy is removed."""
    headers = RequestHeaders(idempotency_key="k", priority="high")
    sent = request(OTHER, b"data", "X-Own: 1\r\n", headers)
    await operator.bench.bury("j-1", sent)
    await operator.bench.bury("j-1", sent, message_id="again")
    answer = operator.ask_raw("dead", b'{"op": "retry", "job_id": "j-1"}')
    (asked,) = await operator.bench.expect(RetryAsked)
    headers = msgspec.structs.replace(headers, request_id="r-1")
    expected = msgspec.structs.replace(sent, headers=headers, action="retry", job_id="j-1", reply="reply.1")
    assert asked == RetryAsked(expected, 2)
    assert not answer.done()
    assert await operator.bench.messages("CRANK_DEAD") == 1


HOSTILE = [
    (None, b"no headers"),
    (b"NATS/1.0\r\n\xff: 1\r\n\r\n", b"\xff"),
    (build_block([("Crank-Job-Id", "a.b"), ("Crank-Dead-Reason", "x y")]), b"{}"),
    (build_block([("Crank-Job-Id", "malformed-7"), ("Crank-Dead-Detail", "\u009b2J")]), b"{}"),
]


@pytest.mark.parametrize(("headers", "body"), HOSTILE)
async def test_what_strangers_put_among_the_dead_is_shown_and_dropped(
    operator: Operator, headers: bytes | None, body: bytes
) -> None:
    """It goes by its sequence, cannot be tried again, and carries nothing into a terminal."""
    await operator.bench.bury("j-1")
    await operator.bench.bus.request("crank.dead.greet.hello_world", body, headers)
    rows = (await operator.ask("dead"))["dead"]
    assert [row["job_id"] for row in rows] == ["j-1", "malformed-2"]
    assert rows[1]["reason"] == "malformed"
    assert "\u009b" not in rows[1]["detail"]
    assert (await operator.refused("dead", op="retry", job_id="malformed-2")).kind is ErrorKind.MALFORMED
    assert not operator.bench.of(RetryAsked)
    (shown,) = (await operator.ask("dead", op="show", job_id="malformed-2"))["dead"]
    assert shown["seq"] == 2
    await operator.ask("dead", op="drop", job_id="malformed-2")
    assert await operator.ids("dead") == ["j-1"]


async def test_a_job_that_cannot_be_read_is_listed_under_its_sequence(operator: Operator) -> None:
    """Nothing in the stream is invisible, whatever its subject."""
    await operator.bench.bus.request("crank.jobs.greet.hello_world", b"junk")
    await operator.bench.bus.request("crank.jobs.b@d.x", b"junk")
    rows = (await operator.ask("jobs"))["jobs"]
    assert [(row["job_id"], row["status"], row["capability"]) for row in rows] == [
        ("malformed-1", "malformed", GREET), ("malformed-2", "malformed", "crank.jobs.b@d.x")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "question",
    [
        b"{", b"[]", b"\xff", b'{"after": -1}', b'{"after": "1"}', b'{"limit": 0}', b'{"limit": 1.5}',
        b'{"op": "burn"}', b'{"capability": "x"}', b'{"capability": "a.b:>"}', b'{"op": "show"}',
        b'{"op": "drop", "job_id": "a.>"}', b'{"op": "retry", "job_id": ""}',
        b'{"op": "show", "job_id": 5}', b" " * 70_000,
    ],
)  # fmt: skip
async def test_a_question_that_cannot_be_read_is_refused(operator: Operator, question: bytes) -> None:
    """With a 400 that says what is wrong, before anything is read."""
    answer = await asyncio.wait_for(operator.ask_raw("dead", question), 5)
    assert isinstance(answer, Refusal)
    assert answer.kind is ErrorKind.MALFORMED


@pytest.mark.parametrize("job_id", ["malformed-", "malformed-x", "malformed-0", f"malformed-{'9' * 40}", "nobody"])
async def test_a_dead_job_that_is_none_is_a_404(operator: Operator, job_id: str) -> None:
    """Whatever it looks like."""
    await operator.bench.bury("j-1")
    assert (await operator.refused("dead", op="show", job_id=job_id)).kind is ErrorKind.NO_SUCH_JOB


async def test_a_page_holds_what_one_message_holds(operator: Operator) -> None:
    """Long callers make short pages, and no row is lost between two."""
    narrow = Operator(operator.bench, max_bytes=12_000)
    for n in range(12):
        await operator.bench.bury(f"j-{n}", msgspec.structs.replace(request(), caller="c" * 2000))
    assert 2 <= len((await narrow.ask("dead"))["dead"]) <= 6
    assert await narrow.ids("dead") == [f"j-{n}" for n in range(12)]


async def test_recovery_tells_what_there_is_and_what_is_unfinished(operator: Operator) -> None:
    """Every stream with its size, every state with its number, and each claim that is not final."""
    states: list[ClaimState] = ["waiting", "dispatching", "unknown", "done", "done", "dead", "cancelled"]
    for n, state in enumerate(states):
        await claim(operator.bench, f"k-{n}", state)
    await operator.bench.bus.request("$KV.crank_idempotency.gone", b"", build_block([("KV-Operation", "DEL")]))
    await operator.bench.bus.request("$KV.crank_idempotency.junk", b"junk")
    await operator.bench.append("j-1")
    told = await operator.ask("recovery")
    rows = {row["stream"]: row for row in told["recovery"]}
    assert set(rows) == {
        "CRANK_REGISTRY", "CRANK_SLO", "CRANK_JOBS", "CRANK_DEAD", "KV_crank_idempotency", "KV_crank_results",
        "OBJ_crank_answers",
    }  # fmt: skip
    jobs = rows["CRANK_JOBS"]
    assert (jobs["messages"], jobs["first_seq"], jobs["last_seq"]) == (1, 1, 1)
    assert jobs["bytes"] > 0
    assert all(row["purpose"] for row in told["recovery"])
    assert rows["OBJ_crank_answers"]["missing"] is True
    assert told["counts"] == {
        "cancelled": 1, "dead": 1, "dispatching": 1, "done": 2, "unknown": 1, "unreadable": 1, "waiting": 1
    }  # fmt: skip
    assert told["complete"] is True
    assert [(row["job_id"], row["state"]) for row in told["unfinished"]] == [
        ("k-0", "waiting"), ("k-1", "dispatching"), ("k-2", "unknown")
    ]  # fmt: skip
    row = told["unfinished"][0]
    assert 0 <= row.pop("age_s") < 60
    assert row == {
        "job_id": "k-0", "capability": GREET, "caller": "anonymous", "state": "waiting", "job": True, "owner": "c-1.b",
        "worker": "w-1",
    }  # fmt: skip


async def test_recovery_shows_the_first_of_many(operator: Operator) -> None:
    """All are counted, more than a batch of them; two hundred are shown."""
    bus = operator.bench.bus
    record = msgspec.structs.replace(dead_record("k"), state="waiting")
    body, block = encode_claim(record), build_block([("Crank-Claim", "waiting")])
    for n in range(1300):
        bus.publish(f"$KV.crank_idempotency.k-{n}", body, block)
    while await operator.bench.messages("KV_crank_idempotency") < 1300:
        await bus.flush()
    told = await operator.ask("recovery")
    assert (told["counts"], told["complete"]) == ({"waiting": 1300}, True)
    assert len({row["job_id"] for row in told["unfinished"]}) == 200


async def test_a_reading_that_is_over_leaves_no_reader_behind(operator: Operator) -> None:
    """Also one that was told enough, or whose time was over."""
    bench = operator.bench
    for n in range(5):
        await bench.bury(f"j-{n}")
    seen: list[int] = []

    def two(message: Any) -> bool:
        seen.append(message.seq)
        return len(seen) < 2

    assert await headlines(bench.bus, "CRANK_DEAD", "crank.dead.>", 0, 5.0, two) is False
    assert seen == [1, 2]
    assert await headlines(bench.bus, "CRANK_DEAD", "crank.dead.>", 3, 5.0, lambda message: True) is True
    assert await headlines(bench.bus, "CRANK_DEAD", "crank.dead.>", 0, 0.0, lambda message: True) is False
    assert await headlines(bench.bus, "NOT_THERE", "crank.dead.>", 0, 5.0, lambda message: True) is True
    await bench.bus.flush()
    while (await bench.bus.jetstream.stream_info("CRANK_DEAD")).state.consumer_count:
        await bench.bus.flush()


async def test_few_questions_are_answered_at_a_time(operator: Operator) -> None:
    """One more is refused at once, and told to come again."""
    asked = [operator.ask_raw("recovery", b"") for _ in range(5)]
    refusal = await asked[-1]
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.retry_after_ms) == (ErrorKind.OVERLOADED, 1000)
    assert all(isinstance(answer, dict) for answer in await asyncio.gather(*asked[:-1]))
    assert "recovery" in await operator.ask("recovery")


async def test_without_its_streams_the_desk_says_so(operator: Operator, nats_server: NatsServer) -> None:
    """Streams that are not there hold nothing; a server that is gone is a 503 with its reason."""
    for name in ("CRANK_JOBS", "CRANK_DEAD", "KV_crank_idempotency"):
        await operator.bench.bus.jetstream.delete_stream(name)
    assert await operator.ask("jobs") == {"jobs": []}
    assert await operator.ask("dead") == {"dead": []}
    assert (await operator.ask("recovery"))["counts"] == {}
    await nats_server.stop()
    for operation in ("jobs", "dead", "recovery"):
        refusal = await operator.refused(operation)
        assert refusal.kind is ErrorKind.STORE_UNAVAILABLE
