"""Owns submitting a file of jobs: which line is which job under which key, many at once, and what came of each.

``crank.cli.submit`` calls it. A line's key is the batch's name and the line's number, so that the same file, submitted
again after whatever stopped it, submits nothing twice, and a line that has changed meanwhile is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from callers.failures import CrankError, Unreachable, failure
from crank.cli.endings import json_problem
from crank.cli.lines import Line, lines
from crank.cli.progress import Far, Say, telling
from subjects.errors import ErrorKind

if TYPE_CHECKING:
    from callers import Client, Job
    from callers.asking import Options

# More than this many at once makes no controller faster.
_AT_ONCE = 64
# Beyond these, failures are only counted: a file of a million wrong lines is told once.
_MOST_TOLD = 20
# The next line would hear the same.
_FOR_ALL = ("unauthenticated", "policy_denied", "no_such_capability")


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A line where no capability is given for all."""

    capability: str
    data: msgspec.Raw = msgspec.Raw()
    key: str | None = None


def name_of(file: str) -> str:
    """The name of a file's batch: the same file is the same batch."""
    return hashlib.sha256(os.fsencode(Path(file).resolve())).hexdigest()[:24]


class Batch:
    """One run over a file. ``capability`` None: each line says its own. What was heard is counted."""

    def __init__(self, client: Client, name: str, capability: str | None, said: Options, *, as_json: bool) -> None:
        self.accepted = self.before = self.failed = 0
        self._client = client
        self._name = name
        self._capability = capability
        self._said = said
        self._as_json = as_json
        self._done = 0
        self._met = False
        self._say: Say = click.echo

    @property
    def begun(self) -> bool:
        """Whether anything came of it."""
        return self.accepted + self.before + self.failed > 0

    @property
    def counted(self) -> str:
        """What came of it so far."""
        return f"accepted {self.accepted:,}, there before {self.before:,}, failed {self.failed:,}"

    async def run(self, source: int, *, bar: bool) -> None:
        """Submit all lines of a file descriptor.

        Raises:
            CrankError: it makes no sense to go on.
            OSError: it cannot be read.

        """
        found = os.fstat(source)
        total = found.st_size if stat.S_ISREG(found.st_mode) else None
        reading = lines(source, self._client.max_request_bytes)
        turn = asyncio.Lock()
        async with telling(lambda: Far(self._done, total, self.counted), bar=bar) as self._say:
            try:
                async with contextlib.aclosing(reading), asyncio.TaskGroup() as group:
                    for _ in range(_AT_ONCE):
                        group.create_task(self._take(reading, turn))
            except ExceptionGroup as failed:  # the first that failed ended the others
                raise failed.exceptions[0] from None

    async def _take(self, reading: AsyncGenerator[Line, None], turn: asyncio.Lock) -> None:
        while True:
            async with turn:
                line = await anext(reading, None)
            if line is None:
                return
            if line.body is None or line.body.strip():
                await self._one(line)
            self._done = max(self._done, line.ends)

    async def _one(self, line: Line) -> None:
        try:
            capability, body, key = self._read(line)
            job = await self._submit(capability, body, key)
        except CrankError as error:
            if error.passing or (self._capability is not None and error.kind in _FOR_ALL):
                raise
            self._tell_failure(line, error)
            return
        self.before += job.duplicate
        self.accepted += not job.duplicate
        if self._as_json:
            _print({"line": line.number, "ok": True, "job_id": job.job_id, "duplicate": job.duplicate})

    def _read(self, line: Line) -> tuple[str, bytes, str]:
        if line.body is None:
            most = self._client.max_request_bytes
            raise failure(ErrorKind.TOO_LARGE, f"The line is longer than the {most} bytes that the NATS server takes.")
        body = line.body.rstrip(b"\r")
        key = f"{self._name}.{line.number}"
        try:
            if self._capability is None:
                entry = msgspec.json.decode(body, type=_Entry)
                return entry.capability, bytes(entry.data), key if entry.key is None else entry.key
            if "content_type" not in self._said:
                msgspec.json.decode(body, type=msgspec.Raw)
            return self._capability, body, key
        except msgspec.ValidationError as error:
            wanted = '{"capability": "VERB:NAME", "data": …, "key": …}, of which only the capability must be there'
            raise failure(ErrorKind.MALFORMED, f"The line is not {wanted}: {error}.") from None
        except (ValueError, RecursionError) as error:
            raise failure(ErrorKind.MALFORMED, f"The line is not JSON: {error}.") from None

    async def _submit(self, capability: str, body: bytes, key: str) -> Job:
        options: Options = {**self._said, "idempotency_key": key}
        job = await submit(self._client, capability, body, options, met=self._met)
        self._met = True
        return job

    def _tell_failure(self, line: Line, error: CrankError) -> None:
        self.failed += 1
        if self._as_json:
            _print({"line": line.number, **msgspec.json.decode(json_problem(error))})
        elif self.failed <= _MOST_TOLD:
            self._say(f"line {line.number}: {error.code} {error.kind}: {error.detail}")
            if error.kind == "key_reused":
                self._say("  It was submitted before with other content; a new batch needs a name: --key NAME")
        if self.failed == _MOST_TOLD and not self._as_json:
            self._say("Further failures are only counted; --json tells all of them.")


async def submit(client: Client, capability: str, body: bytes, options: Options, *, met: bool) -> Job:
    """Submit under the key in ``options``, patiently.

    Unless somebody was ``met``: whoever named the wrong server hears it at once, and not when patience ends.
    """
    if not met:
        try:
            return await client.submit(capability, body, **options)
        except Unreachable:
            raise
        except CrankError as error:
            if not error.passing:
                raise
    return await client.submit_once(capability, body, **options)


def _print(row: dict[str, Any]) -> None:
    from crank.cli import show

    show.json_line(row)
