"""Reading what a server sends: however it is cut into pieces, every message arrives once, whole and in order."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError

from bus.reading import Reading

_BLOCK = b"NATS/1.0\r\na: b\r\n\r\n"
_LONG = b"x" * 100_000
# What the server sends, and what comes of it: messages handed over past nats-py, and what nats-py is given.
_SENT: list[tuple[bytes, tuple[Any, ...]]] = [
    (b"MSG a.b 1 5\r\nhello\r\n", ("direct", "a.b", "", None, b"hello")),
    (b"MSG a.b 1 to.me 5\r\nhello\r\n", ("direct", "a.b", "to.me", None, b"hello")),
    (b"MSG a.b 1 0\r\n\r\n", ("direct", "a.b", "", None, b"")),
    (b"PING\r\n", ("ping",)),
    (b"HMSG a.b 1 to.me 18 23\r\n" + _BLOCK + b"hello\r\n", ("direct", "a.b", "to.me", _BLOCK, b"hello")),
    (b"HMSG a.b 1 18 18\r\n" + _BLOCK + b"\r\n", ("direct", "a.b", "", _BLOCK, b"")),
    (b"MSG a.b 2 to.me 5\r\nhello\r\n", ("nats-py", 2, b"a.b", b"to.me", None, b"hello")),
    (b"HMSG a.b 2 18 23\r\n" + _BLOCK + b"hello\r\n", ("nats-py", 2, b"a.b", b"", _BLOCK, b"hello")),
    # A body that looks like a message, subjects with what other eyes take for a space, and one that is no text.
    (b"MSG a.b 1 18\r\n\r\nMSG a.b 1 1\r\nx\r\n\r\n", ("direct", "a.b", "", None, b"\r\nMSG a.b 1 1\r\nx\r\n")),
    ("MSG a\u2003b\u00a0c 1 to\u20282 2\r\nhi\r\n".encode(), ("direct", "a\u2003b\u00a0c", "to\u20282", None, b"hi")),
    (b"MSG \xff.b 1 2\r\nhi\r\n", ("direct", "\ufffd.b", "", None, b"hi")),
    # What nats-py takes for the end of a subject, and for another id.
    (b"MSG a\x0c2 1 to\x0bme 2\r\nhi\r\n", ("direct", "a\x0c2", "to\x0bme", None, b"hi")),
    (b"HMSG \x0c\xff 1 18 20\r\n" + _BLOCK + b"hi\r\n", ("direct", "\x0c\ufffd", "", _BLOCK, b"hi")),
    (b"MSG a 1 to.\xff 2\r\nhi\r\n", ()),  # nobody can answer it
    (b"MSG a.b 1 100000\r\n" + _LONG + b"\r\n", ("direct", "a.b", "", None, _LONG)),
    (b"MSG a.b 12 2\r\nhi\r\n", ("nats-py", 12, b"a.b", b"", None, b"hi")),
    (b"MSG a.b 1 2\r\nhi\r\n", ("direct", "a.b", "", None, b"hi")),
]
_STREAM = b"".join(sent for sent, _ in _SENT)
_EVENTS = [event for _, event in _SENT if event]


class _Seen:
    """Stands where nats-py's client stands, and notes what it is given."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.reading = Reading(self, {b"1": self._direct})

    def _direct(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        self.events.append(("direct", subject, reply, headers, body))

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.events.append(("nats-py", sid, subject, reply, headers, data))

    async def _process_ping(self) -> None:
        self.events.append(("ping",))


@given(st.lists(st.integers(0, len(_STREAM)), max_size=12))
async def test_every_message_arrives_once_and_in_order_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    """One read may hold many messages, or end in the middle of a line, of a header block or of a body."""
    seen = _Seen()
    at = 0
    for cut in [*sorted(cuts), len(_STREAM)]:
        await seen.reading.parse(_STREAM[at:cut])
        at = cut
    assert seen.events == _EVENTS


async def test_a_stream_that_comes_byte_by_byte_is_read_like_any_other() -> None:
    """Every place where a read can end is passed."""
    seen = _Seen()
    for at in range(len(_STREAM)):
        await seen.reading.parse(_STREAM[at : at + 1])
    assert seen.events == _EVENTS


async def test_a_handler_that_fails_costs_its_own_message_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The next message in the same read is handed over."""
    got: list[bytes] = []

    def handler(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        got.append(body)
        if body == b"a":
            raise ValueError("bad")

    with caplog.at_level(logging.ERROR, "crank.bus"):
        await Reading(None, {b"1": handler}).parse(b"MSG s 1 1\r\na\r\nMSG s 1 1\r\nb\r\n")
    assert got == [b"a", b"b"]
    assert "'s'" in caplog.text


@pytest.mark.parametrize("line", [b"MSG a.b 1 -15", b"HMSG a.b 1 -5 3", b"HMSG a.b 1 3 -9"])
async def test_an_impossible_size_is_left_to_nats_py(line: bytes) -> None:
    """Nothing is handed over, and reading comes to an end."""
    seen = _Seen()
    with contextlib.suppress(ProtocolError):
        await seen.reading.parse(line + b"\r\nhello\r\n")
    assert seen.events == []
