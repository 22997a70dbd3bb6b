"""``crank doctor``: what is wrong with an installation and its surroundings, and what mends it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crank.cli.endings import FAILED, NOBODY, printable
from crank.cli.options import NatsUrl, Token, json_option

if TYPE_CHECKING:
    from crank.doctoring import Finding

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@click.command()
@click.option("--nats", "nats_url", type=NatsUrl(), metavar="URL", help="The NATS server; also by CRANK_NATS_URL.")
@click.option("--prefix", type=Token(), metavar="TOKEN", help="The installation's prefix; default crank.")
@click.option("--config", type=click.Path(path_type=Path), help="A YAML file of settings; also by CRANK_CONFIG.")
@json_option
def doctor(nats_url: str | None, prefix: str | None, config: Path | None, as_json: bool) -> None:
    """Look for whatever is wrong, and say what mends it. Nothing is changed.

    Exit code 0 when there is no problem, 1 when there is one, 3 when there is no NATS server to ask. A worker's user
    that may only do what one worker does is looked at for that one: name it in CRANK_WORKER_ID.
    """
    import asyncio

    from crank.cli import show
    from crank.doctoring import examine
    from crank.doctoring.here import judge_settings, judge_versions, version_of
    from subjects.tokens import is_token

    version = version_of("crank-router")
    settings, findings = judge_settings(config, {"nats_url": nats_url, "prefix": prefix}, os.environ)
    findings.append(judge_versions(version_of("nats-py"), version))
    reached = settings is None  # nobody was asked in vain
    if settings is not None:
        worker_id = os.environ.get("CRANK_WORKER_ID", "")
        report = asyncio.run(examine(settings, version, worker_id if is_token(worker_id) else None))
        reached = report.reached
        findings += report.findings
    counts: Counter[str] = Counter(finding.result for finding in findings)
    if as_json:
        show.json_line({"ok": not counts["problem"], "findings": findings})
    else:
        _show(findings)
        click.echo(_summary(counts), err=True)
    raise click.exceptions.Exit(NOBODY if not reached else FAILED if counts["problem"] else 0)


def _show(findings: list[Finding]) -> None:
    """On a terminal a table, each mend below what it mends; in a file or pipe one line for each finding, for grep."""
    if not sys.stdout.isatty():
        for finding in findings:
            mend = f" → {finding.mend}" if finding.mend else ""
            click.echo(printable(f"{finding.check:<12} {finding.result:<8} {finding.found}{mend}"))
        return
    from rich.text import Text

    from crank.cli import show

    shown: list[tuple[str, str | Text, str]] = []
    for finding in findings:
        shown.append((finding.check, Text(finding.result, _STYLES[finding.result]), finding.found))
        if finding.mend:
            shown.append(("", "", f"→ {finding.mend}"))
    show.table(("check", "result", "found"), shown)


def _summary(counts: Counter[str]) -> str:
    if not counts["problem"] and not counts["warning"]:
        return "Everything is as it should be."
    told = [f"{counts[result]} {result}{'s' if counts[result] != 1 else ''}" for result in ("problem", "warning")]
    return ", ".join(told) + "."
