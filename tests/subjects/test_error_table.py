"""The error table is the contract's, and every row of it survives the wire as a problem body."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subjects.errors import (
    ErrorKind,
    Offence,
    Problem,
    Refusal,
    Refused,
    describe,
    kind_of,
    malformed,
    parse_problem,
    problem_body,
    problem_of,
)

# The table of the wire contract, word for word.
TABLE = """
400 malformed
401 unauthenticated
402 over_budget
403 policy_denied
404 no_such_capability
404 no_such_job
404 no_such_request
409 in_progress
409 outcome_unknown
409 worker_id_taken
412 no_match
413 too_large
422 key_reused
422 invalid_input
429 rate_limited
499 cancelled
500 worker_error
502 worker_protocol
503 no_worker
503 overloaded
503 store_unavailable
503 policy_unavailable
503 worker_lost
504 deadline
"""

TEXT = st.text(max_size=20)
REFUSALS = st.builds(
    Refusal,
    kind=st.sampled_from(ErrorKind),
    detail=TEXT,
    retry_after_ms=st.none() | st.integers(0, 86_400_000),
    maybe_executed=st.none() | st.booleans(),
    offences=st.lists(st.builds(Offence, TEXT, TEXT), max_size=2).map(tuple),
    candidates=st.lists(st.builds(Refused, TEXT, TEXT), max_size=2).map(tuple),
    near=st.lists(TEXT, max_size=2).map(tuple),
    worker_code=st.none() | st.integers(100, 599),
    worker_message=st.none() | TEXT,
)


def test_the_table_is_the_contract_s() -> None:
    """The same codes and suffixes, no more and no less, in the same order."""
    assert [f"{kind.status} {kind.suffix}" for kind in ErrorKind] == TABLE.split("\n")[1:-1]
    assert {kind.urn for kind in ErrorKind} == {f"urn:crank:error:{row.split()[1]}" for row in TABLE.split("\n")[1:-1]}
    assert all(kind.title and kind.title[0].isupper() for kind in ErrorKind)


@given(REFUSALS, st.none() | TEXT)
def test_a_refusal_s_problem_body_is_read_back(refusal: Refusal, request_id: str | None) -> None:
    """Every kind, with everything that it can carry."""
    body = problem_body(refusal, request_id)
    problem = parse_problem(body)
    assert problem == problem_of(refusal, request_id)
    assert problem is not None
    assert kind_of(problem) is refusal.kind
    assert {"type", "title", "status", "detail"} <= set(json.loads(body))


def test_what_is_absent_is_not_written() -> None:
    """A plain refusal is five fields."""
    body = json.loads(problem_body(malformed("Say what.", Offence("a", "is missing")), "r-1"))
    assert body == {
        "type": "urn:crank:error:malformed", "title": "The request cannot be read", "status": 400,
        "detail": "Say what.", "request_id": "r-1", "errors": [{"path": "a", "message": "is missing"}],
    }  # fmt: skip


def test_a_foreign_problem_is_read_and_is_no_row_of_ours() -> None:
    """Another service's type, or one of a later version."""
    problem = parse_problem(b'{"type":"about:blank","title":"t","status":418,"detail":"d","more":[1]}')
    assert problem == Problem("about:blank", "t", 418, "d")
    assert problem is not None
    assert kind_of(problem) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"plain text", b"\xff", b'{"type":1}', b'{"x":' + b"[" * 10_000, b"[" * 10_000, b"9" * 5000,
     b'{"type":"a","title":"b","status":"400","detail":"c"}'],
)  # fmt: skip
def test_what_is_no_problem_is_none(body: bytes) -> None:
    """A worker's or a foreign service's error has any body at all."""
    assert parse_problem(body) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_problem_or_none(body: bytes) -> None:
    """No bytes raise in a caller."""
    assert parse_problem(body) is None or body


@given(st.one_of(st.text(st.characters(), max_size=200), st.binary(max_size=200), st.none(), st.floats()))
def test_any_value_is_described_in_one_short_line(value: object) -> None:
    """Quoted, printable, at most 60 characters."""
    text = describe(value)
    assert len(text) <= 60
    assert text.isprintable()
