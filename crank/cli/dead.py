"""``crank dead``: the jobs that nobody tries again by itself, and what an operator does with them."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import click

from crank.cli.endings import FAILED, ask_first, end, json_problem, printable, run_client, say, told
from crank.cli.options import CapabilityName, Token, json_option, limit_option, nats_option, yes_option

if TYPE_CHECKING:
    from callers import Client

_TOLD = ("job_id", "capability", "caller", "reason", "detail", "attempts", "content_type")


@click.group()
def dead() -> None:
    """List, show, retry and drop the jobs that failed for good."""


@dead.command("list")
@click.option("--capability", type=CapabilityName(), metavar="VERB:NAME", help="Only its jobs.")
@limit_option
@json_option
@nats_option
def list_(capability: str | None, limit: int, as_json: bool, nats_url: str, prefix: str) -> None:
    """List the dead jobs, the oldest first, each with why."""
    from crank.cli import queues

    found = run_client(queues.listed("dead", capability, limit, nats_url, prefix), as_json=as_json)
    queues.show_dead(found, limit, as_json)


@dead.command("show")
@click.argument("job", metavar="JOB", type=Token())
@json_option
@nats_option
def show_(job: str, as_json: bool, nats_url: str, prefix: str) -> None:
    """Show why JOB is dead, and print its data: exactly as they were, into a pipe."""
    from callers import Answer
    from crank.cli import show
    from subjects.names import Subjects

    row, body = run_client(_shown(job, nats_url, prefix), as_json=as_json)
    if as_json:
        show.json_line(row)
    else:
        named = [(field.replace("_", " "), row[field]) for field in _TOLD if row.get(field) not in (None, "")]
        for name, value in [*named, ("age", show.age(row.get("age_s")))]:
            say(f"{name:<14}{value}")
    if row.get("left_out"):
        stream = Subjects(prefix).stream_dead
        end(
            f"crank: its data, {row.get('size')} bytes, are too large for the answer. Where you may read the stream:\n"
            f"  nats stream get {stream} {row.get('seq')}",
            FAILED,
        )
    if not as_json:
        show.body(Answer("end", 0, body, {"content-type": str(row.get("content_type") or "")}, ""))


async def _shown(job: str, nats_url: str, prefix: str) -> tuple[dict[str, Any], bytes]:
    """The dead job and its data."""
    from callers import Client
    from callers.failures import failure
    from subjects.errors import ErrorKind

    async with await Client.connect(nats_url, prefix=prefix) as client:
        row = await _row(client, "show", job)
    text, coded = row.get("body"), row.get("body_base64")
    try:
        return row, text.encode() if isinstance(text, str) else base64.b64decode(coded or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise failure(ErrorKind.WORKER_PROTOCOL, "The job's data cannot be read from the answer.") from None


async def _row(client: Client, op: str, job: str) -> dict[str, Any]:
    from callers.failures import failure
    from subjects.errors import ErrorKind

    rows = (await client.admin("dead", {"op": op, "job_id": job})).get("dead")
    if isinstance(rows, list) and len(rows) == 1 and isinstance(rows[0], dict):
        return rows[0]
    raise failure(ErrorKind.WORKER_PROTOCOL, f"The answer does not tell of job {job}.")


@dead.command()
@click.argument("jobs", metavar="JOB...", type=Token(), nargs=-1, required=True)
@json_option
@nats_option
def retry(jobs: tuple[str, ...], as_json: bool, nats_url: str, prefix: str) -> None:
    """Try each JOB again, from the beginning.

    One whose outcome is unknown may have been done: look for its effect first.
    """
    run_client(_each("retry", jobs, as_json, nats_url, prefix), as_json=as_json)


@dead.command()
@click.argument("jobs", metavar="JOB...", type=Token(), nargs=-1, required=True)
@yes_option
@json_option
@nats_option
def drop(jobs: tuple[str, ...], yes: bool, as_json: bool, nats_url: str, prefix: str) -> None:
    """Forget each JOB, with its data."""
    what = "this job" if len(jobs) == 1 else f"these {len(jobs)} jobs"
    ask_first("What is dropped is gone, with its data; `crank dead show` saves them.", f"Drop {what}?", yes=yes)
    run_client(_each("drop", jobs, as_json, nats_url, prefix), as_json=as_json)


async def _each(op: str, jobs: tuple[str, ...], as_json: bool, nats_url: str, prefix: str) -> None:
    """Do it with one after the other; what fails with one is told, and the others are done."""
    from callers import Client, CrankError, Unreachable
    from crank.cli import show

    failed = False
    async with await Client.connect(nats_url, prefix=prefix) as client:
        for job in jobs:
            try:
                status = str((await _row(client, op, job)).get("status"))
            except Unreachable:
                raise
            except CrankError as error:
                failed = True
                if as_json:
                    click.echo(json_problem(error))
                else:
                    click.echo(told(error), err=True)
                continue
            if as_json:
                show.json_line({"ok": True, "job_id": job, "status": status})
            else:
                click.echo(printable(f"{status} {job}"))
    if failed:
        raise click.exceptions.Exit(FAILED)
