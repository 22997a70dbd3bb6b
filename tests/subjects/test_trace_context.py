"""The W3C trace context, after the recommendation's own cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subjects.trace import TraceContext, parse_traceparent, traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEX32 = st.from_regex(r"[0-9a-f]{32}", fullmatch=True).filter(lambda t: t != "0" * 32)
HEX16 = st.from_regex(r"[0-9a-f]{16}", fullmatch=True).filter(lambda t: t != "0" * 16)


@given(HEX32, HEX16, st.booleans())
def test_a_context_is_read_back(trace_id: str, span_id: str, sampled: bool) -> None:
    """What is written is read, for all ids but zero."""
    assert parse_traceparent(traceparent(trace_id, span_id, sampled)) == TraceContext(trace_id, span_id, sampled)


@given(st.one_of(st.text(max_size=70), st.text("0123456789abcdef-", min_size=50, max_size=60)))
def test_any_text_is_a_context_or_none(text: str) -> None:
    """No text raises, and the ids of what is read are never zero."""
    context = parse_traceparent(text)
    assert context is None or (int(context.trace_id, 16) > 0 and int(context.span_id, 16) > 0)


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),  # unknown flags are ignored
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"cc-{TRACE}-{SPAN}-01", True),  # a later version, read as far as this one goes
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
        (f"01-{TRACE}-{SPAN}-01-", True),
    ],
)
def test_valid_contexts(text: str, sampled: bool) -> None:
    """The version in force, and later ones."""
    assert parse_traceparent(text) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",  # a version that never will be
        f"00-{TRACE}-{SPAN}-01-",  # version 00 has exactly four fields
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}a-{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0x",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}.-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{'٣' * 32}-{SPAN}-01",
    ],
)
def test_invalid_contexts_start_a_new_trace(text: str) -> None:
    """What cannot be read is None, and never an error."""
    assert parse_traceparent(text) is None
