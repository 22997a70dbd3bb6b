"""Owns what may be said of a request beside its data, the headers that say it, and a request as it is sent.

``callers.client`` makes each request here. Whatever is given, the controller judges it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec

from callers.codecs import encode_any
from callers.failures import CrankError, failure
from subjects import headers as h
from subjects.claims import KEY_RULE, is_key
from subjects.errors import ErrorKind, describe
from subjects.tokens import TOKEN_RULE, CapabilityId, RequestId, is_capability, is_token

# A controller that dies sends no end: without a time-out of the caller's own, this much silence ends a wait.
IDLE_TIMEOUT_S = 60.0
# The controller answers a deadline itself; its answer may be this late before silence is called silence.
GRACE_S = 2.0
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
    idempotency_key: str
    """Names what is to be done once: with the same key and data, what was done is answered and not done again."""
    on_duplicate: Literal["attach", "reject"]
    """While the first with this key runs: ``attach`` waits for its answer, ``reject`` is refused with 409."""
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
    "idempotency_key": (h.IDEMPOTENCY_KEY, str),
    "on_duplicate": (h.ON_DUPLICATE, str),
}


class Asked(NamedTuple):
    """A request as it is sent. ``patience_s`` is how much silence ends the wait for its reply."""

    capability: CapabilityId
    request_id: RequestId
    body: bytes
    block: bytes
    patience_s: float
    key: str | None

    def about(self, error: CrankError) -> CrankError:
        """``error``, which says now what it is about."""
        error.capability, error.idempotency_key = self.capability, self.key
        return error


def asked(capability: str, data: object, options: Options) -> Asked:
    """The request that these say. Without a request id it gets one.

    Raises:
        TypeError: there is no such option.
        CrankError: 400, it cannot be sent.

    """
    if not isinstance(capability, str) or not is_capability(capability):
        raise failure(ErrorKind.MALFORMED, f"{capability!r} is not verb:name, each {TOKEN_RULE}.")
    rid = RequestId(_said(options, "request_id") or secrets.token_hex(16))
    if not isinstance(rid, str) or not is_token(rid):  # it is put into the subject of a cancel
        raise failure(ErrorKind.MALFORMED, f"The request id {rid!r:.100} is not {TOKEN_RULE}.")
    timeout_ms = options.get("timeout_ms")
    idle_s = options.get("idle_timeout_s", IDLE_TIMEOUT_S)
    patience_s = idle_s if timeout_ms is None else timeout_ms / 1000 + GRACE_S
    body = body_of(data)
    block = block_of({**options, "request_id": rid})
    return Asked(CapabilityId(capability), rid, body, block, patience_s, key_of(options))


def block_of(options: Mapping[str, Any]) -> bytes:
    """The header block of a request with these ``Options``.

    Raises:
        TypeError: there is no such option.
        CrankError: 400, a header's name or value is no text, a constraint cannot become JSON, or the key is none.

    """
    key_of(options)
    pairs: dict[str, str] = {}
    for name, value in options.items():
        if name in _WRITTEN:
            header, write = _WRITTEN[name]
            if value is not None and (text := write(value)):
                pairs[header] = text
        elif name not in Options.__annotations__:
            raise TypeError(f"a request has no option {name!r}; it has {', '.join(Options.__annotations__)}")
    return h.build_block(_merged(pairs, options.get("headers") or {}))


def key_of(options: Mapping[str, Any]) -> str | None:
    """The idempotency key that these options give, also as a header.

    Raises:
        CrankError: 400, it cannot be one. Sent without it, the request would run unprotected.

    """
    key = _said(options, "idempotency_key")
    if key is None or (isinstance(key, str) and is_key(key)):
        return key
    raise failure(ErrorKind.MALFORMED, f"The idempotency key {describe(key)} is not {KEY_RULE}.")


def _said(options: Mapping[str, Any], option: str) -> str | None:
    name = _WRITTEN[option][0].lower()
    given = options.get("headers") or {}
    named = (value for key, value in given.items() if isinstance(key, str) and key.lower() == name)
    return next(named, options.get(option))


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
