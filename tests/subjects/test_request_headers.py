"""A caller's headers: what each may hold, and the one 400 that names every one that may not."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subjects import headers as h
from subjects.errors import ErrorKind, Refusal
from subjects.headers import EMPTY, Block, build_block, parse_block
from subjects.requests import MAX_TIMEOUT_MS, NO_HEADERS, RequestHeaders, constraint_items, parse_request_headers

NAMES = [
    h.TIMEOUT_MS, h.LATENCY_MS, h.PRIORITY, h.VERSION, h.BUDGET_TOKENS, h.CONSTRAINTS, h.REQUEST_ID,
    h.IDEMPOTENCY_KEY, h.ON_DUPLICATE, h.DRY_RUN, h.CONTENT_TYPE, h.TRACEPARENT, h.TRACESTATE,
]  # fmt: skip
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def parse(**headers: str) -> RequestHeaders | Refusal:
    """The headers with ``_`` for ``-``, on their way over the wire."""
    block = parse_block(build_block([(name.replace("_", "-"), value) for name, value in headers.items()]))
    assert isinstance(block, Block)
    return parse_request_headers(block)


def one(name: str, value: str) -> RequestHeaders | Refusal:
    """One header on its way over the wire."""
    return parse(**{name: value})


VALID = [
    (h.TIMEOUT_MS, "1", "timeout_ms", 1),
    (h.TIMEOUT_MS, "86400000", "timeout_ms", 86_400_000),
    (h.LATENCY_MS, "1", "latency_ms", 1),
    (h.LATENCY_MS, "86400000", "latency_ms", 86_400_000),
    (h.PRIORITY, "low", "priority", "low"),
    (h.PRIORITY, "normal", "priority", "normal"),
    (h.PRIORITY, "HIGH", "priority", "high"),
    (h.VERSION, "^1.2", "version", "^1.2"),
    (h.VERSION, ">=2,<3", "version", ">=2,<3"),
    (h.BUDGET_TOKENS, "0", "budget_tokens", 0.0),
    (h.BUDGET_TOKENS, "0.25", "budget_tokens", 0.25),
    (h.BUDGET_TOKENS, "1e3", "budget_tokens", 1000.0),
    (h.CONSTRAINTS, "{}", "constraints", "{}"),
    (h.CONSTRAINTS, '{"gpu_count":1}', "constraints", '{"gpu_count":1}'),
    (h.REQUEST_ID, "r", "request_id", "r"),
    (h.REQUEST_ID, "r" * 64, "request_id", "r" * 64),
    (h.IDEMPOTENCY_KEY, "!", "idempotency_key", "!"),
    (h.IDEMPOTENCY_KEY, "~" * 255, "idempotency_key", "~" * 255),
    (h.ON_DUPLICATE, "attach", "on_duplicate", "attach"),
    (h.ON_DUPLICATE, "reject", "on_duplicate", "reject"),
    (h.DRY_RUN, "true", "dry_run", True),
    (h.DRY_RUN, "false", "dry_run", False),
    (h.CONTENT_TYPE, "text/plain", "content_type", "text/plain"),
    (h.CONTENT_TYPE, "x" * 255, "content_type", "x" * 255),
    (h.TRACESTATE, "a=1", "tracestate", "a=1"),
    (h.TRACESTATE, "x" * 512, "tracestate", "x" * 512),
    # Forgiven: the trace recommendation says to go on without it.
    (h.TRACESTATE, "x" * 513, "tracestate", None),
    (h.TRACESTATE, "", "tracestate", None),
    (h.TRACEPARENT, "junk", "trace", None),
]  # fmt: skip

INVALID = [
    *((name, value) for name in (h.TIMEOUT_MS, h.LATENCY_MS)
      for value in ("", "0", "86400001", "100000000", "-1", "+1", "1.5", "1e3", "ten", "1 0", "٣", "9" * 5000)),
    *((h.PRIORITY, value) for value in ("", "urgent", "1", "low,high")),
    *((h.VERSION, value) for value in ("", "latest", "1.2.3.4", "^", "^1.2 || junk", "1 - x - 2", "9." * 100)),
    *((h.BUDGET_TOKENS, value) for value in ("", "-1", "-0.1", "nan", "inf", "1_000", "free", "9e999", "٣")),
    *((h.CONSTRAINTS, value) for value in (
        "", "x", "1", "[]", "null", '{"a":null}', '{"a":[1]}', '{"a":{}}', '{"a":1e999}', '{"a":1', '{"a":NaN}',
        "[" * 3000, '{"a":"' + "x" * 4096 + '"}', '{"a":"\\ud800"}')),
    *((h.REQUEST_ID, value) for value in ("", "a.b", "a b", "*", ">", "r" * 65, "é")),
    *((h.IDEMPOTENCY_KEY, value) for value in ("", "a b", "a\tb", "é", "~" * 256)),
    *((h.ON_DUPLICATE, value) for value in ("", "wait", "true")),
    *((h.DRY_RUN, value) for value in ("", "yes", "1")),
    *((h.CONTENT_TYPE, value) for value in ("", "x" * 256)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "field", "value"), VALID)
def test_a_header_within_its_bounds_is_read(name: str, text: str, field: str, value: object) -> None:
    """Each header at its smallest, its largest and its usual value."""
    parsed = one(name, text)
    assert isinstance(parsed, RequestHeaders), parsed
    assert getattr(parsed, field) == value
    assert type(getattr(parsed, field)) is type(value)


@pytest.mark.parametrize(("name", "text"), INVALID)
def test_a_header_out_of_its_bounds_is_a_400_that_names_it(name: str, text: str) -> None:
    """The offence spells the header as the contract does, and the detail says how it should look."""
    refusal = one(name, text)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.kind is ErrorKind.MALFORMED
    assert [offence.path for offence in refusal.offences] == [name]
    assert name in refusal.detail
    assert "must be" in refusal.detail
    assert len(refusal.detail) < 300


def test_every_offending_header_is_named_at_once() -> None:
    """A caller corrects all of them in one go."""
    refusal = parse(Crank_Timeout_Ms="0", Crank_Priority="urgent", Crank_Request_Id="ok", Idempotency_Key="a b")
    assert isinstance(refusal, Refusal)
    assert {o.path for o in refusal.offences} == {"Crank-Timeout-Ms", "Crank-Priority", "Idempotency-Key"}


def test_no_headers_mean_the_defaults() -> None:
    """Normal priority, attach, JSON, any version, no limit of its own."""
    for block in (EMPTY, Block({}, "X: 1\r\n", 0)):
        assert parse_request_headers(block) is NO_HEADERS
    assert RequestHeaders(
        timeout_ms=None, latency_ms=None, priority="normal", version=None, budget_tokens=None, constraints=None,
        request_id=None, idempotency_key=None, on_duplicate="attach", dry_run=False, content_type="application/json",
        trace=None, tracestate=None,
    ) == NO_HEADERS  # fmt: skip


def test_names_compare_without_case_and_unknown_ones_are_ignored() -> None:
    """`crank-PRIORITY` is `Crank-Priority`; a `Crank-` header of a later version does not disturb this one."""
    parsed = parse(crank_PRIORITY="low", Crank_Future="x", Nats_Request_Info="{}", TRACEPARENT=TRACEPARENT)
    assert isinstance(parsed, RequestHeaders)
    assert parsed.priority == "low"
    assert parsed.trace is not None
    assert parsed.trace.sampled


@given(st.dictionaries(st.one_of(st.sampled_from(NAMES).map(str.lower), st.text(max_size=12)), st.text(max_size=60)))
def test_any_header_texts_are_read_or_refused(ours: dict[str, str]) -> None:
    """No text raises, whichever header it stands in, and every offence is a header that was there."""
    parsed = parse_request_headers(Block(ours, "", 0))
    if isinstance(parsed, Refusal):
        assert {o.path.lower() for o in parsed.offences} <= set(ours)
        return
    for value in (parsed.timeout_ms, parsed.latency_ms):
        assert value is None or 1 <= value <= MAX_TIMEOUT_MS
    assert parsed.budget_tokens is None or 0 <= parsed.budget_tokens < float("inf")


CONSTRAINTS = st.dictionaries(
    st.text(max_size=8),
    st.one_of(
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ),
    max_size=5,
)


def canonical(items: dict[str, object]) -> str:
    """The constraints' canonical text, as the request carries it."""
    parsed = parse_request_headers(Block({h.CONSTRAINTS.lower(): json.dumps(items)}, "", 0))
    assert isinstance(parsed, RequestHeaders), parsed
    assert parsed.constraints is not None
    return parsed.constraints


@given(CONSTRAINTS, st.randoms())
def test_equal_constraints_are_equal_text(items: dict[str, object], random: object) -> None:
    """Whatever the order of the keys and the spelling of the numbers; and the text stands for the same mapping."""
    shuffled = list(items.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    respelled = {key: float(value) if type(value) is int and abs(value) < 2**53 else value for key, value in shuffled}
    text = canonical(items)
    assert canonical(respelled) == text
    assert constraint_items(text) == items
    assert canonical(dict(constraint_items(text))) == text


def test_constraints_that_mean_different_things_are_different_text() -> None:
    """A number means at least, a boolean and a string mean equal: 1, true and "1" are three constraints."""
    assert len({canonical({"a": value}) for value in (1, True, "1", 0, False, "", "true", 1.5)}) == 8
    assert canonical({"a": 0.0}) == canonical({"a": -0.0}) == canonical({"a": 0})


def test_the_request_headers_are_a_value() -> None:
    """They are compared and copied like one."""
    parsed = one(h.TIMEOUT_MS, "5")
    assert parsed == msgspec.structs.replace(NO_HEADERS, timeout_ms=5)
