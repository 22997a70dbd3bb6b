"""Owns how a capability's standing changes, and who is told what then.

::

    ok ──burns──► ticket ──faster──► page ──nothing left──► exhausted        (any step at once, and over several)
     ▲               │                │                        │
     └───────────────┴── a minute of doing better ─────────────┘

``counting`` asks at every look; what it is told becomes ``<prefix>.event.slo.<event>`` and alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def changes(measured: Measured, wall_s: float, controller: str, says: str = "") -> list[Command]:
    """What everybody has to be told now, which counts as told; ``says`` is why, where it is another reason."""
    before, after = (_OK if each is _UNMEASURED else each for each in (measured.told, measured.standing))
    measured.told = measured.standing
    event = _EVENTS.get((before, after))
    if event is None:
        return []
    body = {**_body(measured, after, wall_s, controller), "before": before.value}
    body["cause"] = cause = _cause(measured, after, wall_s)
    text = _text(measured, f"{says or _SAYS[after]}{_left(body)}", cause)
    severity = _SEVERITY.get(after, "info")
    return [Publish("slo", event, body), *_alerts(measured, _channels(measured), text, event, severity, body)]


def retire(measured: Measured, wall_s: float, controller: str) -> list[Command]:
    """Its objective is gone: how it stands is nobody's concern, and what burned is over."""
    measured.standing, measured.better_at = _UNMEASURED, None
    return changes(measured, wall_s, controller, "nothing is asked of it any more: its objective was removed")


def thresholds(measured: Measured, wall_s: float, month: int, controller: str) -> list[Command]:
    """An alert for the shares of the month's budget that are newly spent: the highest of each channel."""
    objective = measured.objective
    if not objective.alerts:
        return []
    gone = burn.share_spent(objective, burn.month(measured.windows, wall_s))
    due = [
        each for each in objective.alerts if each.threshold <= gone and (month, each.threshold) not in measured.alerted
    ]
    if not due:
        return []
    measured.alerted |= {(month, each.threshold) for each in due}
    body = _body(measured, measured.standing, wall_s, controller)
    body["cause"] = cause = _cause(measured, _EXHAUSTED, wall_s)
    told: list[Command] = []
    for channel, share in {each.channel: each.threshold for each in sorted(due, key=lambda one: one.threshold)}.items():
        text = _text(measured, f"{share:.0%} of this month's error budget is spent{_left(body)}", cause)
        severity: Severity = "warning" if share < 1 else "critical"
        told += _alerts(measured, [channel], text, "budget", severity, {**body, "threshold": share})
    return told


def month_begins(measured: Measured, wall_s: float, month: int, controller: str) -> list[Command]:
    """Forget which shares of earlier months' budgets were told; what is left of them is over, unless it burns."""
    over = {share for when, share in measured.alerted if when != month}
    measured.alerted = {(when, share) for when, share in measured.alerted if when == month}
    if not over or _RANK[measured.told]:
        return []
    channels = dict.fromkeys(each.channel for each in measured.objective.alerts if each.threshold in over)
    body = _body(measured, measured.standing, wall_s, controller)
    text = _text(measured, "a new month has begun, and with it a new error budget", None)
    return _alerts(measured, channels, text, "recovered", "info", body)


def _channels(measured: Measured) -> Iterable[str]:
    return dict.fromkeys(alert.channel for alert in measured.objective.alerts) or {LOG: None}


def _alerts(
    measured: Measured, channels: Iterable[str], text: str, event: str, severity: Severity, body: dict[str, Any]
) -> list[Command]:
    """All are one affair of the capability's, so that its recovery ends it."""
    key = str(measured.objective.capability)
    return [Alert(channel, text, event, severity, key, body) for channel in channels]


def _text(measured: Measured, says: str, cause: Mapping[str, Any] | None) -> str:
    capability = measured.objective.capability
    why = ""
    if cause is not None:
        what = (
            "requests failed"
            if cause["indicator"] == "availability"
            else f"answers took longer than {measured.objective.target_ms:g} ms"
        )
        when = "this month" if cause["over"] == "month" else f"in the last {cause['over']}"
        why = f" {cause['bad']:,} of {cause['counted']:,} {what} {when}."
    return f"{capability}: {says}.{why} See: crank slo status {capability}"


def _cause(measured: Measured, stands: Standing, wall_s: float) -> dict[str, Any] | None:
    """The indicator that it is due to, and its counts over the time that matters."""
    objective, windows = measured.objective, measured.windows
    if stands is _EXHAUSTED:
        over, counts = "month", burn.month(windows, wall_s)
        name = burn.worst(objective, counts)
    else:
        found = burn.burning(objective, windows) if _RANK[stands] else None
        if found is None:
            return None
        (_, _, over, _), name = found
        counts = burn.window(windows, over)
    if name is None:
        return None
    spent = burn.spent(objective, counts)[name]
    return {"indicator": name, "over": over, "bad": spent.bad, "counted": spent.counted}


def _body(measured: Measured, stands: Standing, wall_s: float, controller: str) -> dict[str, Any]:
    objective, windows = measured.objective, measured.windows
    return {
        "capability": str(objective.capability),
        "budget_remaining_pct": remaining_pct(objective, measured, wall_s),
        "burn": {name: rounded(burn.burn_rate(objective, burn.window(windows, name)), 2) for name in WINDOWS},
        "owner": objective.owner,
        "tier": objective.tier,
        "standing": stands.value,
        "controller": controller,
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
