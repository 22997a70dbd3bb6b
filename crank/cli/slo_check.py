"""``crank slo check``: what the files of rules ask for, and everything that is wrong in them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crank.cli.endings import FAILED, say
from crank.cli.objective_files import SLOS
from crank.cli.options import json_option

if TYPE_CHECKING:
    from controller.core.objectives import Objective, Rates
    from controller.slo_files import Loaded
    from controller.yaml_files import Mistake

_LIMITS = Path("limits.yaml")
existing = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("paths", nargs=-1, type=existing, metavar="[PATH]...")
@click.option("--limits", type=existing, metavar="FILE", help="A file of rate limits to check as well.")
@json_option
def check(paths: tuple[Path, ...], limits: Path | None, as_json: bool) -> None:
    """Say what the SLO files in PATH, which are files or folders, ask for; and every mistake in them.

    Without PATH: slos/, and limits.yaml if there is one. Exit code 1 when there is a mistake, or nothing to check.
    What is odd and no mistake is a warning.
    """
    from controller.limits_file import LoadedRates, load_rates
    from controller.slo_files import load_objectives
    from crank.cli import show

    if not paths and limits is None:
        paths = tuple(path for path in (SLOS,) if path.is_dir())
        limits = _LIMITS if _LIMITS.is_file() else None
    loaded = load_objectives(*paths)
    rates = load_rates(limits) if limits is not None else LoadedRates(None, [])
    mistakes = [*loaded.mistakes, *rates.mistakes]
    now = time.time()
    warnings = _warnings(loaded, now)
    found = bool(loaded.files or rates.rates)
    if as_json:
        show.json_line(
            {
                "ok": found and not mistakes,
                "objectives": list(loaded.files.values()),
                "limits": rates.rates,
                "mistakes": _rows(mistakes),
                "warnings": _rows(warnings),
            }
        )
    else:
        if loaded.files:
            _show(list(loaded.files.values()), now)
        if rates.rates is not None:
            click.echo(f"{limits}: {_told(rates.rates)}")
        for each in mistakes:
            say(str(each))
        for each in warnings:
            say(f"warning: {each}")
        if not found and not mistakes:
            where = " ".join(map(str, paths)) or f"{SLOS}/"
            say(f"There is nothing to check in {where}: an SLO file is called VERB_NAME.yaml.")
    raise click.exceptions.Exit(0 if found and not mistakes else FAILED)


def _warnings(loaded: Loaded, now: float) -> list[Mistake]:
    from controller.slo_files import read_slo_file
    from crank.slo.advice import warnings

    found: list[Mistake] = []
    for path, objective in loaded.files.items():
        document = read_slo_file(path).document
        found += [document.mistake(*each) for each in warnings(objective, now)] if document is not None else []
    return found


def _rows(found: Iterable[Mistake]) -> list[dict[str, Any]]:
    return [{"file": each.file, "line": each.line, "field": each.field, "message": each.text} for each in found]


def _show(objectives: list[Objective], now: float) -> None:
    from crank.cli import show
    from crank.slo.advice import enforced

    rows = [
        (
            each.capability + (f" {each.version}" if each.version else ""),
            *(f"{value:g}" if value is not None else "" for value in (each.p50_ms, each.p95_ms, each.p99_ms)),
            f"{100 * (1 - each.budget):.10g} %" if each.budget is not None else "",
            enforced(each, now),
        )
        for each in objectives
    ]
    show.table(("capability", "p50", "p95", "p99 ms", "good", "enforced"), rows, right=(1, 2, 3, 4))


def _told(rates: Rates) -> str:
    default = f"{rates.default.per_s:g}/s for each caller" if rates.default is not None else "no limit"
    own = len(rates.callers)
    return f"{default}; {own} {'caller has a limit' if own == 1 else 'callers have limits'} of their own"
