"""Owns the header block's bytes (NATS ADR-4): read once, checked whole, written once; and the names that others share.

What a header means is told in ``requests``, ``dispatches``, ``answers`` and ``replies``. Dispatches and replies are
written for every request, each by one f-string in which the names stand as text: put in as constants they cost 5 %.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from unicodedata import category

import msgspec

from subjects.errors import Refusal, malformed

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
CONTENT_TYPE = "Content-Type"
IDEMPOTENCY_KEY = "Idempotency-Key"
RETRY_AFTER = "Retry-After"
ERROR_CODE = "Nats-Service-Error-Code"
ERROR_TEXT = "Nats-Service-Error"

ON_DUPLICATE = "Crank-On-Duplicate"
TIMEOUT_MS = "Crank-Timeout-Ms"
LATENCY_MS = "Crank-Latency-Ms"
PRIORITY = "Crank-Priority"
VERSION = "Crank-Version"
BUDGET_TOKENS = "Crank-Budget-Tokens"
CONSTRAINTS = "Crank-Constraints"
REQUEST_ID = "Crank-Request-Id"
DRY_RUN = "Crank-Dry-Run"
RETRYABLE = "Crank-Retryable"
NOT_RUN = "Crank-Not-Run"
FRAME = "Crank-Frame"
SEQ = "Crank-Seq"

DEFAULT_CONTENT_TYPE = "application/json"

# The caller's own headers, several pages of them; they are copied on every hop.
MAX_BLOCK_BYTES = 16 * 1024
# What the router adds may not push a block that it accepted over the next reader's limit: the longest tracestate, media
# type, identity and error text come to 7 KiB.
_MAX_RAW_BYTES = MAX_BLOCK_BYTES + 8 * 1024
MAX_CONTENT_TYPE_CHARS = 255

_START = "NATS/1.0"
# One pass over the block: a status line, then `name: value` lines without control characters, then an empty line.
# A stray CR or LF inside a value would become a header of its own at the worker. Names are ADR-4's: printable ASCII.
_NAME = r"[!-9;-~]{1,128}"
_block = re.compile(
    r"NATS/1\.0(?: ([1-9][0-9]{2})?[^\r\n]*)?\r\n"
    rf"((?:{_NAME}:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*)\r\n"
).fullmatch
_name = re.compile(_NAME).fullmatch

_OURS = frozenset({TRACEPARENT, TRACESTATE, IDEMPOTENCY_KEY.lower(), CONTENT_TYPE.lower()})
_OUR_PREFIXES = ("crank-", "nats-")
# Controls, lone surrogates (a file name in an error message may hold them), line and paragraph separators.
_UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp"})


class Block(msgspec.Struct, frozen=True, gc=False):
    """A parsed header block.

    ``ours`` maps lower-case names that the contract knows to their values; ``passed`` is every other line, bytes
    untouched, each ending in CR LF; ``status`` is the inline status (``503`` is *no responders*), else 0.
    """

    ours: dict[str, str]
    passed: str
    status: int


EMPTY = Block({}, "", 0)


def parse_block(raw: bytes | None) -> Block | Refusal:
    """The block, or a 400 that names what is wrong.

    A repeated header of the contract is refused: nobody can say which of the two holds.
    """
    if not raw:
        return EMPTY
    if len(raw) > _MAX_RAW_BYTES:
        return _too_long(len(raw))
    try:
        match = _block(raw.decode())
    except UnicodeDecodeError:
        return malformed("The headers are not UTF-8; send header values as UTF-8 text.")
    if match is None:
        return malformed(
            "The headers are not `Name: value` lines without control characters; check how they are built."
        )
    ours: dict[str, str] = {}
    passed = ""
    status, lines = match.groups()
    for line in lines.split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        low = name.lower()
        if low in _OURS or low.startswith(_OUR_PREFIXES):
            if low in ours:
                return malformed(f"The header {name} is there twice; send it once.")
            ours[low] = value.strip()
        else:
            passed += line + "\r\n"
    if len(raw) > MAX_BLOCK_BYTES and (size := len(passed.encode())) > MAX_BLOCK_BYTES:
        return _too_long(size)
    return Block(ours, passed, int(status) if status else 0)


def _too_long(size: int) -> Refusal:
    return malformed(f"The headers are {size} bytes; keep them under {MAX_BLOCK_BYTES}.")


def build_block(pairs: Iterable[tuple[str, str]], passed: str = "") -> bytes:
    """The bytes of a block from names and values that hold no control characters, and lines kept from another."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"{_START}\r\n{lines}{passed}\r\n".encode()


def belongs_to_contract(name: str) -> bool:
    """Whether a header of this name has a meaning here, and is therefore nobody's to pass on."""
    low = name.lower()
    return low in _OURS or low.startswith(_OUR_PREFIXES)


def is_header_name(text: str) -> bool:
    """Whether ``text`` can be a header's name."""
    return _name(text) is not None


def is_header_value(text: str) -> bool:
    """Whether ``text`` can be a header's value as it stands."""
    return not any(category(c) in _UNFIT and c != "\t" for c in text)


def passed_headers(passed: str) -> dict[str, str]:
    """Lines that are passed on, by lower-case name; of a repeated name, all values, joined as RFC 9110 (5.3) does."""
    found: dict[str, str] = {}
    for line in passed.split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        low, text = name.lower(), value.strip()
        found[low] = f"{found[low]}, {text}" if low in found else text
    return found


def seconds_text(ms: int) -> str:
    """Milliseconds as the value of ``Retry-After``: seconds, exact, without an exponent."""
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".")


def one_line(text: str, limit: int = 512) -> str:
    """``text`` made fit for a header value: at most ``limit`` characters, spaces for what may not be there."""
    return "".join(" " if category(c) in _UNFIT else c for c in text[:limit]).strip()
