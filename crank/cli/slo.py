"""``crank slo``: objectives in files, and what became of them. The table of its subcommands alone."""

from __future__ import annotations

import click

from crank.cli.commands import Commands

_COMMANDS = {
    "check": ("slo_check", "check", "Say what the files ask for, and every mistake in them."),
    "status": ("slo_status", "status", "Show how objectives are met, and what is left of each budget."),
    "gate": ("slo_gate", "gate", "Fail a build whose measured results break an objective."),
    "rules": ("slo_gate", "rules", "Print Prometheus rules that watch the objectives."),
    "export": ("slo_exchange", "export", "Print the objectives as OpenSLO."),
    "import": ("slo_exchange", "take_in", "Make our files from an OpenSLO document."),
}


@click.group(cls=Commands, rows=_COMMANDS)
def slo() -> None:
    """Objectives: what the files in slos/ ask of each capability, and whether it is met."""
