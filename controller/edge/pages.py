"""Owns a page of an operator's list: rows until there are enough, or one more would not fit into a message.

A list goes on after its ``next``; one that reads a stream counts by the sequence of its messages.
"""

from __future__ import annotations

from typing import Any

from subjects.messages import encode

# Beside the rows: their list's name, ``next``, and the reply's own headers.
_ENVELOPE_BYTES = 1024


class Page:
    """The rows of one answer. A later row of the same id takes the place of an earlier one."""

    def __init__(self, limit: int, max_bytes: int) -> None:
        self._limit = limit
        self._room = max_bytes - _ENVELOPE_BYTES
        self._rows: dict[str, dict[str, Any]] = {}
        self._last_seq = 0
        self.full = False

    def add(self, ident: str, seq: int, row: dict[str, Any]) -> bool:
        """Take a row in; False when there is no room for it."""
        size = len(encode(row)) + 1
        no_more = ident not in self._rows and len(self._rows) == self._limit
        if no_more or (size > self._room and self._rows):
            self.full = True
            return False
        self._rows.pop(ident, None)
        self._room -= size
        self._rows[ident] = row
        self._last_seq = seq
        return True

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What is on it."""
        return list(self._rows.values())

    def answer(self, name: str, *, more: bool) -> dict[str, Any]:
        """The page as it is sent; with ``more`` it says where the next one begins."""
        page: dict[str, Any] = {name: self.rows}
        if more and self._rows:
            page["next"] = self._last_seq
        return page
