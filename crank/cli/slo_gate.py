"""``crank slo gate`` and ``crank slo rules``: objectives against what was measured, and for Prometheus to watch."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crank.cli.endings import DONE, FAILED, NOBODY, USAGE, end, say, why
from crank.cli.objective_files import SLOS, loaded_or_end
from crank.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.core.objectives import Objective
    from crank.slo.gate import Judged
    from crank.slo.measured import Results
    from subjects.tokens import CapabilityId

# Eleven times as slow is as good as no comparison.
_MOST_TOLERANT = 10
_STYLES = {"met": "green", "violated": "bold red", "regressed": "bold red", "not measured": "yellow"}
_file = click.Path(path_type=Path, dir_okay=False)
_places = click.argument("places", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")


def _address(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from crank.slo.prometheus import is_address

    if value is not None and not is_address(value):
        raise click.BadParameter("it is not http://HOST:PORT (or https), without a user")
    return value


def _window(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from crank.slo.prometheus import WINDOW_RULE, is_window

    if not is_window(value):
        raise click.BadParameter(f"{value!r} is not {WINDOW_RULE}")
    return value


def _ratio(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 <= value <= _MOST_TOLERANT:
        raise click.BadParameter(f"{value:g} is not a number from 0 to {_MOST_TOLERANT}, such as 0.25 for a quarter")
    return value


@click.command()
@_places
@click.option(
    "--results", "files", type=_file, multiple=True, metavar="FILE", help="Measured results; may be repeated."
)
@click.option("--prometheus", metavar="URL", callback=_address, help="Or the server that scrapes the controllers.")
@click.option("--window", default="1h", show_default=True, callback=_window, help="How far back to look there.")
@click.option("--baseline", type=_file, metavar="FILE", help="What was measured before, to compare with.")
@click.option("--update-baseline", is_flag=True, help="Where no objective is broken, what is measured now becomes it.")
@click.option(
    "--tolerance", type=float, callback=_ratio, metavar="RATIO",
    help="How much worse than the baseline is no regression; default 0.25, since machines differ by a tenth or two.",
)  # fmt: skip
@click.option("--require-all", is_flag=True, help="What was not measured fails too.")
@click.option("--junit", type=_file, metavar="FILE", help="Write the verdicts for a build server.")
@click.option("--markdown", type=_file, metavar="FILE", help="Write the verdicts for people.")
@json_option
def gate(
    places: tuple[Path, ...],
    files: tuple[Path, ...],
    prometheus: str | None,
    window: str,
    baseline: Path | None,
    update_baseline: bool,
    tolerance: float | None,
    require_all: bool,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Compare measured results with the objectives in PATH, which is slos/ where nothing else is said.

    Exit code 0 when nothing that was measured breaks its objective or is worse than the baseline, 1 when something
    does, or nothing was measured; 2 for wrong usage and broken files, 3 when Prometheus does not answer.
    """
    from crank.slo.gate import TOLERANCE, judge

    if bool(files) == (prometheus is not None):
        raise click.UsageError(
            "say what was measured: --results FILE, which `pytest --metrics-output FILE` writes, or --prometheus URL"
        )
    known = [path.resolve() for path in files]
    if twice := next((path for path in files if known.count(path.resolve()) > 1), None):
        raise click.UsageError(f"--results names {twice} twice: each request would count twice")
    if update_baseline and baseline is None:
        raise click.UsageError("--update-baseline: say which file with --baseline FILE")
    objectives = loaded_or_end(places, broken=USAGE, empty=USAGE).objectives
    before = _baseline(baseline, update_baseline)
    results = _read(files) if prometheus is None else _scraped(prometheus, window)
    judged = judge(objectives, results, before, TOLERANCE if tolerance is None else tolerance)
    failures = judged.failures(require_all)
    _show(judged, as_json, ok=not failures)
    _write(judged, require_all, junit, markdown)
    if update_baseline and baseline is not None:
        _keep(baseline, before, results, objectives, broken=any(check.verdict == "violated" for check in judged.checks))
    raise click.exceptions.Exit(FAILED if failures else DONE)


