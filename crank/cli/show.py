"""Owns how an answer looks: raw bytes for a pipe, readable for a terminal, one object for ``--json``.

It knows the contract's reply headers, and nothing of how the answer came.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from crank.cli.endings import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from callers import Frame

# More than this on a terminal is no longer read; a pipe always gets all of it.
_MOST_PRETTY_BYTES = 256 * 1024
# A table in a file or pipe is for grep and awk: no cell is broken.
_PIPE_WIDTH = 500
# Below the first number of seconds: in this many seconds, with this many digits, called so.
_UNITS = ((7200, 60, 0, "min"), (48 * 3600, 3600, 1, "h"), (float("inf"), 86_400, 0, "d"))


def console() -> Console:
    """Rich on stdout: the terminal's width there, unbroken lines elsewhere."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], right: Sequence[int] = ()) -> None:
    """Print rows under columns; those numbered in ``right`` are numbers. A ``Text`` is ours, and has its colour."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    tty = sys.stdout.isatty()
    made = Table(box=SIMPLE_HEAD if tty else None, pad_edge=False, header_style="bold" if tty else "")
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    console().print(made)


def friendly_meta(meta: Mapping[str, str]) -> dict[str, Any]:
    """The reply's headers as an object: ``worker``, ``version``, ``attempts`` (a number), ``controller`` and more."""
    made: dict[str, Any] = {}
    for name, value in meta.items():
        key = name.removeprefix("crank-").replace("-", "_")
        if key == "attempts" and value.isdigit():
            made[key] = int(value)
        elif key == "cost_tokens":
            made[key] = _number(value)
        elif key == "replayed":
            made[key] = value.lower() == "true"
        elif not name.startswith("nats-") and key not in ("frame", "seq"):
            made[key] = value
    return made


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def as_object(frame: Frame, elapsed_ms: float) -> dict[str, Any]:
    """The answer as the one object of ``--json``: ``body`` decoded when it is JSON, text, or ``body_base64``."""
    made: dict[str, Any] = {"ok": True, "meta": friendly_meta(frame.meta), "elapsed_ms": round(elapsed_ms, 2)}
    try:
        made["body"] = msgspec.json.decode(frame.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            made["body"] = frame.body.decode()
        except UnicodeDecodeError:
            made["body_base64"] = base64.b64encode(frame.body).decode()
    return made


def body(frame: Frame) -> None:
    """Print an answer's body: exactly its bytes into a pipe; readable, and ending its line, on a terminal."""
    if not frame.body:
        return
    if sys.stdout.isatty():
        click.echo(_readable(frame.body, frame.content_type))
    else:
        sys.stdout.buffer.write(frame.body)
        sys.stdout.buffer.flush()


def _readable(raw: bytes, content_type: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        what = printable(content_type) or "something that is not text"
        return f"({len(raw)} bytes of {what}; send them to a file: > FILE)"
    if len(raw) <= _MOST_PRETTY_BYTES:
        try:
            msgspec.json.decode(raw)
            return msgspec.json.format(text, indent=2)
        except (msgspec.DecodeError, RecursionError):
            pass
    return "\n".join(printable(line) for line in text.removesuffix("\n").split("\n"))


def who(frame: Frame, elapsed_ms: float | None = None) -> None:
    """One dim line on a terminal's stderr: who did it, and how long it took where somebody waited for it."""
    if sys.stderr.isatty():
        click.secho(who_line(frame.meta, elapsed_ms), err=True, dim=True)


def who_line(headers: Mapping[str, str], elapsed_ms: float | None) -> str:
    """Worker, version, attempts, controller and, where known, time of an answer with these reply headers."""
    meta = friendly_meta(headers)
    attempts = meta.get("attempts", 0)
    if "worker" in meta and not attempts:  # with `crank resolve`
        who = [f"settled by {meta['worker']}"]
    else:
        who = [
            str(meta.get("worker", "no worker")),
            f"version {meta['version']}" if "version" in meta else "",
            f"{attempts} attempt{'' if attempts == 1 else 's'}",
        ]
    parts = [
        *who,
        f"by {meta.get('controller', '?')}",
        f"{elapsed_ms:.1f} ms" if elapsed_ms is not None else "",
        f"{meta['cost_tokens']:g} tokens" if isinstance(meta.get("cost_tokens"), float) and meta["cost_tokens"] else "",
        "replayed" if meta.get("replayed") else "",
    ]
    return printable(" · ".join(part for part in parts if part))


def age(seconds: object) -> str:
    """A duration for a table: ``0.4 s``, ``12 s``, ``3 min``, ``2.5 h``, ``4 d``; "" for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        return ""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return next(f"{seconds / unit:.{digits}f} {name}" for limit, unit, digits, name in _UNITS if seconds < limit)


class Pieces:
    """Prints a streamed answer as it comes."""

    def __init__(self) -> None:
        self._open_line = False

    def add(self, frame: Frame) -> None:
        """Print a piece as it is, at once; JSON pieces one a line. Progress is for a person, not for a pipe."""
        if frame.kind == "progress":
            self._progress(frame)
            return
        if not frame.body:
            return
        out = sys.stdout.buffer
        shown = _safe(frame.body) if sys.stdout.isatty() else frame.body
        if frame.content_type.startswith("application/json") and not shown.endswith(b"\n"):
            shown += b"\n"
        out.write(shown)
        out.flush()
        self._open_line = not shown.endswith(b"\n")

    def _progress(self, frame: Frame) -> None:
        if sys.stderr.isatty():
            self.end()
            click.secho(printable(frame.body.decode(errors="replace")), err=True, dim=True)

    def end(self) -> None:
        """On a terminal, end the line that the last piece left open."""
        if self._open_line and sys.stdout.isatty():
            click.echo()
            self._open_line = False


def _safe(raw: bytes) -> bytes:
    lines = raw.decode(errors="replace").splitlines(keepends=True)
    bare = [line.rstrip("\r\n") for line in lines]
    return "".join(printable(text) + line[len(text) :] for text, line in zip(bare, lines, strict=True)).encode()


def json_line(value: object) -> None:
    """Print one JSON object on one line, at once."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()
