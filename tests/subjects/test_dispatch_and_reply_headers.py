"""What a worker is told and what a caller gets back: built once, read once, the same at both ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subjects.dispatches import DispatchHeaders, build_dispatch, parse_dispatch
from subjects.errors import PROBLEM_CONTENT_TYPE, ErrorKind, Refusal, parse_problem
from subjects.headers import Block, parse_block
from subjects.replies import JSON_BLOCK, ReplyMeta, build_refusal, build_reply, plain_reply_header, read_reply
from subjects.tokens import DispatchId, RequestId
from subjects.trace import TraceContext, traceparent

TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40).map(str.strip)
TEXT = LINE.filter(bool)
PASSED = st.lists(TEXT, max_size=3).map(lambda values: "".join(f"X-Own: {value}\r\n" for value in values))
TRACES = st.builds(
    TraceContext,
    st.from_regex(r"[1-9a-f]{32}", fullmatch=True),
    st.from_regex(r"[1-9a-f]{16}", fullmatch=True),
    st.booleans(),
)
DISPATCHES = st.builds(
    DispatchHeaders,
    request_id=TOKENS.map(RequestId),
    dispatch_id=TOKENS.map(DispatchId),
    attempt=st.integers(1, 9),
    timeout_ms=st.integers(0, 86_400_000),
    version=TEXT,
    caller=TEXT,
    priority=st.sampled_from(["low", "normal", "high"]),
    content_type=TEXT,
    idempotency_key=st.none() | st.from_regex(r"[!-~]{1,255}", fullmatch=True),
    trace=TRACES,
    tracestate=st.none() | TEXT,
)
METAS = st.builds(
    ReplyMeta,
    request_id=TOKENS,
    controller=TOKENS,
    traceparent=TRACES.map(lambda t: traceparent(t.trace_id, t.span_id, t.sampled)),
    worker=TOKENS,
    version=TEXT,
    attempts=st.integers(0, 9),
    cost_tokens=st.floats(0, 1e12),
)
META = ReplyMeta("r-1", "c-1", "00-" + "1" * 32 + "-" + "2" * 16 + "-01")


def read(raw: bytes) -> Block:
    """The block in ``raw``, which must be one."""
    block = parse_block(raw)
    assert isinstance(block, Block), block
    return block


@given(DISPATCHES, PASSED)
def test_a_dispatch_is_read_back(sent: DispatchHeaders, passed: str) -> None:
    """Every field, and the caller's own headers beside them."""
    assert sent.trace is not None
    block = read(
        build_dispatch(
            traceparent=traceparent(sent.trace.trace_id, sent.trace.span_id, sent.trace.sampled),
            request_id=sent.request_id, dispatch_id=sent.dispatch_id, attempt=sent.attempt, timeout_ms=sent.timeout_ms,
            version=sent.version, caller=sent.caller, priority=sent.priority, content_type=sent.content_type,
            idempotency_key=sent.idempotency_key, tracestate=sent.tracestate, passed=passed,
        )
    )  # fmt: skip
    assert parse_dispatch(block) == sent
    assert block.passed == passed


GOOD = {"crank-request-id": "r", "crank-dispatch-id": "d", "crank-attempt": "1", "crank-timeout-ms": "1000"}


def test_the_least_that_is_a_dispatch() -> None:
    """Two ids, the attempt and the time; the rest has defaults."""
    headers = parse_dispatch(Block(GOOD, "", 0))
    assert headers == DispatchHeaders(RequestId("r"), DispatchId("d"), 1, 1000, "", "")
    assert isinstance(headers, DispatchHeaders)
    assert (headers.priority, headers.content_type, headers.trace) == ("normal", "application/json", None)


@pytest.mark.parametrize(
    "wrong",
    [*({name: None} for name in GOOD), {"crank-request-id": "a.b"}, {"crank-dispatch-id": ""},
     *({name: value} for name in ("crank-attempt", "crank-timeout-ms") for value in ("", "-1", "x", "1" * 10, "٣"))],
)  # fmt: skip
def test_what_no_controller_wrote_is_refused(wrong: dict[str, Any]) -> None:
    """A message on a worker's subject that is no dispatch is a 400 that says where requests go."""
    ours = {name: value for name, value in {**GOOD, **wrong}.items() if value is not None}
    refusal = parse_dispatch(Block(ours, "", 0))
    assert isinstance(refusal, Refusal)
    assert refusal.kind is ErrorKind.MALFORMED
    assert "request subject" in refusal.detail


