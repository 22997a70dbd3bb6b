"""Owns the W3C trace context on the wire: reading ``traceparent`` and writing it. Source: W3C Trace Context 1.

Ids are drawn elsewhere and passed in.
"""

from __future__ import annotations

import re

import msgspec

_parse = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch
_ZERO_TRACE = "0" * 32
_ZERO_SPAN = "0" * 16
# Longer than this, tracestate is dropped: the recommendation's own limit for what must be propagated.
MAX_TRACESTATE_CHARS = 512


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """A caller's place in a trace: 32 and 16 lower-case hex digits, and whether it is sampled."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(text: str) -> TraceContext | None:
    """The context, or None when it is not valid: the recommendation says to start a new trace then."""
    match = _parse(text)
    if match is None:
        return None
    trace_id, span_id, flags, rest = match.groups()
    if trace_id == _ZERO_TRACE or span_id == _ZERO_SPAN or (text.startswith("00") and rest):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))


def traceparent(trace_id: str, span_id: str, sampled: bool) -> str:
    """``00-<trace>-<span>-<flags>``."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"
