"""Owns the ``crank`` command: which subcommands there are, and how every ending becomes an exit code.

A subcommand's module is imported when it is used, and imports the rest of the house inside its functions: a shell that
asks for ``--help`` does not wait for NATS, pydantic and rich.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import click

from crank.cli.endings import FAILED, USAGE

_COMMANDS = {
    "up": ("up", "Start a NATS server, a controller and workers, until Ctrl-C."),
    "demo": ("demo", "Start everything, send real requests, show what was decided, stop."),
    "request": ("request", "Ask for one thing and print the answer."),
    "workers": ("fleet", "List the workers and how they are."),
    "capabilities": ("fleet", "List what can be asked for."),
    "controller": ("run", "Run one controller."),
    "worker": ("run", "Run one worker."),
}


class _Commands(click.Group):
    """The subcommands, imported one at a time; their one-line help stands in the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        row = _COMMANDS.get(cmd_name)
        if row is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"crank.cli.{row[0]}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from importlib import metadata

    try:
        known = metadata.version("crank-router")
    except metadata.PackageNotFoundError:
        known = "(run from its source folder, not installed)"
    click.echo(f"crank {known}")
    ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def crank() -> None:
    """Crank routes requests on NATS to the right worker.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 nothing to talk to.
    """


def main() -> NoReturn:
    """Run the command in ``sys.argv`` and exit."""
    try:
        code = crank.main(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        code = USAGE
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130  # as a shell reports Ctrl-C
    except BrokenPipeError:
        # The reader of a pipe went away; without this Python complains once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code if isinstance(code, int) else 0)
