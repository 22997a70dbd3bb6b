"""Owns the ``crank`` command: which subcommands there are, and how every ending becomes an exit code.

A subcommand's module is imported when it is used, and imports the rest of the house inside its functions: a shell that
asks for ``--help`` does not wait for NATS, pydantic and rich.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from crank.cli.commands import Commands
from crank.cli.endings import FAILED, USAGE, say, why

_COMMANDS = {
    "up": ("up", "Start a NATS server, a controller and workers, until Ctrl-C."),
    "demo": ("demo", "Start everything, send real requests, show what was decided, stop."),
    "request": ("request", "Ask for one thing and print the answer."),
    "submit": ("submit", "Have one thing, or a file of things, done for certain."),
    "result": ("results", "Print what became of a job."),
    "jobs": ("results", "List the jobs that are not done yet."),
    "cancel": ("results", "Cancel a job or a request."),
    "dead": ("dead", "List, show, retry and drop the jobs that failed for good."),
    "resolve": ("settling", "Say what became of a request whose outcome is unknown."),
    "recovery": ("settling", "Show what a start would read, and what is unfinished."),
    "workers": ("fleet", "List the workers and how they are."),
    "capabilities": ("fleet", "List what can be asked for."),
    "slo": ("slo", "Objectives: check files, see budgets, gate a build, exchange with others."),
    "controller": ("run", "Run one controller."),
    "worker": ("run", "Run one worker."),
    "adopt": ("adopt", "Offer an existing NATS service as capabilities."),
    "new": ("new", "Make the files of a worker of your own."),
    "doctor": ("doctor", "Look for whatever is wrong, and say what mends it."),
}

# The variables that every command reads, or passes over knowingly.
_USUAL = ("CRANK_NATS_URL", "CRANK_NATS_SERVER", "CRANK_PREFIX", "CRANK_WORKER_ID", "CRANK_LOG_LEVEL")


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


@click.group(
    cls=Commands,
    rows={name: (module, name, text) for name, (module, text) in _COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
@click.pass_context
def crank(ctx: click.Context) -> None:
    """Crank routes requests on NATS to the right worker.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 nothing to talk to, 130 Ctrl-C.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False  # https://no-color.org; all that is said goes through click.echo, or rich, which knows it
    if ctx.invoked_subcommand != "doctor":  # which has a place for it
        _warn_of_variables()


def _warn_of_variables() -> None:
    """A misspelled variable would be a setting that silently does not hold."""
    if all(name in _USUAL for name in os.environ if name.upper().startswith("CRANK_")):
        return  # and settings, which take a while to import, are not
    from controller.settings import unknown_variables

    for line in unknown_variables(os.environ):
        say(f"crank: warning: {line}")


def main() -> NoReturn:
    """Run the command in ``sys.argv`` and exit."""
    _open_closed()
    try:
        code = crank.main(standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        code = USAGE
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130  # as a shell reports Ctrl-C
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # there the reader of a pipe went away, and knows it
            say(f"crank: {why(error)}")
        code = FAILED
    _let_go_of_output()
    sys.exit(code if isinstance(code, int) else 0)


def _open_closed() -> None:
    """Give standard streams that the caller closed (``>&-``) a place to go, before a socket takes their number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _let_go_of_output() -> None:
    """What could not be written is dropped; Python would try again while it exits, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
