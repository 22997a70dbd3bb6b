"""Header blocks: any bytes become a block or a 400, and nothing that could break a line is ever passed on."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from subjects.answers import Garbage, Result, build_answer, parse_answer
from subjects.dispatches import DispatchHeaders, build_dispatch, parse_dispatch
from subjects.errors import ErrorKind, Refusal
from subjects.headers import EMPTY, MAX_BLOCK_BYTES, Block, build_block, one_line, parse_block
from subjects.replies import ReplyMeta, build_reply

CONTROL = {chr(c) for c in (*range(9), *range(10, 32), 127)}
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=40)
OTHER_NAMES = st.from_regex(r"[!-9;-~]{1,24}", fullmatch=True).filter(
    lambda name: (
        not name.lower().startswith(("crank-", "nats-"))
        and name.lower() not in ("traceparent", "tracestate", "idempotency-key", "content-type")
    )
)
OUR_NAMES = st.sampled_from(
    ["traceparent", "Idempotency-Key", "Content-Type", "Crank-Timeout-Ms", "Crank-Anything-New", "Nats-Request-Info"]
)
HOSTILE = st.lists(
    st.sampled_from(
        [b"NATS/1.0", b" 503", b"\r\n", b"\n", b"\r", b"X: 1", b"Crank-Caller: a", b":", b"\0", b"\xff", b" ", b"\t"]
    ),
    max_size=14,
).map(b"".join)


def read(raw: bytes | None) -> Block:
    """The block in ``raw``, which must be one."""
    block = parse_block(raw)
    assert isinstance(block, Block), block
    return block


@given(st.one_of(st.binary(max_size=200), HOSTILE, HOSTILE.map(lambda b: b"NATS/1.0\r\n" + b + b"\r\n\r\n")))
@example(b"NATS/1.0\r\nX: a\rCrank-Caller: root\r\n\r\n")
@example(b"NATS/1.0\r\nX: a\nCrank-Caller: root\r\n\r\n")
def test_any_bytes_are_a_block_or_a_400(raw: bytes) -> None:
    """No bytes raise, and what is passed on is whole lines without control characters or headers of the contract."""
    block = parse_block(raw)
    if isinstance(block, Refusal):
        assert block.kind is ErrorKind.MALFORMED
        assert block.detail.endswith(".")
        return
    assert not set(block.passed.replace("\r\n", "")) & CONTROL
    assert block.passed == "" or block.passed.endswith("\r\n")
    for line in block.passed.split("\r\n")[:-1]:
        assert not line.lower().startswith(("crank-", "nats-"))
        assert ":" in line
    assert all(name == name.lower() and not set(value) & CONTROL for name, value in block.ours.items())
    again = read(build_block(block.ours.items(), block.passed))
    assert (again.ours, again.passed) == (block.ours, block.passed)


@given(
    st.lists(st.tuples(OUR_NAMES, VALUES), max_size=5, unique_by=lambda pair: pair[0]),
    st.lists(st.tuples(OTHER_NAMES, VALUES), max_size=5),
)
def test_what_is_built_is_read_back(ours: list[tuple[str, str]], others: list[tuple[str, str]]) -> None:
    """The contract's headers by lower-case name without outer spaces, all others byte for byte and in order."""
    block = read(build_block([*ours, *others]))
    assert block.ours == {name.lower(): value.strip() for name, value in ours}
    assert block.passed == "".join(f"{name}: {value}\r\n" for name, value in others)
    assert block.status == 0


@given(OUR_NAMES, st.booleans(), VALUES)
def test_a_header_of_the_contract_that_is_there_twice_is_refused(name: str, swap: bool, value: str) -> None:
    """In any case of letters: nobody can say which of the two holds."""
    refusal = parse_block(build_block([(name, value), (name.swapcase() if swap else name, value)]))
    assert isinstance(refusal, Refusal)
    assert "twice" in refusal.detail


def test_a_header_of_the_application_may_repeat() -> None:
    """NATS allows it, and both lines are passed on."""
    block = read(b"NATS/1.0\r\nX-A: 1\r\nx-a: 2\r\n\r\n")
    assert block.passed == "X-A: 1\r\nx-a: 2\r\n"


@pytest.mark.parametrize("name", ["foo/bar", "a(b)", "{x}", 'quo"ted', "a@b", "a,b", "a[0]", "a=b", "a?b", "<a>"])
def test_any_printable_name_that_nats_allows_passes(name: str) -> None:
    """ADR-4: printable ASCII without the colon, more than HTTP's tokens."""
    assert read(build_block([(name, "1")])).passed == f"{name}: 1\r\n"


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"NATS/1.0", 0), (b"NATS/1.0 503", 503), (b"NATS/1.0 503 No Responders Available", 503), (b"NATS/1.0 ", 0),
     (b"NATS/1.0 100 Idle Heartbeat", 100)],
)  # fmt: skip
def test_the_inline_status_is_read(line: bytes, status: int) -> None:
    """The server's own answers carry a status in the first line."""
    assert read(line + b"\r\n\r\n").status == status