@given(st.dictionaries(st.sampled_from([*GOOD, "traceparent", "crank-priority"]), st.text(max_size=20)))
def test_any_header_texts_are_a_dispatch_or_not(ours: dict[str, str]) -> None:
    """No text raises in a worker."""
    assert isinstance(parse_dispatch(Block(ours, "", 0)), DispatchHeaders | Refusal)


@given(METAS, st.none() | TEXT, PASSED)
def test_a_reply_says_who_did_the_work(meta: ReplyMeta, content_type: str | None, passed: str) -> None:
    """All the reply headers of the contract, the worker's own headers, and the price without loss."""
    block = read(build_reply(meta, content_type, passed))
    reply = read_reply(block)
    assert (reply.code, reply.error, reply.frame, reply.seq) == (0, "", None, 0)
    assert {name: value for name, value in reply.meta.items() if name != "crank-cost-tokens"} == {
        "crank-request-id": meta.request_id, "crank-controller": meta.controller, "traceparent": meta.traceparent,
        "crank-attempts": str(meta.attempts), "crank-worker": meta.worker, "crank-version": meta.version,
        **({"content-type": content_type} if content_type else {}),
    }  # fmt: skip
    assert float(reply.meta["crank-cost-tokens"]) == pytest.approx(meta.cost_tokens, rel=1e-14)
    assert block.passed == passed


def test_prices_are_written_as_declared() -> None:
    """A price is no measurement: 1234567.5 tokens are not 1.23457e+06."""
    for price, text in ((0, "0"), (0.1, "0.1"), (10, "10"), (1234567.5, "1234567.5"), (100_000_000, "100000000")):
        meta = ReplyMeta("r", "c", "t", "w", "1.0.0", 1, price)
        assert read(build_reply(meta, None, "")).ours["crank-cost-tokens"] == text


@given(st.sampled_from(["chunk", "progress", "end"]), st.integers(0, 999_999_999))
def test_a_frame_is_read_back(frame: str, seq: int) -> None:
    """In a reply, and in a refusal that ends a stream."""
    reply = read_reply(read(build_reply(META, None, "", frame, seq)))
    assert (reply.frame, reply.seq) == (frame, seq)
    ended = read_reply(read(build_refusal(Refusal(ErrorKind.WORKER_LOST, "gone"), META, "end", seq)[0]))
    assert (ended.frame, ended.seq, ended.code) == ("end", seq, 503)


@given(st.sampled_from(ErrorKind), st.text(max_size=600), st.none() | st.integers(0, 10**10))
def test_a_refusal_is_an_error_of_the_services_protocol_and_a_problem(
    kind: ErrorKind, detail: str, retry_after_ms: int | None
) -> None:
    """Code and one line of text in the headers, all of it in the body, Retry-After to the millisecond."""
    raw, body = build_refusal(Refusal(kind, detail, retry_after_ms), META)
    block = read(raw)
    reply = read_reply(block)
    assert reply.code == kind.status
    assert len(reply.error) <= 512
    assert reply.meta["content-type"] == PROBLEM_CONTENT_TYPE
    assert reply.meta["crank-request-id"] == "r-1"
    assert "crank-worker" not in reply.meta
    problem = parse_problem(body)
    assert problem is not None
    assert (problem.status, problem.detail, problem.request_id) == (kind.status, detail, "r-1")
    assert problem.retry_after_ms == retry_after_ms
    if retry_after_ms is None:
        assert block.passed == ""
    else:
        name, _, seconds = block.passed.strip().partition(": ")
        assert name == "Retry-After"
        assert round(float(seconds) * 1000) == retry_after_ms
        assert "e" not in seconds


@given(st.dictionaries(st.sampled_from(["nats-service-error-code", "crank-seq", "crank-frame"]), st.text(max_size=12)))
def test_a_caller_reads_any_reply(ours: dict[str, str]) -> None:
    """What cannot be read counts as absent."""
    reply = read_reply(Block(ours, "", 0))
    assert 0 <= reply.code <= 999
    assert reply.seq >= 0


def test_control_and_admin_answers_have_one_header() -> None:
    """JSON, or a job's status."""
    assert read(JSON_BLOCK).ours == {"content-type": "application/json"}
    assert read(plain_reply_header("Crank-Job-Status", "done")).ours == {"crank-job-status": "done"}
