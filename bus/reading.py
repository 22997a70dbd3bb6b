"""Owns taking messages out of what the server sends: nats-py's parser, with a short way for the common case.

nats-py copies each message twice, looks at its line with two expressions, and awaits whoever handles it. Here a message
that lies whole in one read goes to its handler at once. Everything else (control lines, messages that come in pieces,
subscriptions of nats-py's own) is left to nats-py as it came. ``bus.client`` puts this in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from nats.protocol.parser import AWAITING_CONTROL_LINE, CRLF_SIZE, Parser

log = logging.getLogger("crank.bus")

Handler = Callable[[str, str, bytes | None, bytes], None]
"""``handler(subject, reply, raw header block or None, body)``; it must not block."""


class Reading(Parser):
    """nats-py's parser, but for the messages of ``direct``: subscriptions by id, each with its handler."""

    def __init__(self, client: Any, direct: Mapping[str, Handler]) -> None:
        super().__init__(client)
        self._direct = direct

    async def parse(self, data: bytes = b"") -> None:
        """Take in what was read."""
        if self.state != AWAITING_CONTROL_LINE:
            missing = self.needed + CRLF_SIZE - len(self.buf)
            await super().parse(data[:missing])
            data = data[missing:]
        elif self.buf:  # the first part of a line
            data = bytes(self.buf) + data
            self.buf.clear()
        at = self._hand_over_whole(data)
        if at < len(data):
            await super().parse(data[at:])

    def _hand_over_whole(self, data: bytes) -> int:
        """Hand over the messages that ``data`` starts with; returns where something else begins."""
        at = 0
        while at < len(data):
            start = data.find(b"\r\n", at) + CRLF_SIZE
            if start < CRLF_SIZE:
                return at
            try:
                # MSG subject id [reply] size, or HMSG subject id [reply] size-of-headers size
                words = data[at : start - CRLF_SIZE].decode().split(" ")
                has_headers = words[0] == "HMSG"
                handler = self._direct[words[2]]
                end = start + int(words[-1])
                body = start + int(words[-2]) if has_headers else start
            except (ValueError, LookupError):  # another kind of line, another subscription, a subject that is no text
                return at
            # A size below zero would be read for ever.
            if not start <= body <= end <= len(data) - CRLF_SIZE or not (has_headers or words[0] == "MSG"):
                return at
            reply = words[3] if len(words) - has_headers > 4 else ""
            hand_over(handler, words[1], reply, data[start:body] if has_headers else None, data[body:end])
            at = end + CRLF_SIZE
        return at


def hand_over(handler: Handler, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
    """Call ``handler``; an error of its own would end nats-py's read loop, and every other request with it."""
    try:
        handler(subject, reply, headers, body)
    except Exception:
        log.exception("a message handler failed; the message on %r was dropped", subject[:128])
