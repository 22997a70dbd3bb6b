"""``crank demo``: a whole installation on free ports for a few seconds, real requests, and what was decided.

Every answer is checked: the exit code is 0 only when all came out as they should.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from crank.cli.endings import FAILED, called, printable, told, why

if TYPE_CHECKING:
    from callers import Client, Frame

# Two of the first, so that there is something to choose from.
_WORKERS = ("hello_world", "hello_world", "streaming", "email_parser")
_TEXT = "The engine weaves algebraical patterns as the loom weaves flowers."
_MAIL = "mail.eml"


class _Wrong(Exception):
    """An answer is not what it should be."""


@click.command()
def demo() -> None:
    """Start everything on free ports, send real requests, show what was decided, stop, leave nothing behind."""
    raise click.exceptions.Exit(asyncio.run(_demo()))


async def _demo() -> int:
    from callers.failures import CrankError
    from crank.cli.stopping import stop_event, unless_stopped
    from crank.local import LocalError

    stop = stop_event()
    try:
        if not await unless_stopped(_play(), stop):
            click.echo("Stopped.", err=True)
            return 130
    except CrankError as error:
        click.echo(told(error), err=True)
    except (LocalError, _Wrong, OSError) as error:
        click.echo(f"crank: {why(error)}", err=True)
    else:
        click.echo(f"\nEverything is stopped, and nothing is left behind.\nNext: {called()} up")
        return 0
    return FAILED


async def _play() -> None:
    async with _installation() as client:
        await _greet(client)
        await _stream(client)
        await _mail(client)
        await _decide(client)
        await _refuse(client)


@asynccontextmanager
async def _installation() -> AsyncIterator[Client]:
    """The same as ``crank up`` starts, in a folder that goes away."""
    from callers import Client
    from crank.local import Local, plans

    state = Path(tempfile.mkdtemp(prefix="crank-demo-"))
    config = state / "crank.yaml"
    config.write_text("{slos: null, limits_file: null}\n")  # what is asked in the folder that this runs in is not shown
    local = Local(state, nats_port=0, http_port=0, workers=plans(_WORKERS), config=config)
    started = time.perf_counter()
    _say(f"Starting a NATS server, a controller and {len(_WORKERS)} workers …")
    try:
        await local.start()
        _tell(f"ready in {time.perf_counter() - started:.1f} s at {local.nats.url} and {local.http_url}")
        async with await Client.connect(local.nats.url, prefix=local.prefix) as client:
            yield client
    finally:
        await local.stop()
        shutil.rmtree(state, ignore_errors=True)


async def _greet(client: Client) -> None:
    body = '{"name": "Ada"}'
    _say(f"A request: greet:hello_world {body}")
    started = time.perf_counter()
    answer = await client.request("greet:hello_world", body.encode())
    _tell(answer.body.decode())
    _who(answer, started)
    _must(answer.json() == {"greeting": "Hello, Ada!"}, "the greeting is another one")


async def _stream(client: Client) -> None:
    _say("A streamed answer: stream:text_events, a piece every 40 ms")
    started = time.perf_counter()
    body = msgspec.json.encode({"text": _TEXT, "delay_ms": 40})
    pieces = []
    click.echo("   ", nl=False)
    async for frame in client.stream("stream:text_events", body):
        if frame.kind == "progress":
            continue
        pieces.append(frame.body.decode())
        click.echo(printable(pieces[-1]), nl=False)
    click.echo(f"\n   in {len(pieces)} pieces")
    _who(frame, started)
    _must("".join(pieces) == _TEXT and len(pieces) > 5, "the stream is incomplete")


async def _mail(client: Client) -> None:
    raw = _example(_MAIL)
    _say(f"A real mail of {len(raw)} bytes with attachments: parse:email_message @{_MAIL}")
    started = time.perf_counter()
    answer = await client.request("parse:email_message", raw, headers={"Content-Type": "message/rfc822"})
    mail = answer.json()
    _tell(f"from     {mail['from'][0]['name']} <{mail['from'][0]['address']}>", f"subject  {mail['subject']}")
    for attachment in mail["attachments"]:
        _tell(f"attached {attachment['filename']}, {attachment['content_type']}, {attachment['size_bytes']} bytes")
    _who(answer, started)
    names = [attachment["filename"] for attachment in mail["attachments"]]
    _must("Bernoulli" in mail["subject"] and "bernoulli.csv" in names, "the mail was parsed wrongly")


async def _decide(client: Client) -> None:
    from crank.cli import decision

    _say("What would be decided, and why: crank request greet:hello_world --dry-run")
    answer = await client.request("greet:hello_world", b'{"name": "Ada"}', headers={"Crank-Dry-Run": "true"})
    record = answer.json()
    _tell(*decision.lines(record))
    _must(len(record["candidates"]) == 2 and record["chosen"], "the decision is not what it should be")


async def _refuse(client: Client) -> None:
    from callers.failures import CrankError

    _say("A refusal says what to do: greet:helo_world")
    try:
        await client.request("greet:helo_world", b"{}")
    except CrankError as error:
        click.echo(told(error, "   "))
        _must(error.code == 404 and "greet:hello_world" in told(error), "the refusal does not name what is near")
    else:
        raise _Wrong("an unknown capability was not refused")


def _example(name: str) -> bytes:
    """A file of ``examples/``: from the source tree, or from the installed package."""
    package = Path(__file__).resolve().parents[1]
    found = next((p for p in (package / "data" / name, package.parent / "examples" / name) if p.exists()), None)
    if found is None:
        raise _Wrong(f"{name} is missing from this installation; install it again")
    return found.read_bytes()


def _say(text: str) -> None:
    click.secho(f"\n{text}", bold=True)


def _tell(*told_lines: str) -> None:
    for line in told_lines:
        click.echo(f"   {printable(line)}")


def _who(frame: Frame, started: float) -> None:
    from crank.cli import show

    click.secho(f"   {show.who_line(frame.meta, (time.perf_counter() - started) * 1000)}", dim=True)


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Wrong(f"{otherwise}; this is a bug")
