"""``crank request``: ask for one thing, print the answer or why there is none."""

from __future__ import annotations

import shlex
import sys
import time
from typing import TYPE_CHECKING, Literal

import click

from crank.cli.endings import EMPTY_BODY, called, run_client, say
from crank.cli.options import CapabilityName, Key, json_option, nats_option, read_data
from crank.cli.saying import said_options

if TYPE_CHECKING:
    from callers import Answer, CrankError, Frame
    from callers.asking import Options
    from crank.cli import show

# \b keeps click from joining the lines.
_EXAMPLES = """\b
Examples:
  crank request greet:hello_world '{"name": "Ada"}'
  crank request parse:email_message @mail.eml --json
"""


@click.command(epilog=_EXAMPLES)
@click.argument("capability", metavar="VERB:NAME", type=CapabilityName())
@click.argument("data", required=False, metavar="[DATA|@FILE|-]")
@click.option("--key", type=Key(), metavar="KEY", help="Done once, however often it is asked for with this key.")
@click.option(
    "--on-duplicate", type=click.Choice(["attach", "reject"]),
    help="While the first with this key runs: wait for its answer, the default, or be refused.",
)  # fmt: skip
@said_options
@click.option("--stream", is_flag=True, help="Print each piece of the answer as it comes.")
@click.option("--dry-run", is_flag=True, help="Decide and tell what was decided; run nothing.")
@json_option
@nats_option
def request(
    capability: str,
    data: str | None,
    key: str | None,
    on_duplicate: Literal["attach", "reject"] | None,
    said: Options,
    stream: bool,
    dry_run: bool,
    as_json: bool,
    nats_url: str,
    prefix: str,
) -> None:
    """Ask for VERB:NAME and print the answer.

    DATA is the body: text, @FILE for a file's content, - for standard input.
    """
    body, guessed = read_data(data)
    options: Options = {**said, "dry_run": dry_run}
    if key is not None:
        options["idempotency_key"] = key
    if on_duplicate is not None:
        if key is None:
            raise click.UsageError("--on-duplicate says what a second request with the same --key does; give a --key")
        options["on_duplicate"] = on_duplicate
    if guessed is not None:
        options.setdefault("content_type", guessed)
    work = _ask(capability, body, options, stream, as_json, nats_url, prefix)
    try:
        run_client(work, as_json=as_json, hint=lambda error: _hint(error, data is None))
    except KeyboardInterrupt:
        if key is not None and not as_json:
            say(f"crank: cancelled; the work may have run. To know, ask again with --key {shlex.quote(key)}")
        raise


def _hint(error: CrankError, empty: bool) -> str:
    if empty and error.code in (400, 422):
        return EMPTY_BODY
    if error.kind == "outcome_unknown" and error.idempotency_key is not None and not error.passing:
        which = f"--capability {error.capability} --key {shlex.quote(error.idempotency_key)}"
        return f"When you know what became of it: {called()} resolve {which} --done ANSWER, or --release"
    return ""


async def _ask(
    capability: str,
    body: bytes,
    options: Options,
    stream: bool,
    as_json: bool,
    nats_url: str,
    prefix: str,
) -> None:
    from callers import Client
    from crank.cli import show

    async with await Client.connect(nats_url, prefix=prefix) as client:
        started = time.perf_counter()
        if not stream:
            answer = await client.request(capability, body, **options)
            _show_answer(answer, _since(started), as_json, options.get("dry_run", False))
            return
        pieces = show.Pieces()
        try:
            async for frame in client.stream(capability, body, **options):
                _show_frame(frame, pieces, _since(started), as_json)
        finally:
            pieces.end()


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _show_answer(answer: Answer, elapsed_ms: float, as_json: bool, dry_run: bool) -> None:
    from crank.cli import decision, show

    if as_json:
        show.json_line(show.as_object(answer, elapsed_ms))
        return
    if dry_run and sys.stdout.isatty():
        click.echo("\n".join(decision.lines(answer.json())))
        return
    show.body(answer)
    show.who(answer, elapsed_ms)


def _show_frame(frame: Frame, pieces: show.Pieces, elapsed_ms: float, as_json: bool) -> None:
    from crank.cli import show

    if as_json:
        show.json_line({"frame": frame.kind, "seq": frame.seq, **show.as_object(frame, elapsed_ms)})
        return
    pieces.add(frame)
    if frame.kind == "end":
        pieces.end()
        show.who(frame, elapsed_ms)
