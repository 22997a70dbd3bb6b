"""Owns how jobs are listed: those that wait or run, those that are dead, and requests that are unfinished.

On a terminal they stand below their capability: a job's id, which people copy, takes most of its 80 columns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from crank.cli import show
from crank.cli.endings import printable

Row = Mapping[str, Any]
# Of one answer, which has to fit into a message.
_PAGE = 500
# A worker's message can be long; --json has all of it.
_MOST_CHARS = 300
_ID_CHARS = 52
_NAMES = {"job_id": "job", "attempts": "tries", "age_s": "age"}


async def listed(what: str, capability: str | None, limit: int, nats_url: str, prefix: str) -> list[dict[str, Any]]:
    """The first ``limit`` items of an admin list."""
    from callers import Client

    question: dict[str, object] = {"op": "list"} if what == "dead" else {}
    if capability is not None:
        question["capability"] = capability
    async with await Client.connect(nats_url, prefix=prefix) as client:
        return await client.listed(what, limit=min(limit, _PAGE), most=limit, **question)


def show_jobs(found: Sequence[Row], limit: int, as_json: bool) -> None:
    """Jobs that wait or run."""
    if as_json:
        show.json_line({"jobs": found})
    elif not found:
        click.echo("No jobs: all that was submitted is done, dead or cancelled.", err=True)
    else:
        _show(found, ("status", "age_s", "attempts", "capability", "caller"), ("status", "age_s"), _tried)
        _more(found, limit)


def show_dead(found: Sequence[Row], limit: int, as_json: bool) -> None:
    """Jobs that are not tried again, each with why."""
    if as_json:
        show.json_line({"dead": found})
    elif not found:
        click.echo("No dead jobs.", err=True)
    else:
        _show(found, ("reason", "age_s", "attempts", "capability", "caller", "detail"), ("age_s",), _why)
        _more(found, limit)


def show_unfinished(found: Sequence[Row]) -> None:
    """Requests and jobs without a final state."""
    _show(found, ("state", "age_s", "job", "worker", "owner", "capability", "caller"), ("state", "age_s"), _holder)


def _show(found: Sequence[Row], columns: Sequence[str], beside: Sequence[str], below: Callable[[Row], str]) -> None:
    """A table of all ``columns`` in a file or pipe; on a terminal a list, with some beside the id and a line below."""
    if not sys.stdout.isatty():
        fields = ["job_id", *columns]
        right = [index for index, field in enumerate(fields) if field in ("attempts", "age_s")]
        show.table(
            [_NAMES.get(field, field) for field in fields], [[_cell(r, f) for f in fields] for r in found], right
        )
        return
    from rich.padding import Padding
    from rich.text import Text

    groups: dict[str, list[Row]] = {}
    for row in found:
        groups.setdefault(_cell(row, "capability"), []).append(row)
    console = show.console()
    for capability, rows in groups.items():
        console.print(Text(printable(capability), "bold"))
        for row in rows:
            line = "  ".join([f"{_cell(row, 'job_id'):<{_ID_CHARS}}", *(_cell(row, field) for field in beside)])
            console.print(Text(printable("  " + line)), soft_wrap=True)
            if text := below(row):
                console.print(Padding(Text(printable(text)), (0, 0, 0, 4)))


def _cell(row: Row, field: str) -> str:
    value = row.get(field)
    if field == "age_s":
        return show.age(value)
    text = "" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return text if len(text) <= _MOST_CHARS else text[:_MOST_CHARS] + "…"


def _tried(row: Row) -> str:
    attempts = row.get("attempts")
    return f"tried {_times(attempts)}" if attempts else ""


def _why(row: Row) -> str:
    return f"{_cell(row, 'reason')}, tried {_times(row.get('attempts'))}: {_cell(row, 'detail')}"


def _times(attempts: object) -> str:
    return "once" if attempts == 1 else f"{attempts} times" if isinstance(attempts, int) else "?"


def _holder(row: Row) -> str:
    at = f"at worker {_cell(row, 'worker')}, " if row.get("worker") else ""
    return f"{'job' if row.get('job') else 'request'} {at}held by {_cell(row, 'owner') or 'nobody'}"


def _more(found: Sequence[Row], limit: int) -> None:
    if len(found) == limit:
        click.echo(f"These are the first {limit}; --limit shows more.", err=True)
