"""Owns the file in which a worker writes down every execution before it does anything, and reading all of them back.

One write a line, appended: what was written stays, however the worker ends. Times are ``time.monotonic``'s, which all
processes of a machine share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

_NAME = "executions-{pid}.jsonl"


class Execution(msgspec.Struct, frozen=True, omit_defaults=True):
    """One execution. ``id`` is random; ``operation`` is what the caller's payload says that it is."""

    id: str
    operation: str
    capability: str
    request_id: str
    dispatch_id: str
    key: str | None
    pid: int
    began: float


class Ended(msgspec.Struct, frozen=True):
    """The execution ``ended`` came to its end."""

    ended: str
    at: float


class Ledger:
    """A worker's own file in ``folder``."""

    def __init__(self, folder: Path) -> None:
        path = folder / _NAME.format(pid=os.getpid())
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def begin(self, operation: str, capability: str, request_id: str, dispatch_id: str, key: str | None) -> str:
        """Write an execution down; returns its id."""
        ident = os.urandom(8).hex()
        self._write(
            Execution(ident, operation, capability, request_id, dispatch_id, key, os.getpid(), time.monotonic())
        )
        return ident

    def end(self, ident: str) -> None:
        """Write down that it is over."""
        self._write(Ended(ident, time.monotonic()))

    def _write(self, line: Execution | Ended) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")


def read_executions(folder: Path) -> tuple[list[Execution], set[str]]:
    """``(executions in the order in which they began, ids of those that came to their end)`` of all workers."""
    begun: list[Execution] = []
    ended: set[str] = set()
    for line in _lines(folder.glob(_NAME.format(pid="*"))):
        if line.startswith(b'{"ended"'):
            ended.add(msgspec.json.decode(line, type=Ended).ended)
        else:
            begun.append(msgspec.json.decode(line, type=Execution))
    return sorted(begun, key=lambda execution: execution.began), ended


def _lines(paths: Iterable[Path]) -> Iterable[bytes]:
    for path in paths:
        yield from path.read_bytes().splitlines()
