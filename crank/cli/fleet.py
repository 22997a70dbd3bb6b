"""``crank workers`` and ``crank capabilities``: what the controllers know."""

from __future__ import annotations

from typing import Any

import click

from crank.cli.endings import run_client
from crank.cli.options import json_option, nats_option

# Of one answer; a page of thousands of workers would pass the size of a message.
_PAGE = 500


@click.command()
@json_option
@nats_option
def workers(as_json: bool, nats_url: str, prefix: str) -> None:
    """List the workers and how they are."""
    from crank.cli import show

    found = run_client(listed("workers", nats_url, prefix), as_json=as_json)
    if as_json:
        show.json_line({"workers": found})
        return
    if not found:
        click.echo("No workers. Start one: crank worker hello_world", err=True)
        return
    rows = [
        (
            str(worker.get("worker_id", "?")),
            str(worker.get("state", "?")),
            _age(worker.get("heartbeat_age_s")),
            str(worker.get("in_flight", "")),
            " ".join(names(worker.get("capabilities"))),
        )
        for worker in found
    ]
    show.table(("worker", "state", "heartbeat", "in flight", "capabilities"), rows, right=(2, 3))


@click.command()
@json_option
@nats_option
def capabilities(as_json: bool, nats_url: str, prefix: str) -> None:
    """List what can be asked for."""
    from crank.cli import show

    found = run_client(listed("capabilities", nats_url, prefix), as_json=as_json)
    if as_json:
        show.json_line({"capabilities": found})
        return
    if not found:
        click.echo("Nobody has offered anything. Start a worker: crank worker hello_world", err=True)
        return
    rows = [
        (
            f"{item.get('verb', '?')}:{item.get('name', '?')}",
            " ".join(map(str, item.get("versions") or ())),
            str(item.get("healthy_workers", "")),
            _count(item.get("workers")),
        )
        for item in found
    ]
    show.table(("capability", "versions", "healthy", "workers"), rows, right=(2, 3))


async def listed(what: str, nats_url: str, prefix: str) -> list[dict[str, Any]]:
    """Every item of an admin list, page by page."""
    from callers import Client

    async with await Client.connect(nats_url, prefix=prefix) as client:
        return await client.listed(what, limit=_PAGE)


def _age(seconds: object) -> str:
    return f"{seconds:.1f} s" if isinstance(seconds, int | float) else ""


def names(capabilities: object) -> list[str]:
    """``verb:name`` of each, whether the answer holds texts or objects."""
    items = capabilities if isinstance(capabilities, list) else []
    names = (f"{item.get('verb')}:{item.get('name')}" if isinstance(item, dict) else str(item) for item in items)
    return list(dict.fromkeys(names))


def _count(workers: object) -> str:
    return str(len(workers) if isinstance(workers, list) else workers if workers is not None else "")
