"""Owns what may be said of a request beside its data, and the headers that say it.

``callers.client`` builds each request's header block here. Whatever is given, the controller judges it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

import msgspec

from callers.codecs import encode_any
from callers.failures import failure
from subjects import headers as h
from subjects.errors import ErrorKind

# A header that is longer is cut, and the controller says what is wrong with the rest.
_MAX_VALUE_CHARS = 4096


class Options(TypedDict, total=False):
    """What may be said of a request; all but the last two are headers of the contract."""

    timeout_ms: int
    """How long the answer may take; without it the capability's own deadline holds."""
    version: str
    """A range of semantic versions, such as ``^1.2`` or ``>=2,<3``."""
    priority: Literal["low", "normal", "high"]
    budget_tokens: float
    """The most that this request may cost."""
    latency_ms: int
    """An objective tighter than the capability's."""
    constraints: Mapping[str, object]
    """What the worker must have: numbers mean at least, text and booleans mean equal."""
    dry_run: bool
    """Decide and answer with the decision record; run nothing."""
    content_type: str
    """The data's media type; without it the contract reads the data as JSON."""
    request_id: str
    """An id of one's own, to cancel by; without it the client makes one."""
    headers: Mapping[str, str]
    """Any others, passed on to the worker; a name of the contract's replaces what is said above."""
    idle_timeout_s: float
    """So much silence ends the wait where there is no ``timeout_ms``; 60 without it."""


_WRITTEN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "timeout_ms": (h.TIMEOUT_MS, str),
    "version": (h.VERSION, str),
    "priority": (h.PRIORITY, str),
    "budget_tokens": (h.BUDGET_TOKENS, str),
    "latency_ms": (h.LATENCY_MS, str),
    "constraints": (h.CONSTRAINTS, lambda value: encode_any(value)[0].decode()),
    "dry_run": (h.DRY_RUN, lambda value: "true" if value else ""),
    "content_type": (h.CONTENT_TYPE, str),
    "request_id": (h.REQUEST_ID, str),
}


def block_of(options: Mapping[str, Any]) -> bytes:
    """The header block of a request with these ``Options``.

    Raises:
        TypeError: there is no such option.
        CrankError: 400, a header's name or value is no text, or a constraint cannot become JSON.

    """
    pairs: dict[str, str] = {}
    for name, value in options.items():
        if name in _WRITTEN:
            header, write = _WRITTEN[name]
            if value is not None and (text := write(value)):
                pairs[header] = text
        elif name not in Options.__annotations__:
            raise TypeError(f"a request has no option {name!r}; it has {', '.join(Options.__annotations__)}")
    return h.build_block(_merged(pairs, options.get("headers") or {}))


def id_of(options: Options) -> str | None:
    """The request id that these options give, also as a header."""
    given = options.get("headers") or {}
    named = (value for name, value in given.items() if isinstance(name, str) and name.lower() == h.REQUEST_ID.lower())
    return next(named, options.get("request_id"))


def body_of(data: object) -> bytes:
    """``data`` as bytes: bytes as they are, text as UTF-8, everything else as JSON.

    Raises:
        CrankError: 400, it cannot become JSON.

    """
    try:
        return encode_any(data)[0]
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise failure(ErrorKind.MALFORMED, f"The data cannot be sent: {error}.") from error


def _merged(own: Mapping[str, str], given: Mapping[str, str]) -> list[tuple[str, str]]:
    """``own`` and ``given`` as header lines; of two names that differ only in case, ``given`` wins."""
    for name, value in given.items():
        if not isinstance(name, str) or not h.is_header_name(name):
            raise failure(ErrorKind.MALFORMED, f"{name!r:.100} is not the name of a header.")
        if not isinstance(value, str):
            raise failure(ErrorKind.MALFORMED, f"The header {name} must be text, not {value!r:.60}.")
    names = {name.lower() for name in given}
    pairs = [pair for pair in own.items() if pair[0].lower() not in names]
    return [(name, h.one_line(value, _MAX_VALUE_CHARS)) for name, value in [*pairs, *given.items()]]
