"""Owns groups of subcommands whose modules are imported when they are used, and what is said of a name that is none.

``crank.cli.entry`` and ``crank.cli.slo`` have the tables; this refuses to know what a command does.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click


class Commands(click.Group):
    """``rows``: by name the module in ``crank.cli``, what the command is called in it, and its help in one line."""

    def __init__(self, *args: Any, rows: Mapping[str, tuple[str, str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.rows = rows

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(self.rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, or which one was probably meant."""
        near = [] if args[0] in self.rows else difflib.get_close_matches(args[0], self.rows, 1)
        if near:
            ctx.fail(f"there is no command {args[0]!r}; did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        row = self.rows.get(cmd_name)
        if row is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"crank.cli.{row[0]}"), row[1])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line each, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in self.rows.items()])
