"""A worker's answer: any bytes are one kind of answer, and what is built is read back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from subjects.answers import (
    MAX_RETRY_AFTER_S,
    NO_RESPONDERS,
    Answer,
    Fault,
    Frame,
    Garbage,
    NoResponders,
    NotRun,
    Result,
    build_answer,
    parse_answer,
)
from subjects.headers import build_block

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=60).map(str.strip)
MEDIA = TEXT.filter(bool)
PASSED = st.lists(st.tuples(st.sampled_from(["X-A", "x-b", "Own"]), TEXT), max_size=3).map(
    lambda pairs: "".join(f"{name}: {value}\r\n" for name, value in pairs)
)
BODIES = st.binary(max_size=40)
RESULTS = st.builds(Result, BODIES, PASSED, st.none() | MEDIA)
FAULTS = st.builds(
    Fault,
    code=st.integers(100, 599),
    message=TEXT,
    retryable=st.booleans(),
    retry_after_ms=st.none() | st.integers(0, MAX_RETRY_AFTER_S * 1000),
    body=BODIES,
)
PIECES = st.builds(
    Frame, st.sampled_from(["chunk", "progress", "end"]), st.integers(0, 999_999_999), BODIES, PASSED, st.none() | MEDIA
)


def answer(body: bytes = b"", **headers: str) -> Answer:
    """An answer with these headers, ``_`` for ``-``, on its way over the wire."""
    return parse_answer(build_block([(name.replace("_", "-"), value) for name, value in headers.items()]), body)


@given(st.one_of(RESULTS, PIECES, st.builds(NotRun, st.sampled_from(["busy", "draining", "deadline"]))))
def test_results_frames_and_not_run_are_read_back(value: Result | Frame | NotRun) -> None:
    """What a worker builds, the router reads."""
    assert parse_answer(*build_answer(value)) == value


@given(FAULTS)
@example(Fault(500, "x", False, 1001))
@example(Fault(500, "x", False, 86_399_999))
def test_a_fault_is_read_back(fault: Fault) -> None:
    """With its code, its words, its body, and its Retry-After to the millisecond."""
    assert parse_answer(*build_answer(fault)) == fault


@given(FAULTS, st.integers(0, 999_999_999))
def test_a_stream_that_ends_with_a_fault_is_read_back(fault: Fault, seq: int) -> None:
    """Frame and fault share the body."""
    frame = Frame("end", seq, fault.body, fault=fault)
    read = parse_answer(*build_answer(frame))
    assert isinstance(read, Frame)
    assert (read.kind, read.seq, read.body, read.fault) == ("end", seq, fault.body, fault)


@given(st.none() | st.binary(max_size=80), st.binary(max_size=20))
@example(b"NATS/1.0 503\r\n\r\n", b"")
def test_any_bytes_are_an_answer(headers: bytes | None, body: bytes) -> None:
    """Never an exception, and garbage says what is wrong."""
    read = parse_answer(headers, body)
    if isinstance(read, Garbage):
        assert read.detail


@given(
    st.dictionaries(
        st.sampled_from(
            ["Crank-Frame", "Crank-Seq", "Crank-Not-Run", "Crank-Retryable", "Nats-Service-Error-Code",
             "Nats-Service-Error", "Retry-After", "Content-Type"]
        ),
        st.one_of(
            TEXT, st.sampled_from(["chunk", "end", "0", "7", "busy", "true", "500", "600", "nan", "1e9", "-1", "٣"])
        ),
    )
)  # fmt: skip
def test_any_headers_of_the_contract_are_an_answer(headers: dict[str, str]) -> None:
    """Every mixture is read or is garbage, and what is read is within its bounds."""
    read = parse_answer(build_block(headers.items()), b"x")
    fault = read.fault if isinstance(read, Frame) else read
    if isinstance(fault, Fault):
        assert 100 <= fault.code <= 599
        assert fault.retry_after_ms is None or 0 <= fault.retry_after_ms <= MAX_RETRY_AFTER_S * 1000
    if isinstance(read, Frame) and read.fault:
        assert read.kind == "end"


def test_no_responders_is_the_server_s_word_alone() -> None:
    """It has no body; a worker that sends a body under that status has run, and breaks the contract."""
    assert parse_answer(b"NATS/1.0 503\r\n\r\n", b"") is NO_RESPONDERS
    assert parse_answer(b"NATS/1.0 503 No Responders\r\n\r\n", b"") == NoResponders()
    assert isinstance(parse_answer(b"NATS/1.0 503\r\n\r\n", b"work was done"), Garbage)
    assert isinstance(parse_answer(b"NATS/1.0 408\r\n\r\n", b""), Garbage)


def test_no_responders_can_be_passed_on() -> None:
    """By a worker that asked somebody else to do the work: it is read as if the server had said it here."""
    assert parse_answer(*build_answer(NO_RESPONDERS)) is NO_RESPONDERS


def test_a_plain_answer_needs_no_headers() -> None:
    """The common case is the body alone, both ways."""
    assert build_answer(Result(b"hi")) == (None, b"hi")
    assert parse_answer(None, b"hi") == parse_answer(b"", b"hi") == Result(b"hi")


def test_headers_of_the_contract_are_not_passed_on() -> None:
    """A worker's own headers are."""
    assert answer(b"x", Crank_Worker="forged", Nats_Anything="1", X_Own="2") == Result(b"x", "X-Own: 2\r\n")