@pytest.mark.parametrize("raw", [None, b""])
def test_no_headers_are_an_empty_block(raw: bytes | None) -> None:
    """Most messages have none."""
    assert parse_block(raw) is EMPTY


@pytest.mark.parametrize(
    "raw",
    [b"NATS/1.0", b"NATS/1.0\r\n", b"NATS/2.0\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"NATS/1.0\r\nno colon\r\n\r\n",
     b"NATS/1.0\r\n: empty name\r\n\r\n", b"NATS/1.0\r\nsp ace: 1\r\n\r\n", b"NATS/1.0\r\nX : 1\r\n\r\n",
     b"NATS/1.0\r\nX: \x00\r\n\r\n", b"NATS/1.0\r\nX: \x7f\r\n\r\n", b"NATS/1.0\r\nX: \x1b[31m\r\n\r\n",
     b"NATS/1.0\r\nX: 1\r\n\r\nY: 2\r\n\r\n", b"NATS/1.0\r\n folded\r\n\r\n", b"NATS/1.0\r\nX: \xff\r\n\r\n",
     "NATS/1.0\r\nnäme: 1\r\n\r\n".encode(), b"NATS/1.0\r\n" + b"n" * 129 + b": 1\r\n\r\n", b"\r\n\r\n",
     b"NATS/1.0\r\nX: \xed\xa0\x80\r\n\r\n"],
)  # fmt: skip
def test_what_is_not_a_header_block_is_a_400(raw: bytes) -> None:
    """Bad first lines, names, values, endings and text that is not UTF-8."""
    refusal = parse_block(raw)
    assert isinstance(refusal, Refusal)
    assert refusal.kind is ErrorKind.MALFORMED


def block_with_passed(size: int) -> bytes:
    """A block whose application headers are ``size`` bytes altogether."""
    return build_block([], "X: " + "a" * (size - 5) + "\r\n")


def test_a_block_has_a_largest_size() -> None:
    """Application headers up to the limit pass; one byte more does not, nor does a huge block of any kind."""
    assert len(read(block_with_passed(MAX_BLOCK_BYTES)).passed) == MAX_BLOCK_BYTES
    for raw in (block_with_passed(MAX_BLOCK_BYTES + 1), build_block([("Crank-New", "a" * 10 * MAX_BLOCK_BYTES)])):
        refusal = parse_block(raw)
        assert isinstance(refusal, Refusal)
        assert str(MAX_BLOCK_BYTES) in refusal.detail


def test_the_largest_request_still_makes_a_dispatch_that_its_worker_can_read() -> None:
    """What the router adds on the way does not push a block that it accepted over the worker's own limit."""
    passed = read(block_with_passed(MAX_BLOCK_BYTES)).passed
    dispatch = build_dispatch(
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01", request_id="r" * 64, dispatch_id="d" * 64, attempt=9,
        timeout_ms=86_400_000, version="1.0.0-" + "a" * 58, caller="spiffe://" + "c" * 2039, priority="normal",
        content_type="é" * 255, idempotency_key="k" * 255, tracestate="é" * 512, passed=passed,
    )  # fmt: skip
    assert isinstance(parse_dispatch(read(dispatch)), DispatchHeaders)


def test_the_largest_answer_still_makes_a_reply_that_its_caller_can_read() -> None:
    """The same on the way back."""
    answer = parse_answer(*build_answer(Result(b"", block_with_passed(MAX_BLOCK_BYTES).decode()[10:-2], "é" * 255)))
    assert isinstance(answer, Result)
    meta = ReplyMeta("r" * 64, "c" * 64, "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "w" * 64, "1.0.0", 9, 0.1)
    assert isinstance(parse_block(build_reply(meta, answer.content_type, answer.passed)), Block)


def test_an_endless_content_type_breaks_the_contract() -> None:
    """A worker's media type has the same limit as a caller's."""
    assert isinstance(parse_answer(*build_answer(Result(b"", "", "x" * 256))), Garbage)


@given(st.text(st.characters(), max_size=600), st.integers(1, 512))
@example("caf\udce9", 512)
@example("a\r\nCrank-Caller: root\r\n\r\n", 512)
def test_any_text_is_made_fit_for_one_line(text: str, limit: int) -> None:
    """No controls, no broken Unicode, not longer than asked; every other character stays, but for outer spaces."""
    line = one_line(text, limit)
    assert len(line) <= limit
    assert not set(line) & (CONTROL | {"\t"})
    assert read(build_block([("Nats-Service-Error", line)])).ours["nats-service-error"] == line
    kept = [c for c in text[:limit].strip() if c.isprintable()]
    assert [c for c in line if c.isprintable() and c != " "] == [c for c in kept if c != " "]
