"""``crank submit``: have something done for certain, or a file of many things."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crank.cli.endings import EMPTY_BODY, FAILED, called, run_client, say
from crank.cli.options import CapabilityName, Key, json_option, nats_option, read_data
from crank.cli.saying import said_options

if TYPE_CHECKING:
    from callers import Job
    from callers.asking import Options

# A line's number behind the batch's name: a dot and as many digits as lines can be counted with.
_NUMBER_CHARS = 16
_EXAMPLES = """\b
Examples:
  crank submit greet:hello_world '{"name": "Ada"}'
  crank submit greet:hello_world --from names.jsonl
  crank result JOB --wait 60
"""


@click.command(epilog=_EXAMPLES)
@click.argument("capability", required=False, metavar="[VERB:NAME]", type=CapabilityName())
@click.argument("data", required=False, metavar="[DATA|@FILE|-]")
@click.option(
    "--from", "source", metavar="FILE",
    help="Submit each line of FILE (- for standard input): JSON for VERB:NAME, or without VERB:NAME "
    '{"capability": "VERB:NAME", "data": ..., "key": ...}.',
)  # fmt: skip
@click.option(
    "--key", type=Key(), metavar="KEY",
    help="One job, however often it is submitted with this key. With --from the name of the batch; "
    "without it, the same FILE is the same batch.",
)  # fmt: skip
@said_options
@json_option
@nats_option
def submit(
    capability: str | None,
    data: str | None,
    source: str | None,
    key: str | None,
    said: Options,
    as_json: bool,
    nats_url: str,
    prefix: str,
) -> None:
    """Have VERB:NAME done for certain, and print the job's id at once.

    DATA is the body: text, @FILE for a file's content, - for standard input. With --from many jobs are submitted, each
    line under a key of its own, so that the same file can be submitted again after whatever stopped it: what was
    accepted is not submitted twice.
    """
    if source is None:
        if capability is None:
            raise click.UsageError("say what is to be done, VERB:NAME, or --from FILE")
        body, guessed = read_data(data)
        if guessed is not None:
            said.setdefault("content_type", guessed)
        work = _submit(capability, body, {**said, "idempotency_key": key or secrets.token_hex(16)}, nats_url, prefix)
        empty = EMPTY_BODY if data is None else ""
        job = run_client(work, as_json=as_json, hint=lambda error: empty if error.code in (400, 422) else "")
        _show_job(job, as_json)
        return
    if data is not None:
        raise click.UsageError("with --from the data come from the file; leave DATA out")
    from crank.cli.batch import name_of

    if key is not None:
        Key(_NUMBER_CHARS).convert(key, None, click.get_current_context())
    go_on = "Submit the same again to go on: what was accepted is not submitted twice."
    if source == "-" and key is None:
        key = secrets.token_hex(8)
        go_on += f" Give the batch its name then, which was made up: --key {key}"
    name = key or name_of(source)
    run_client(_submit_all(_opened(source), name, go_on, capability, said, as_json, nats_url, prefix), as_json=as_json)


def _opened(source: str) -> int:
    """The file descriptor of ``source``."""
    try:
        if Path(source).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return sys.stdin.fileno() if source == "-" else os.open(source, os.O_RDONLY)
    except OSError as error:
        raise click.UsageError(f"--from: {source} cannot be read: {error.strerror}") from None


async def _submit(capability: str, body: bytes, options: Options, nats_url: str, prefix: str) -> Job:
    from callers import Client
    from crank.cli import batch

    async with await Client.connect(nats_url, prefix=prefix) as client:
        return await batch.submit(client, capability, body, options, met=False)


async def _submit_all(
    source: int,
    name: str,
    go_on: str,
    capability: str | None,
    said: Options,
    as_json: bool,
    nats_url: str,
    prefix: str,
) -> None:
    from callers import Client
    from crank.cli.batch import Batch

    async with await Client.connect(nats_url, prefix=prefix) as client:
        batch = Batch(client, name, capability, said, as_json=as_json)
        try:
            await batch.run(source, bar=not (as_json and sys.stdout.isatty()))
        except BaseException:  # Ctrl-C too
            if batch.begun:
                say(f"crank: stopped: {batch.counted}. {go_on}")
            raise
        click.echo(batch.counted, err=as_json)
    if batch.failed:
        raise click.exceptions.Exit(FAILED)


def _show_job(job: Job, as_json: bool) -> None:
    from crank.cli import show

    if as_json:
        show.json_line({"ok": True, "job_id": job.job_id, "duplicate": job.duplicate})
        return
    click.echo(job.job_id)
    if sys.stderr.isatty():
        what = "It was there before" if job.duplicate else "Accepted"
        say(f"{what}. Its answer:\n  {called()} result {job.job_id} --wait 60")
