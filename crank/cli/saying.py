"""Owns the options that say something of a request or a job beside its data, for ``crank request`` and ``submit``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from crank.cli.options import HeaderLine, JsonObject, TokenCount

if TYPE_CHECKING:
    from callers.asking import Options

_MAX_TIMEOUT_MS = 86_400_000

_OPTIONS: dict[str, Callable[[Callable[..., None]], Callable[..., None]]] = {
    "timeout_ms": click.option(
        "--timeout-ms", type=click.IntRange(1, _MAX_TIMEOUT_MS),
        help="How long the answer may take; of a job, each attempt.",
    ),
    "latency_ms": click.option(
        "--latency-ms", type=click.IntRange(1, _MAX_TIMEOUT_MS),
        help="An objective of its own: how long the answer should take.",
    ),
    "priority": click.option(
        "--priority", type=click.Choice(["low", "normal", "high"]), help="Who goes first when not everybody can."
    ),
    "version": click.option(
        "--version", metavar="RANGE", help="Which versions will do, such as ^1.2 or '>=2,<3'."
    ),
    "budget_tokens": click.option(
        "--budget-tokens", type=TokenCount(), metavar="N", help="The most that it may cost."
    ),
    "constraints": click.option(
        "--constraints", type=JsonObject(), metavar="JSON",
        help="What the worker must have, such as '{\"gpu_count\": 1}': numbers mean at least, the rest means equal.",
    ),
    "headers": click.option(
        "--header", "headers", metavar="KEY=VALUE", type=HeaderLine(), multiple=True,
        help="Sent along; may be repeated.",
    ),
    "content_type": click.option(
        "--content-type", metavar="TYPE", help="Of DATA; default application/json, or what a file's name says."
    ),
}  # fmt: skip


def said_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add these options to a command, which gets what was said as ``said``."""

    @functools.wraps(command)
    def collected(**given: Any) -> None:
        said = {name: given.pop(name) for name in _OPTIONS}
        options: Options = {name: value for name, value in said.items() if value is not None}  # type: ignore[assignment]
        options["headers"] = dict(said["headers"])
        command(said=options, **given)

    decorated: Callable[..., None] = collected
    for option in reversed(_OPTIONS.values()):
        decorated = option(decorated)
    return decorated
