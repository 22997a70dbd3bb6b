"""Owns how a capability's standing changes, and who is told what then.

::

    ok ──burns──► ticket ──faster──► page ──nothing left──► exhausted        (any step at once, and over several)
     ▲               │                │                        │
     └───────────────┴── a minute of doing better ─────────────┘

``counting`` asks at every look; what it is told becomes ``<prefix>.event.slo.<event>`` and alerts.
"""

from __future__ import annotations

from typing import Any

from controller.core import burn
from controller.core.burn import WINDOWS, Standing
from controller.core.commands import Alert, Command, Publish, Severity
from controller.core.compliance import Measured
from controller.core.objectives import Objective

_UNMEASURED, _OK, _TICKET, _PAGE, _EXHAUSTED = Standing
_RANK = {standing: rank for rank, standing in enumerate((_OK, _TICKET, _PAGE, _EXHAUSTED))} | {_UNMEASURED: 0}
# By how it stood and how it stands: what that is called.
_EVENTS = {
    (_OK, _TICKET): "burning",
    (_OK, _PAGE): "burning",
    (_OK, _EXHAUSTED): "exhausted",
    (_TICKET, _PAGE): "burning",
    (_TICKET, _EXHAUSTED): "exhausted",
    (_TICKET, _OK): "recovered",
    (_PAGE, _TICKET): "burning",
    (_PAGE, _EXHAUSTED): "exhausted",
    (_PAGE, _OK): "recovered",
    (_EXHAUSTED, _PAGE): "burning",
    (_EXHAUSTED, _TICKET): "burning",
    (_EXHAUSTED, _OK): "recovered",
}
_SEVERITY: dict[Standing, Severity] = {_TICKET: "warning", _PAGE: "critical", _EXHAUSTED: "critical"}
_SAYS = {
    _TICKET: "its error budget burns too fast to last the month",
    _PAGE: "its error budget burns so fast that it is gone in hours or days",
    _EXHAUSTED: "this month's error budget is spent",
    _OK: "its error budget burns no faster than it may",
}
# What hovers about a threshold is told once: it does better when it has done so for as long.
CALM_S = 60.0
LOG = "log"
"""The channel of those who name none."""


def settle(measured: Measured, now_stands: Standing, now: float) -> None:
    """Take in how it stands at this moment: worse counts at once, better when it stays so."""
    if _RANK[now_stands] >= _RANK[measured.standing]:
        measured.standing, measured.better_at = now_stands, None
    elif measured.better_at is None:
        measured.better_at = now
    elif now - measured.better_at >= CALM_S:
        measured.standing, measured.better_at = now_stands, None


def changes(measured: Measured, wall_s: float, controller: str) -> list[Command]:
    """What everybody has to be told now, which counts as told."""
    before, after = (_OK if each is _UNMEASURED else each for each in (measured.told, measured.standing))
    measured.told = measured.standing
    event = _EVENTS.get((before, after))
    if event is None:
        return []
    objective = measured.objective
    body = {**_figures(measured, wall_s), "standing": after.value, "before": before.value, "controller": controller}
    text = f"{objective.capability}: {_SAYS[after]}{_left(body)}."
    channels = dict.fromkeys(alert.channel for alert in objective.alerts) or {LOG: None}
    alerts = [
        Alert(channel, text, event, _SEVERITY.get(after, "info"), str(objective.capability), body)
        for channel in channels
    ]
    return [Publish("slo", event, body), *alerts]


def retire(measured: Measured, wall_s: float, controller: str) -> list[Command]:
    """Its objective is gone: how it stands is nobody's concern, and what burned is over."""
    measured.standing, measured.better_at = _UNMEASURED, None
    return changes(measured, wall_s, controller)


def thresholds(measured: Measured, wall_s: float, month: int, controller: str) -> list[Command]:
    """An alert for each share of the month's budget that is newly spent."""
    objective = measured.objective
    if not objective.alerts:
        return []
    gone = burn.share_spent(objective, burn.month(measured.windows, wall_s))
    due = [
        each for each in objective.alerts if each.threshold <= gone and (month, each.threshold) not in measured.alerted
    ]
    if not due:
        return []
    measured.alerted = {(when, share) for when, share in measured.alerted if when == month}
    measured.alerted |= {(month, each.threshold) for each in due}
    body = {**_figures(measured, wall_s), "standing": measured.standing.value, "controller": controller}
    return [
        Alert(
            each.channel,
            f"{objective.capability}: {each.threshold:.0%} of this month's error budget is spent{_left(body)}.",
            "budget",
            "warning" if each.threshold < 1 else "critical",
            f"{objective.capability}:{month}:{each.threshold:g}",
            {**body, "threshold": each.threshold},
        )
        for each in due
    ]


def _figures(measured: Measured, wall_s: float) -> dict[str, Any]:
    objective, windows = measured.objective, measured.windows
    return {
        "capability": str(objective.capability),
        "budget_remaining_pct": remaining_pct(objective, measured, wall_s),
        "burn": {name: rounded(burn.burn_rate(objective, burn.window(windows, name)), 2) for name in WINDOWS},
        "owner": objective.owner,
        "tier": objective.tier,
    }


def remaining_pct(objective: Objective, measured: Measured, wall_s: float) -> float | None:
    """What is left of the month's budget in per cent, the worse of both indicators; None: nothing was measured."""
    left = burn.left_pct(objective, burn.month(measured.windows, wall_s)).values()
    return rounded(min((each for each in left if each is not None), default=None), 2)


def rounded(value: float | None, digits: int) -> float | None:
    """For people."""
    return None if value is None else round(value, digits) + 0.0  # which makes a zero of minus zero


def _left(body: dict[str, Any]) -> str:
    left = body["budget_remaining_pct"]
    return f"; {left:g} % of it is left" if left is not None and left > 0 else ""
