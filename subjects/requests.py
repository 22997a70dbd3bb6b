"""Owns the caller's request headers: what each may hold, and the 400 that names those that may not.

One table says it all; parsing walks the headers that are there, once. Nothing here decides anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from subjects import headers as h
from subjects.claims import KEY_RULE, is_key
from subjects.errors import Offence, Refusal, describe, malformed
from subjects.headers import MAX_CONTENT_TYPE_CHARS, Block
from subjects.tokens import TOKEN_RULE, is_token
from subjects.trace import MAX_TRACESTATE_CHARS, TraceContext, parse_traceparent
from subjects.versions import is_range

MAX_TIMEOUT_MS = 86_400_000
MAX_CONSTRAINTS_CHARS = 4096
PRIORITIES = ("low", "normal", "high")
ConstraintValue = str | bool | int | float


class RequestHeaders(msgspec.Struct, frozen=True, gc=False):
    """The request's headers, parsed. None means: not sent. Durations are milliseconds."""

    timeout_ms: int | None = None
    latency_ms: int | None = None
    priority: str = "normal"
    version: str | None = None
    budget_tokens: float | None = None
    constraints: str | None = None
    """Canonical JSON (sorted keys), so that equal constraints are equal text; see ``constraint_items``."""
    request_id: str | None = None
    idempotency_key: str | None = None
    on_duplicate: str = "attach"
    dry_run: bool = False
    content_type: str = h.DEFAULT_CONTENT_TYPE
    trace: TraceContext | None = None
    tracestate: str | None = None


NO_HEADERS = RequestHeaders()


def constraint_items(constraints: str) -> dict[str, ConstraintValue]:
    """The mapping that canonical constraints text stands for."""
    items: dict[str, ConstraintValue] = msgspec.json.decode(constraints)
    return items


class _Bad(ValueError):
    """What a header must look like; becomes an offence."""


def _whole_ms(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 8 and 1 <= int(text) <= MAX_TIMEOUT_MS):
        raise _Bad(f"must be a whole number of milliseconds from 1 to {MAX_TIMEOUT_MS}")
    return int(text)


def _tokens(text: str) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise _Bad("must be a number of tokens, 0 or more")
    return value


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        low = text.lower()
        if low not in allowed:
            raise _Bad(f"must be one of: {', '.join(allowed)}")
        return low

    return parse


def _range(text: str) -> str:
    if not is_range(text):
        raise _Bad("must be a range of semantic versions, such as ^1.2 or >=2,<3")
    return text


def _request_id(text: str) -> str:
    if not is_token(text):
        raise _Bad(f"must be {TOKEN_RULE}")
    return text


def _key(text: str) -> str:
    if not is_key(text):
        raise _Bad(f"must be {KEY_RULE}")
    return text


def _content_type(text: str) -> str:
    if not text or len(text) > MAX_CONTENT_TYPE_CHARS:
        raise _Bad(f"must be a media type of at most {MAX_CONTENT_TYPE_CHARS} characters")
    return text


def _constraints(text: str) -> str:
    if len(text) > MAX_CONSTRAINTS_CHARS:
        raise _Bad(f"must be at most {MAX_CONSTRAINTS_CHARS} characters")
    try:
        items = msgspec.json.decode(text.encode(), type=dict[str, ConstraintValue])
    except (msgspec.DecodeError, RecursionError):
        raise _Bad('must be a JSON object of numbers, strings and booleans, such as {"gpu_count": 1}') from None
    return msgspec.json.encode({k: _plain(v) for k, v in items.items()}, order="deterministic").decode()


def _plain(value: ConstraintValue) -> ConstraintValue:
    # 1, 1.0 and 1e0 mean the same; past 2**53 a float no longer tells whole numbers apart.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


# lower-case header → (field, parser, may be forgiven: the trace recommendation says to restart a broken trace)
_TABLE: dict[str, tuple[str, Callable[[str], Any]]] = {
    h.TIMEOUT_MS.lower(): ("timeout_ms", _whole_ms),
    h.LATENCY_MS.lower(): ("latency_ms", _whole_ms),
    h.PRIORITY.lower(): ("priority", _one_of(*PRIORITIES)),
    h.VERSION.lower(): ("version", _range),
    h.BUDGET_TOKENS.lower(): ("budget_tokens", _tokens),
    h.CONSTRAINTS.lower(): ("constraints", _constraints),
    h.REQUEST_ID.lower(): ("request_id", _request_id),
    h.IDEMPOTENCY_KEY.lower(): ("idempotency_key", _key),
    h.ON_DUPLICATE.lower(): ("on_duplicate", _one_of("attach", "reject")),
    h.DRY_RUN.lower(): ("dry_run", lambda text: _one_of("true", "false")(text) == "true"),
    h.CONTENT_TYPE.lower(): ("content_type", _content_type),
    h.TRACEPARENT: ("trace", parse_traceparent),
    h.TRACESTATE: ("tracestate", lambda text: text if 0 < len(text) <= MAX_TRACESTATE_CHARS else None),
}


def parse_request_headers(block: Block) -> RequestHeaders | Refusal:
    """The caller's headers, or one 400 with an offence for each header that cannot be read."""
    if not block.ours:
        return NO_HEADERS
    fields: dict[str, Any] = {}
    offences: list[Offence] = []
    for name, text in block.ours.items():
        row = _TABLE.get(name)
        if row is None:
            continue
        try:
            fields[row[0]] = row[1](text)
        except _Bad as bad:
            offences.append(Offence(_spelled(name), f"{bad}, not {describe(text)}"))
    if offences:
        first = offences[0]
        return malformed(f"Header {first.path} {first.message}.", *offences)
    return RequestHeaders(**fields)


def _spelled(low: str) -> str:
    return "-".join(part.capitalize() for part in low.split("-"))
