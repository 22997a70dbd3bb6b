"""``crank resolve`` and ``crank recovery``: what is unfinished, and an operator's word on what nobody else can know."""

from __future__ import annotations

import base64
from typing import Any

import click

from crank.cli.endings import ask_first, called, printable, run_client, say
from crank.cli.options import CapabilityName, Key, Token, json_option, nats_option, read_data, yes_option

_MAY_RUN = (
    "The first attempt may have been done, and may still run. Once its key is released, the next request with it is "
    "run as if there had been none."
)
_SAYS_SO = "Whoever asks with this key gets this answer from now on, and it is not run again."
_EXAMPLES = """\b
Examples:
  crank resolve JOB --done '{"charged": true}'
  crank resolve --capability pay:charge --key order-7 --release
"""


@click.command(epilog=_EXAMPLES)
@click.argument("job", required=False, metavar="[JOB]", type=Token())
@click.option("--capability", type=CapabilityName(), metavar="VERB:NAME", help="Of the request, where there is no JOB.")
@click.option("--key", type=Key(), metavar="KEY", help="Its idempotency key.")
@click.option("--caller", metavar="ID", help="Who asked; anonymous where nobody has an identity.")
@click.option("--done", "answer", metavar="ANSWER|@FILE|-", help="It was done, and this is its answer.")
@click.option("--content-type", metavar="TYPE", help="Of ANSWER; default application/json, or what a file's name says.")
@click.option("--release", is_flag=True, help="It was not done: forget the key.")
@yes_option
@json_option
@nats_option
def resolve(
    job: str | None,
    capability: str | None,
    key: str | None,
    caller: str | None,
    answer: str | None,
    content_type: str | None,
    release: bool,
    yes: bool,
    as_json: bool,
    nats_url: str,
    prefix: str,
) -> None:
    """Say what became of a request whose outcome is unknown (409 outcome_unknown).

    Name it by JOB, as `crank recovery` lists it, or by --capability and --key. Look for its effect first.
    """
    question = _which(job, capability, key, caller)
    if (answer is None) is not release:
        raise click.UsageError("say either --done ANSWER or --release")
    if answer is None:
        question["outcome"] = "released"
        ask_first(_MAY_RUN, "Release it?", yes=yes)
    else:
        question["outcome"] = "done"
        question |= _answer(answer, content_type)
        ask_first(_SAYS_SO, "Settle it?", yes=yes)
    found = run_client(_resolve(question, nats_url, prefix), as_json=as_json)
    if as_json:
        from crank.cli import show

        show.json_line({"ok": True, **found})
        return
    click.echo(printable(f"{found.get('state')} {found.get('job_id')}"))
    if found.get("warning"):
        say(f"crank: warning: {found['warning']}")


def _which(job: str | None, capability: str | None, key: str | None, caller: str | None) -> dict[str, Any]:
    if job is not None:
        if capability or key or caller:
            raise click.UsageError("JOB says it all; leave --capability, --key and --caller out")
        return {"job_id": job}
    if capability is None or key is None:
        raise click.UsageError("name JOB, or --capability and --key")
    return {"capability": capability, "key": key} | ({"caller": caller} if caller is not None else {})


def _answer(answer: str, content_type: str | None) -> dict[str, str]:
    """The answer, byte for byte."""
    import msgspec

    body, guessed = read_data(answer)
    label = content_type or guessed
    if label is None:
        label = "application/json"
        try:
            msgspec.json.decode(body)
        except (ValueError, RecursionError) as error:
            advice = "say what it is with --content-type, such as text/plain"
            raise click.UsageError(f"--done: the answer is not JSON ({error}); {advice}") from None
    return {"answer_base64": base64.b64encode(body).decode(), "content_type": label}


async def _resolve(question: dict[str, Any], nats_url: str, prefix: str) -> dict[str, Any]:
    from callers import Client
    from callers.failures import failure
    from subjects.errors import ErrorKind

    async with await Client.connect(nats_url, prefix=prefix) as client:
        rows = (await client.admin("resolve", question)).get("resolved")
    if isinstance(rows, list) and rows and isinstance(rows[0], dict):
        return rows[0]
    raise failure(ErrorKind.WORKER_PROTOCOL, "The answer does not say what was resolved.")


@click.command()
@json_option
@nats_option
def recovery(as_json: bool, nats_url: str, prefix: str) -> None:
    """Show what a starting controller would read, and which requests and jobs are unfinished."""
    from crank.cli import queues, show

    found = run_client(_recovery(nats_url, prefix), as_json=as_json)
    if as_json:
        show.json_line(found)
        return
    fields = ("stream", "messages", "bytes", "purpose")
    show.table(fields, [[_cell(row, field) for field in fields] for row in found["recovery"]], right=(1, 2))
    counts = found["counts"]
    told = ", ".join(f"{state} {count}" for state, count in counts.items()) or "none"
    click.echo(printable(f"Keys by state: {told}."), err=True)
    if found["unfinished"]:
        queues.show_unfinished(found["unfinished"])
    if any(row.get("state") == "unknown" for row in found["unfinished"]):
        say(f"What is unknown waits for you: {called()} resolve JOB --done ANSWER, or --release")


def _cell(row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    return f"{value:,}" if isinstance(value, int) else str("" if value is None else value)


async def _recovery(nats_url: str, prefix: str) -> dict[str, Any]:
    from callers import Client
    from callers.failures import failure
    from subjects.errors import ErrorKind

    async with await Client.connect(nats_url, prefix=prefix) as client:
        told = await client.admin("recovery")
    found = {
        "recovery": told.get("recovery") or [],
        "unfinished": told.get("unfinished") or [],
        "counts": told.get("counts") or {},
    }
    lists = [found["recovery"], found["unfinished"]]
    fits = all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in lists)
    if not fits or not isinstance(found["counts"], dict):
        raise failure(ErrorKind.WORKER_PROTOCOL, "The answer to admin.recovery does not say what there is.")
    return told | found
