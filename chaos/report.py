"""Owns how a run is told: a table for a person, JSON for a program, a line while it runs. It judges nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from chaos.laws import LAWS, outcomes
from chaos.plan import WHATS
from chaos.run import Plan, Progress
from chaos.story import Story

# Of what breaks one law, so much is shown.
_SHOWN = 10


def line(progress: Progress) -> str:
    """A run under way, in one line."""
    if not progress.begun:
        return progress.phase
    trouble = f"; in trouble: {', '.join(sorted(progress.in_trouble))}" if progress.in_trouble else ""
    return f"{progress.begun:,} operations begun, {progress.open:,} under way{trouble}"


def show(console: Console, plan: Plan, story: Story, late_s: float, broken: Mapping[str, list[str]]) -> None:
    """What was done to whom, what callers heard, what ran, and which laws hold."""
    _show_troubles(console, story)
    _show_outcomes(console, story)
    _show_work(console, plan, story, late_s)
    for law in LAWS:
        found = broken.get(law.name, [])
        mark = f"[red]✗ {law.name}[/]" if found else f"[green]✓[/] {law.name}"
        console.print(f"{mark}: {law.says}", highlight=False, soft_wrap=True)
        for sentence in found[:_SHOWN]:
            console.print(f"    {sentence}", highlight=False, soft_wrap=True, markup=False)
        if len(found) > _SHOWN:
            console.print(f"    … and {len(found) - _SHOWN:,} more", highlight=False)


def _show_troubles(console: Console, story: Story) -> None:
    counts = Counter((trouble.who, trouble.what) for trouble in story.troubles)
    table = Table(box=SIMPLE)
    table.add_column("done to")
    for what in WHATS:
        table.add_column(what, justify="right")
    for who in sorted({who for who, _ in counts}):
        table.add_row(who, *(str(counts[who, what] or "–") for what in WHATS))
    console.print(table)


def _show_outcomes(console: Console, story: Story) -> None:
    counts = outcomes(story)
    table = Table(box=SIMPLE)
    table.add_column("asked")
    table.add_column("heard")
    table.add_column("times", justify="right")
    before = ""
    for (what, outcome), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1])):
        table.add_row(what if what != before else "", outcome.replace("_", " "), f"{count:,}")
        before = what
    console.print(table)


def _show_work(console: Console, plan: Plan, story: Story, late_s: float) -> None:
    states = Counter(status for job in story.jobs.values() for status, *_ in job.results)
    again = len(story.executions) - len({execution.operation for execution in story.executions})
    replayed = sum(attempt.replayed for attempt in story.attempts)
    table = Table(box=SIMPLE, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("operations", f"{len(story.operations):,}")
    table.add_row("  a second, as planned", f"{plan.rate:g}")
    table.add_row("  behind the plan, at most", f"{late_s:.1f} s")
    table.add_row("messages of callers", f"{len(story.attempts):,}")
    table.add_row("  answered from what was kept", f"{replayed:,}")
    table.add_row("executions", f"{len(story.executions):,}")
    table.add_row("  which did not come to their end", f"{len(story.executions) - len(story.ended):,}")
    table.add_row("  done again, where that is allowed", f"{again:,}")
    table.add_row("jobs accepted", f"{len(story.jobs):,}")
    for status, count in sorted(states.items()):
        table.add_row(f"  {status}", f"{count:,}")
    console.print(table)


def attempts(story: Story) -> bytes:
    """What every caller asked and heard, one a line, for whoever looks for the reason; bodies are cut."""
    short = (
        replace(one, body=b"", detail=one.detail or one.body[:200].decode(errors="replace")) for one in story.attempts
    )
    return b"".join(msgspec.json.encode(one) + b"\n" for one in short)


def as_json(plan: Plan, story: Story, late_s: float, broken: Mapping[str, list[str]]) -> bytes:
    """The same for a program."""
    told: dict[str, Any] = {
        "plan": {"seconds": plan.seconds, "rate": plan.rate, "seed": plan.seed},
        "late_s": late_s,
        "operations": len(story.operations),
        "executions": len(story.executions),
        "replayed": sum(attempt.replayed for attempt in story.attempts),
        "jobs": Counter(status for job in story.jobs.values() for status, *_ in job.results),
        "jobs_accepted": len(story.jobs),
        "outcomes": {f"{what}: {outcome}": count for (what, outcome), count in outcomes(story).items()},
        "troubles": story.troubles,
        "laws": {law.name: law.says for law in LAWS},
        "broken": broken,
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"
