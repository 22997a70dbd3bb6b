"""Stored jobs and dead ones: what is written is read back as it was, and strangers' messages are told apart."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from subjects.errors import Refusal
from subjects.headers import MAX_BLOCK_BYTES, Block, build_block, parse_block
from subjects.jobs import (
    MALFORMED,
    MAX_JOB_BLOCK_BYTES,
    Dead,
    Job,
    build_dead,
    build_job,
    build_unreadable,
    parse_dead,
    parse_job,
)
from subjects.requests import NO_HEADERS, RequestHeaders, parse_request_headers
from subjects.tokens import RequestId
from subjects.trace import TraceContext

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=60).map(str.strip)
TOKEN = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
HEX = st.integers(1, 2**64 - 1)
HEADERS = st.builds(
    RequestHeaders,
    timeout_ms=st.none() | st.integers(1, 86_400_000),
    latency_ms=st.none() | st.integers(1, 86_400_000),
    priority=st.sampled_from(["low", "normal", "high"]),
    version=st.sampled_from([None, "^1.2", ">=2,<3"]),
    budget_tokens=st.none() | st.floats(0, 1e300),
    constraints=st.sampled_from([None, "{}", '{"a":"é\u2028","gpu_count":1}']),
    idempotency_key=st.none() | VISIBLE,
    content_type=TEXT.filter(bool),
    trace=st.none() | st.builds(TraceContext, HEX.map("{:032x}".format), HEX.map("{:016x}".format), st.booleans()),
    tracestate=st.sampled_from([None, "a=1,b=2"]),
)
PASSED = st.lists(st.tuples(st.sampled_from(["X-A", "x-b", "Own"]), TEXT), max_size=3).map(
    lambda pairs: "".join(f"{name}: {value}\r\n" for name, value in pairs)
)
JOBS = st.builds(Job, TOKEN, TEXT.filter(bool), TOKEN.map(RequestId), HEADERS, PASSED)
JOB = Job("j-1", "anonymous", RequestId("r-1"), NO_HEADERS)


def read_back(job: Job) -> Job:
    """What a job that was built says."""
    headers = msgspec.structs.replace(job.headers, request_id=job.request_id)
    return msgspec.structs.replace(job, headers=headers)


def as_sent(**headers: str) -> RequestHeaders:
    """A caller's headers on their way over the wire."""
    block = parse_block(build_block((name.replace("_", "-"), value) for name, value in headers.items()))
    assert isinstance(block, Block)
    read = parse_request_headers(block)
    assert isinstance(read, RequestHeaders)
    return read


@given(JOBS)
def test_a_job_is_read_as_it_was_written(job: Job) -> None:
    """Every header of the request and every line of the caller's come back, beside those that JetStream needs."""
    block = build_job(job, ("Nats-Msg-Id", "m"), ("Nats-Expected-Stream", "S"))
    assert isinstance(block, bytes)
    assert parse_job(block) == read_back(job)
    assert b"Nats-Msg-Id: m\r\n" in block


@given(JOBS, st.text(max_size=600), st.integers(0, 100))
def test_a_dead_job_is_still_that_job(job: Job, detail: str, attempts: int) -> None:
    """A dead job says why, whatever its last error said, and can be made a job again."""
    block = build_dead(job, "worker_error", detail, attempts, ("Nats-Msg-Id", "m"))
    assert parse_job(block) == read_back(job)
    dead = parse_dead(block)
    assert (dead.job_id, dead.caller) == (job.job_id, job.caller)
    assert (dead.reason, dead.attempts) == ("worker_error", attempts)
    assert all(word in detail for word in dead.detail.split())


