"""Owns how a long batch tells how far it is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple

import click

from crank.cli.endings import printable

_BAR_EVERY_S = 0.1
# In a log; short batches say nothing before their end.
_LINE_EVERY_S = 10.0

Say = Callable[[str], None]


class Far(NamedTuple):
    """How far it is, in bytes of ``total`` (None where nobody knows how much there is), and in words."""

    done: int
    total: int | None
    counted: str


@contextlib.asynccontextmanager
async def telling(far: Callable[[], Far], *, bar: bool) -> AsyncGenerator[Say, None]:
    """Tell ``far()`` while the block runs. It is given what says one line more, above the bar where there is one.

    ``bar`` False keeps a terminal free for the lines that go to it.
    """
    if not (bar and sys.stderr.isatty()):
        async with _now_and_then(_LINE_EVERY_S, lambda: click.echo(far().counted, err=True)):
            yield lambda text: click.echo(printable(text), err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    total = far().total
    filled = (BarColumn(None), TextColumn("{task.percentage:>3.0f} %")) if total is not None else ()
    shown = Progress(
        *filled, TextColumn("{task.fields[counted]}"), console=console, auto_refresh=False, transient=True, expand=True,
        redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip
    task = shown.add_task("", total=total, counted="")

    def draw() -> None:
        now = far()
        shown.update(task, completed=now.done, counted=now.counted, refresh=True)

    with shown:
        async with _now_and_then(_BAR_EVERY_S, draw):
            yield lambda text: console.print(Text(printable(text)))


@contextlib.asynccontextmanager
async def _now_and_then(every_s: float, act: Callable[[], None]) -> AsyncGenerator[None, None]:
    async def often() -> None:
        while True:
            await asyncio.sleep(every_s)
            act()

    task = asyncio.create_task(often())
    try:
        yield
    finally:
        task.cancel()