def _baseline(path: Path | None, may_be_missing: bool) -> Results:
    if path is None or (may_be_missing and not path.exists()):
        return {}
    if not path.exists():
        end(f"crank: there is no baseline {path} yet; --update-baseline makes it", USAGE)
    return _read((path,))


def _read(files: tuple[Path, ...]) -> Results:
    from crank.slo import measured

    try:
        return measured.merged([measured.read(path) for path in files])
    except measured.BadResults as error:
        end(f"crank: {error}", USAGE)


def _scraped(url: str, window: str) -> Results:
    from crank.slo.prometheus import PrometheusRefused, PrometheusUnreachable, measure

    try:
        return measure(url, window)
    except PrometheusUnreachable as error:
        end(f"crank: {error}", NOBODY)
    except PrometheusRefused as error:
        end(f"crank: {error}", FAILED)


def _show(judged: Judged, as_json: bool, *, ok: bool) -> None:
    from crank.cli import show
    from crank.slo.reports import COLUMNS, row, seen, sentence

    if as_json:
        show.json_line({"ok": ok, "checks": judged.checks, "unasked": judged.unasked})
        return
    if sys.stdout.isatty():
        _list(judged)
    elif seen(judged):
        show.table(COLUMNS, [row(check) for check in seen(judged)], right=(3, 4))
    say(sentence(judged))


def _list(judged: Judged) -> None:
    """On a terminal, where a table of so many columns has no room, the checks stand below their capability."""
    from rich.text import Text

    from crank.cli import show
    from crank.slo.reports import row, seen

    console, capability = show.console(), None
    for check in seen(judged):
        if check.capability != capability:
            capability = check.capability
            console.print(Text(capability, "bold"))
        _, what, asked, found, _, verdict, reason = row(check)
        line = Text(f"  {what:<12} {asked:<12} {found:>13}  ")
        line.append(verdict, _STYLES[check.verdict])
        console.print(line + Text(f": {reason}" if reason else ""))


def _write(judged: Judged, require_all: bool, junit: Path | None, markdown: Path | None) -> None:
    from crank.slo import reports

    made: tuple[tuple[Path | None, Callable[[], bytes]], ...] = (
        (junit, lambda: reports.junit(judged, require_all)),
        (markdown, lambda: reports.markdown(judged, require_all).encode()),
    )
    for path, content in made:
        if path is not None:
            _put(path, content())


def _put(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        end(f"crank: {path} cannot be written: {why(error)}", FAILED)


def _keep(
    path: Path, before: Results, results: Results, objectives: dict[CapabilityId, Objective], *, broken: bool
) -> None:
    """What is asked of somebody and was measured is the new baseline; of the others the old one stays."""
    from crank.slo import measured

    if broken:
        say("The baseline is left as it is: what breaks an objective is nothing to compare with.")
        return
    known = {**before, **results}
    _put(path, measured.encode({capability: known[capability] for capability in known if capability in objectives}))
    say(f"The baseline is what was measured now: {path}")


@click.command()
@_places
@click.option("--out", type=_file, metavar="FILE", help="Write them here instead.")
def rules(places: tuple[Path, ...], out: Path | None) -> None:
    """Print Prometheus rules for the objectives in PATH, which is slos/ where nothing else is said.

    They record how fast each error budget burns, and alert when it does over two windows at once, or when an objective
    is not measured at all.
    """
    from crank.slo.rules import as_yaml

    again = ["crank", "slo", "rules", *map(str, places or (SLOS,)), *(["--out", str(out)] if out is not None else [])]
    head = ("Made from SLO files; do not change it by hand. To make it anew:", f"  {shlex.join(again)}")
    objectives = loaded_or_end(places, broken=USAGE, empty=FAILED).objectives
    text = as_yaml(objectives.values(), head)
    if out is None:
        sys.stdout.write(text)
    else:
        _put(out, text.encode())
