"""``crank result``, ``jobs`` and ``cancel``: what became of what was submitted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from crank.cli.endings import FAILED, called, end, run_client
from crank.cli.options import CapabilityName, Token, json_option, limit_option, nats_option

if TYPE_CHECKING:
    from callers import Answer, CrankError, Pending

# The longest that a job's result is kept.
_MOST_WAIT_S = 35 * 86_400


@click.command()
@click.argument("job", metavar="JOB", type=Token())
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, _MOST_WAIT_S),
    is_flag=False,
    flag_value=_MOST_WAIT_S,
    metavar="[SECONDS]",
    help="Wait for it: until it is there, or so many seconds.",
)
@json_option
@nats_option
def result(job: str, wait_s: float | None, as_json: bool, nats_url: str, prefix: str) -> None:
    """Print the answer to JOB, or why there is none.

    Exit code 0 when the job is done, 1 when it failed, was cancelled or is not done yet.
    """
    from callers import Pending
    from crank.cli import show

    started = time.perf_counter()
    wait_ms = max(1, round((wait_s or 0) * 1000))
    found = run_client(_result(job, wait_ms, nats_url, prefix), as_json=as_json, hint=lambda error: _hint(error, job))
    if isinstance(found, Pending):
        if as_json:
            show.json_line({"ok": False, "job_id": found.job_id, "status": found.status})
            raise click.exceptions.Exit(FAILED)
        still = "still " if wait_s else ""
        end(f"crank: the job is {still}{found.status}; wait for it:\n  {called()} result {job} --wait 60", FAILED)
    if as_json:
        show.json_line(show.as_object(found, (time.perf_counter() - started) * 1000))
        return
    show.body(found)
    show.who(found)


async def _result(job: str, wait_ms: int, nats_url: str, prefix: str) -> Answer | Pending:
    from callers import Client

    async with await Client.connect(nats_url, prefix=prefix) as client:
        return await client.result(job, timeout_ms=wait_ms)


def _hint(error: CrankError, job: str) -> str:
    if error.job_status != "dead":
        return ""
    # Its result stays when it is dropped.
    told = "The job is dead: nobody tries it again by itself. After all, unless an operator has dropped it:"
    return f"{told}\n{called()} dead retry {job}"


@click.command()
@click.option("--capability", type=CapabilityName(), metavar="VERB:NAME", help="Only its jobs.")
@limit_option
@json_option
@nats_option
def jobs(capability: str | None, limit: int, as_json: bool, nats_url: str, prefix: str) -> None:
    """List the jobs that are not done yet, the oldest first."""
    from crank.cli import queues

    found = run_client(queues.listed("jobs", capability, limit, nats_url, prefix), as_json=as_json)
    queues.show_jobs(found, limit, as_json)


@click.command()
@click.argument("ident", metavar="ID", type=Token())
@json_option
@nats_option
def cancel(ident: str, as_json: bool, nats_url: str, prefix: str) -> None:
    """Cancel the job or request ID.

    What has been given to a worker already may be done all the same.
    """
    from crank.cli import show

    run_client(_cancel(ident, nats_url, prefix), as_json=as_json)
    if as_json:
        show.json_line({"ok": True, "id": ident, "status": "cancelled"})
    else:
        click.echo(f"cancelled {ident}")


async def _cancel(ident: str, nats_url: str, prefix: str) -> None:
    from callers import Client

    async with await Client.connect(nats_url, prefix=prefix) as client:
        await client.cancel(ident)
