"""``crank slo status``: how objectives are met, and what is left of each budget.

On a terminal each is a few lines with a bar; in a file or pipe it is one line of a table. The worst come first.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from crank.cli.endings import FAILED, end, printable, run_client, say
from crank.cli.options import CapabilityName, json_option, nats_option

Row = Mapping[str, Any]
# Of one answer, which has to fit into a message.
_PAGE = 200
_BAR = 30
_NOTHING = "no data"
_COLOURS = {"ok": "green", "ticket": "yellow", "page": "red", "exhausted": "red"}
_WORST = ("exhausted", "page", "ticket", "ok")
_BURN = ("5m", "1h", "6h", "3d")


@click.command()
@click.argument("capabilities", nargs=-1, type=CapabilityName(), metavar="[CAPABILITY]...")
@json_option
@nats_option
def status(capabilities: tuple[str, ...], as_json: bool, nats_url: str, prefix: str) -> None:
    """Show how objectives are met, and what is left of each budget: all, or those of each CAPABILITY, as VERB:NAME.

    Latencies are those of the last hour; budgets are of this calendar month, UTC, over all controllers.
    """
    from crank.cli import show

    found, mistakes, controller = run_client(_asked(capabilities, nats_url, prefix), as_json=as_json)
    missing = [each for each in capabilities if each not in {row.get("capability") for row in found}]
    if as_json:
        show.json_line({"slo": found, "mistakes": mistakes, "controller": controller})
    elif found and sys.stdout.isatty():
        click.echo(_shown(sorted(found, key=_rank)))
    elif found:
        show.table(_COLUMNS, [_cells(row) for row in sorted(found, key=_rank)], right=range(3, len(_COLUMNS)))
    elif not missing:
        say("No objectives are in force. A controller reads those in slos/; see: crank slo check")
    if mistakes and not as_json:
        _say_mistakes(mistakes, controller)
    if missing:
        end(f"No objective is in force for {', '.join(missing)}. All that are: crank slo status", FAILED)


async def _asked(
    capabilities: Sequence[str], nats_url: str, prefix: str
) -> tuple[list[dict[str, Any]], list[str], str]:
    from callers import Client

    async with await Client.connect(nats_url, prefix=prefix) as client:
        if capabilities:
            found = []
            for verb, _, name in (each.partition(":") for each in dict.fromkeys(capabilities)):
                found += await client.listed("slo", limit=_PAGE, verb=verb, name=name)
        else:
            found = await client.listed("slo", limit=_PAGE)
        about = await client.admin("slo", {"limit": 1})
        mistakes = about.get("mistakes")
        told = [str(each) for each in mistakes] if isinstance(mistakes, list) else []
        return found, told, str(about.get("controller", "?"))


def _say_mistakes(mistakes: Sequence[str], controller: str) -> None:
    for mistake in mistakes:
        say(mistake)
    say(
        f"So says controller {controller}. What a broken file said before stays in force until it is mended; one that "
        "was broken when the controller started asks for nothing. See: crank slo check"
    )


def _rank(row: Row) -> int:
    """The worst first."""
    standing = row.get("standing")
    return _WORST.index(standing) if standing in _WORST else len(_WORST)


# On a terminal ------------------------------------------------------------------------


def _shown(rows: Sequence[Row]) -> str:
    measured = [_told(row) for row in rows if row.get("standing") != "unmeasured"]
    quiet = [_head(row, _NOTHING) for row in rows if row.get("standing") == "unmeasured"]
    return "\n\n".join([*measured, *(["\n".join(quiet)] if quiet else [])])


def _told(row: Row) -> str:
    standing = str(row.get("standing", "?"))
    head = _head(row, click.style(printable(standing), fg=_COLOURS.get(standing)))
    return "\n".join([head, *(f"  {line}" for line in (_budget(row), _good(row), _latencies(row), _burns(row)))])


def _head(row: Row, standing: str) -> str:
    name, phase = (printable(str(row.get(key, "?"))) for key in ("capability", "phase"))
    return f"{click.style(name, bold=True)}  {standing}  (phase {phase})"


def _budget(row: Row) -> str:
    left = _number(row.get("budget_remaining_pct"))
    if left is None:
        return f"budget   {'·' * _BAR}  {_NOTHING}"
    full = round(_BAR * max(0.0, min(left, 100.0)) / 100)
    colour = "green" if left > 50 else "yellow" if left > 0 else "red"
    bar = click.style("█" * full, fg=colour) + "░" * (_BAR - full)
    if row.get("judged") is False:
        return f"budget   {bar}  few requests: not judged yet"
    told = f"{left:.1f} % left" if left >= 0 else f"spent {1 - left / 100:.3g} times"
    return f"budget   {bar}  {told}{_worse(row, left)}"


def _worse(row: Row, left: float) -> str:
    """Which indicator it is of."""
    which = [printable(name) for name, each in _mapping(row, "left_pct").items() if _number(each) == left]
    return f" ({which[0]})" if which else ""


def _good(row: Row) -> str:
    events, target = _mapping(row, "events"), _number(_mapping(row, "targets").get("budget"))
    asked = f", {100 * (1 - target):.6g} % asked for" if target is not None else ""
    good = _number(row.get("availability"))
    if good is None:
        return f"good     {_NOTHING}{asked}"
    would = None if _enforced(row) else _number(events.get("would"))
    noted = f"; {would:,.0f} would be refused" if would else ""
    return f"good     {_percent(good)} of {_number(events.get('requests')) or 0:,.0f} requests{asked}{noted}"


def _enforced(row: Row) -> bool:
    """Whether requests are refused already, at least of some callers."""
    begins = _number(row.get("enforced_from_s")) or 0.0
    return row.get("phase") != "log" and row.get("reject_on_violation") is True and time.time() >= begins


def _latencies(row: Row) -> str:
    targets = _mapping(row, "targets")
    parts = []
    for name in ("p50", "p95", "p99"):
        ms, most = _number(row.get(f"{name}_ms")), _number(targets.get(f"{name}_ms"))
        if ms is None and most is None:
            continue
        text = f"{name} {_ms(ms)}" + (f" of {most:g}" if most is not None else "")
        parts.append(click.style(text, fg="red") if ms is not None and most is not None and ms > most else text)
    return f"latency  {', '.join(parts)} ms" if parts else f"latency  {_NOTHING}"


def _burns(row: Row) -> str:
    burn = _mapping(row, "burn")
    told = [(name, _number(burn.get(name))) for name in _BURN]
    if all(rate is None for _, rate in told):
        return f"burns    {_NOTHING}"
    return f"burns    {', '.join(f'{_rate(rate)} in {name}' for name, rate in told)}"


# In a file or pipe --------------------------------------------------------------------

_COLUMNS = (
    "capability",
    "phase",
    "standing",
    "left_pct",
    "good_pct",
    "requests",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "burn_1h",
)


def _cells(row: Row) -> Sequence[str]:
    good = _number(row.get("availability"))
    return (
        str(row.get("capability", "?")),
        str(row.get("phase", "?")),
        str(row.get("standing", "?")),
        _plain(row.get("budget_remaining_pct")),
        _plain(None if good is None else 100 * good),
        _plain(_mapping(row, "events").get("requests")),
        *(_plain(row.get(f"{name}_ms")) for name in ("p50", "p95", "p99")),
        _plain(_mapping(row, "burn").get("1h")),
    )


def _plain(value: object) -> str:
    number = _number(value)
    return "-" if number is None else f"{number:.6g}"


# Values -------------------------------------------------------------------------------


def _mapping(row: Row, name: str) -> Mapping[str, Any]:
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _ms(ms: float | None) -> str:
    return _NOTHING if ms is None else f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1f}×"


def _percent(share: float) -> str:
    """Never 100 % where something failed."""
    text = f"{100 * share:.2f}"
    return "99.99+ %" if text == "100.00" and share < 1 else f"{text} %"
