"""Owns taking messages out of what the server sends: nats-py's parser, with a way of its own for most messages.

nats-py copies each message twice, looks at its line with two expressions that take a form feed for the end of a
subject, and awaits whoever handles it. Here a message goes to its handler as soon as it is whole. Everything else
(control lines, subscriptions of nats-py's own) is left to nats-py, piece by piece. ``bus.client`` puts this in place.
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

    def __init__(self, client: Any, direct: Mapping[bytes, Handler]) -> None:
        super().__init__(client)
        self._direct = direct
        self._wanted = 0
        """Bytes that ``buf`` must hold before there is anything to look at; nats-py's ``reset`` empties ``buf``."""

    async def parse(self, data: bytes = b"") -> None:
        """Take in what was read."""
        at = 0
        if self.state != AWAITING_CONTROL_LINE:  # a message of nats-py's own came in pieces
            at = self.needed + CRLF_SIZE - len(self.buf)
            await super().parse(data[:at])
        elif self.buf:  # the first part of a line, or of a message
            self.buf += data
            if len(self.buf) < self._wanted:
                return
            data = bytes(self.buf)
            self.buf.clear()
        while (at := self._hand_over_whole(data, at)) < len(data):
            line = data.find(b"\r\n", at) + CRLF_SIZE
            if self._wanted or line < CRLF_SIZE:
                self.buf += data[at:]
                return
            await super().parse(data[at:line])
            at = line
            if self.state != AWAITING_CONTROL_LINE:
                at += self.needed + CRLF_SIZE
                await super().parse(data[line:at])

    def _hand_over_whole(self, data: bytes, at: int) -> int:
        """Hand over the messages that ``data`` has at ``at``; returns where something else, or half a one, begins."""
        self._wanted = 0
        find, direct, whole = data.find, self._direct, len(data)
        while at < whole:
            line = find(b"\r\n", at)
            if line < 0:
                return at
            # MSG subject id [reply] size, or HMSG subject id [reply] size-of-headers size
            words = data[at:line].split(b" ")
            start = body = line + CRLF_SIZE
            try:
                has_headers = words[0] == b"HMSG"
                handler = direct[words[2]]
                end = start + int(words[-1])
                if has_headers:
                    body += int(words[-2])
            except (ValueError, LookupError):  # another kind of line, another subscription
                return at
            # A size below zero would be read for ever.
            if not start <= body <= end or not (has_headers or words[0] == b"MSG"):
                return at
            if end + CRLF_SIZE > whole:
                self._wanted = end + CRLF_SIZE - at
                return at
            at = end + CRLF_SIZE
            try:
                reply = words[3].decode() if len(words) - has_headers > 4 else ""
            except UnicodeDecodeError:
                continue  # NATS carries any bytes, and nobody here can answer to these
            subject = words[1].decode(errors="replace")  # which the handler can refuse
            try:
                handler(subject, reply, data[start:body] if has_headers else None, data[body:end])
            except Exception:  # it would end nats-py's read loop, and every other request with it
                log.exception("a message handler failed; the message on %r was dropped", subject[:128])
        return at
