"""``crank request``: ask for one thing, print the answer or why there is none."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import click

from crank.cli.endings import run_client
from crank.cli.options import (
    CapabilityName,
    HeaderLine,
    JsonObject,
    TokenCount,
    json_option,
    nats_option,
    read_data,
)

if TYPE_CHECKING:
    from callers import Answer, Frame
    from callers.asking import Options
    from crank.cli import show

_MAX_TIMEOUT_MS = 86_400_000
# \b keeps click from joining the lines.
_EXAMPLES = """\b
Examples:
  crank request greet:hello_world '{"name": "Ada"}'
  crank request parse:email_message @mail.eml --json
"""


@click.command(epilog=_EXAMPLES)
@click.argument("capability", metavar="VERB:NAME", type=CapabilityName())
@click.argument("data", required=False, metavar="[DATA|@FILE|-]")
@click.option("--timeout-ms", type=click.IntRange(1, _MAX_TIMEOUT_MS), help="How long the answer may take.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]), help="Passed on to the worker.")
@click.option("--version", "version_range", metavar="RANGE", help="Which versions will do, such as ^1.2 or '>=2,<3'.")
@click.option("--budget-tokens", type=TokenCount(), metavar="N", help="The most that it may cost.")
@click.option(
    "--constraints", type=JsonObject(), metavar="JSON",
    help="What the worker must have, such as '{\"gpu_count\": 1}': numbers mean at least, the rest means equal.",
)  # fmt: skip
@click.option(
    "--header", "headers", metavar="KEY=VALUE", type=HeaderLine(), multiple=True, help="Sent along; may be repeated."
)
@click.option("--content-type", metavar="TYPE", help="Of DATA; default application/json, or what a file's name says.")
@click.option("--stream", is_flag=True, help="Print each piece of the answer as it comes.")
@click.option("--dry-run", is_flag=True, help="Decide and tell what was decided; run nothing.")
@json_option
@nats_option
def request(
    capability: str,
    data: str | None,
    timeout_ms: int | None,
    priority: Literal["low", "normal", "high"] | None,
    version_range: str | None,
    budget_tokens: float | None,
    constraints: dict[str, Any] | None,
    headers: tuple[tuple[str, str], ...],
    content_type: str | None,
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
    options: Options = {"headers": dict(headers), "dry_run": dry_run}
    if timeout_ms is not None:
        options["timeout_ms"] = timeout_ms
    if priority is not None:
        options["priority"] = priority
    if version_range is not None:
        options["version"] = version_range
    if budget_tokens is not None:
        options["budget_tokens"] = budget_tokens
    if constraints is not None:
        options["constraints"] = constraints
    if (label := content_type or guessed) is not None:
        options["content_type"] = label
    work = _ask(capability, body, options, stream, as_json, nats_url, prefix)
    hint = "Mind that the body was empty: no DATA was given." if data is None else ""
    run_client(work, as_json=as_json, body_hint=hint)


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