@pytest.mark.parametrize(
    "headers",
    [
        {"Crank_Not_Run": "tired"},
        {"Crank_Not_Run": ""},
        {"Nats_Service_Error": "no code"},
        *({"Nats_Service_Error_Code": code} for code in ("", "0", "99", "600", "5xx", "-500", "0500", "٥٠٠")),
        *({"Crank_Frame": "chunk", "Crank_Seq": seq} for seq in ("", "-1", "x", "1.0", "9" * 10, "٣")),
        {"Crank_Frame": "chunk"},
        {"Crank_Frame": "part", "Crank_Seq": "0"},
        {"Crank_Frame": "chunk", "Crank_Seq": "0", "Nats_Service_Error_Code": "500"},
        {"Crank_Frame": "end", "Crank_Seq": "0", "Nats_Service_Error_Code": "5"},
    ],
)
def test_what_breaks_the_contract_is_garbage_with_a_reason(headers: dict[str, str]) -> None:
    """The reason names the header."""
    read = answer(b"", **headers)
    assert isinstance(read, Garbage)
    assert any(name.replace("_", "-") in read.detail for name in (*headers, "Nats_Service_Error_Code", "Crank_Seq"))


def test_bad_headers_are_garbage() -> None:
    """Bytes that are no header block."""
    assert isinstance(parse_answer(b"\x00", b""), Garbage)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("0", 0), ("1", 1000), ("0.5", 500), ("86400", 86_400_000), ("1.001", 1001), ("86401", None), ("-1", None),
     ("soon", None), ("nan", None), ("inf", None), ("", None), ("Wed, 21 Oct 2015 07:28:00 GMT", None)],
)  # fmt: skip
def test_retry_after_is_seconds(text: str, ms: int | None) -> None:
    """Up to a day; what cannot be read counts as absent, and the name compares without case."""
    read = answer(nats_service_error_code="503", X_First="1", rEtry_aFter=text)
    assert read == Fault(503, "", False, ms)


@pytest.mark.parametrize(("text", "retryable"), [("true", True), ("TRUE", True), ("false", False), ("1", False)])
def test_retryable_is_true_or_not(text: str, retryable: bool) -> None:
    """Anything but true is not."""
    assert answer(Nats_Service_Error_Code="500", Crank_Retryable=text) == Fault(500, "", retryable)
