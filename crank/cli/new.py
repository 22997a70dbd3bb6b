"""``crank new``: files to begin with."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path

import click

from crank.cli.endings import FAILED, USAGE, called, end, why


@click.group()
def new() -> None:
    """Make files to begin with; what is there already is never overwritten."""


@new.command()
@click.argument("name")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default=Path(), help="Where to; default: the folder you are in."
)
def worker(name: str, folder: Path) -> None:
    """Make a worker and its test, which run at once."""
    from crank.scaffold import SAMPLE, ScaffoldError, new_worker

    try:
        made = new_worker(name, folder)
    except ScaffoldError as error:
        end(f"crank: {error}", USAGE)
    except OSError as error:
        end(f"crank: {why(error)}", FAILED)
    lines = [f"Made {made.module} and {made.test}.", ""]
    if folder.resolve() != Path.cwd():
        lines += ["Go there:", f"    cd {shlex.quote(str(folder))}"]
    lines += [
        f"Run it, beside `{called()} up`:",
        f"    {called()} worker {made.name}:worker",
        "Ask it:",
        f"    {called()} request run:{made.name} '{SAMPLE}'",
        "Test it:" if importlib.util.find_spec("pytest") else "Test it, after `pip install pytest`:",
        f"    pytest {made.test.name}",
    ]
    click.echo("\n".join(lines))
