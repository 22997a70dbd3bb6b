"""What controllers tell each other of objectives: subjects and bodies, written and read back, and what else comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subjects.messages import encode
from subjects.names import Subjects
from subjects.slo_counts import CountsMessage, Period, Totals, parse_counts, parse_subject, subject_of
from subjects.tokens import CapabilityId

SUBJECTS = Subjects()
HELLO = CapabilityId("greet:hello")


@given(st.integers(0, 10**9 - 1), st.booleans())
def test_a_subject_is_read_as_it_was_built(number: int, is_day: bool) -> None:
    """A minute or a day of one process."""
    period = Period("c-1", "b00t", number, is_day)
    assert parse_subject(SUBJECTS, subject_of(SUBJECTS, period)) == period


def test_minutes_and_days_look_as_the_contract_says() -> None:
    """Five tokens."""
    assert subject_of(SUBJECTS, Period("c-1", "b", 29_000_000)) == "crank.slo.c-1.b.29000000"
    assert subject_of(SUBJECTS, Period("c-1", "b", 20_437, is_day=True)) == "crank.slo.c-1.b.d20437"


@pytest.mark.parametrize(
    "subject",
    ["crank.slo.c.b", "crank.slo.c.b.1.2", "other.slo.c.b.1", "crank.other.c.b.1", "crank.slo.c.b.x", "crank.slo.c.b.d",
     "crank.slo.c.b.-1", "crank.slo.c.b.1e3", "crank.slo.c.b.1234567890", "crank.slo.c.b.dd1", "crank.slo.é.b.1", ""],
)  # fmt: skip
def test_what_is_no_such_subject_is_none(subject: str) -> None:
    """Whoever may publish may try anything."""
    assert parse_subject(SUBJECTS, subject) is None


def test_a_message_is_read_as_it_was_written() -> None:
    """Counts, the histogram, which shares were told of, and the goodbye."""
    totals = Totals(10, 2, 8, 1, {0: 3, 415: 5}, (0.5, 0.9))
    message = CountsMessage(1_764_090_000.5, {HELLO: totals}, left=True)
    assert parse_counts(encode(message)) == message
    assert parse_counts(encode(CountsMessage(1.0))) == CountsMessage(1.0)
    assert parse_counts(b'{"at": 1, "later": [], "counts": {"greet:hello": {"new": 1}}}') is not None


@pytest.mark.parametrize(
    "totals",
    [
        '{"requests": -1}', '{"requests": 1.5}', '{"requests": 9007199254740993}', '{"requests": 1, "bad": 2}',
        '{"requests": 3, "bad": 2, "served": 2}', '{"requests": 2, "served": 1, "slow": 2}', '{"ms": {"-1": 1}}',
        '{"ms": {"1024": 1}}', '{"ms": {"x": 1}}', '{"told": [0]}', '{"told": [1.5]}', "3", "null",
    ],
)  # fmt: skip
def test_counts_that_cannot_be_are_none(totals: str) -> None:
    """One of them makes the message unreadable: it is not one of ours."""
    assert parse_counts(f'{{"at": 1, "counts": {{"greet:hello": {totals}}}}}'.encode()) is None


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_none(body: bytes) -> None:
    """And never an error."""
    assert parse_counts(body) is None


def test_capabilities_must_be_some() -> None:
    """A name that is no capability, and far too many of them."""
    assert parse_counts(b'{"at": 1, "counts": {"greet": {}}}') is None
    many = {CapabilityId(f"a:b{number}"): Totals() for number in range(10_001)}
    assert parse_counts(encode(CountsMessage(1.0, many))) is None