def test_a_handling_of_duplicates_and_a_dry_run_are_not_kept() -> None:
    """They were the acceptance's affair; a delivery must run."""
    job = msgspec.structs.replace(JOB, headers=as_sent(Crank_Dry_Run="true", Crank_On_Duplicate="reject"))
    assert parse_job(build_job(job)) == read_back(JOB)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sent",
    [
        {"Crank-Constraints": '{"a": "\\u007f"}'},  # as JSON it is harmless, in a header it is not
        {"Crank-Constraints": "{%s}" % ",".join(f'"{n}":1e15' for n in range(300))},  # noqa: UP031  # grows when written out
    ],
)
def test_what_could_not_be_read_back_is_refused_and_not_stored(sent: dict[str, str]) -> None:
    """A header that is accepted and cannot be stored is a refusal now, and no unreadable job later."""
    headers = as_sent(**sent)
    assert headers.constraints is not None
    refused = build_job(msgspec.structs.replace(JOB, headers=headers))
    assert isinstance(refused, Refusal)
    assert refused.detail


def test_a_job_leaves_room_for_why_it_died() -> None:
    """The longest job that is accepted can still be read when it is dead, with the longest detail."""
    line = "X: " + "é" * 500 + "\r\n"
    fits = 0
    for lines in range(30):
        job = msgspec.structs.replace(JOB, caller="c" * 2048, passed=line * lines)
        if isinstance(build_job(job), Refusal):
            break
        fits = lines
        assert isinstance(parse_job(build_dead(job, "outcome_unknown", "é" * 5000, 999_999)), Job)
    assert len(line.encode()) * fits > MAX_BLOCK_BYTES - 2 * len(line.encode())
    assert len(line.encode()) * fits < MAX_JOB_BLOCK_BYTES


@given(
    st.none() | st.binary(max_size=300) | st.binary(max_size=200).map(lambda raw: b"NATS/1.0\r\n" + raw + b"\r\n\r\n")
)
@example(None)
@example(b"NATS/1.0 503\r\n\r\n")
@example(b"NATS/1.0\r\nCrank-Job-Id: a\r\nCrank-Job-Id: b\r\n\r\n")
@example(b"NATS/1.0\r\nCrank-Attempts: \xc2\xb2\r\n\r\n")
@example(b"X" * 40_000)
def test_any_bytes_are_a_refusal_or_a_job_and_among_the_dead_something_to_show(raw: bytes | None) -> None:
    """Nothing that a stranger writes raises, and among the dead everything has a reason."""
    assert isinstance(parse_job(raw), Job | Refusal)
    dead = parse_dead(raw)
    assert isinstance(dead, Dead)
    assert dead.reason
    assert not any(c in dead.detail for c in "\r\n\x1b")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Crank-Job-Id", "a.b"), ("Crank-Job-Id", ""), ("Crank-Job-Id", ">"), ("Crank-Job-Id", "a" * 65),
        ("Crank-Caller", ""), ("Crank-Caller", "c" * 2049),
        ("Crank-Request-Id", "a b"), ("Crank-Timeout-Ms", "0"), ("Crank-Priority", "urgent"),
    ],
)  # fmt: skip
def test_a_forged_job_is_none(header: str, value: str) -> None:
    """Ids and callers that no controller writes are refused before anything is made of them."""
    good = {"Crank-Job-Id": "j", "Crank-Caller": "c", "Crank-Request-Id": "r"}
    assert isinstance(parse_job(build_block(good.items())), Job)
    assert isinstance(parse_job(build_block({**good, header: value}.items())), Refusal)
    assert isinstance(parse_job(build_block([pair for pair in good.items() if pair[0] != "Crank-Request-Id"])), Refusal)


@pytest.mark.parametrize("raw", [None, b"\x00\xff", b"NATS/1.0\r\nX\r\n\r\n", b"N" * 2_000_000])
def test_what_is_no_job_is_kept_with_its_own_headers(raw: bytes | None) -> None:
    """Headers that nobody can read are there for the operator to look at, cut where they are too long."""
    block = build_unreadable(raw, "no\r\njob: 1", ("Nats-Msg-Id", "m"))
    dead = parse_dead(block)
    assert (dead.job_id, dead.reason, dead.detail) == ("", MALFORMED, "no  job: 1")
    parsed = parse_block(block)
    assert isinstance(parsed, Block)
    kept = base64.b64decode(parsed.ours.get("crank-dead-headers", ""))
    assert (raw or b"").startswith(kept)
    assert bool(kept) == bool(raw)
    assert isinstance(parse_job(block), Refusal)
