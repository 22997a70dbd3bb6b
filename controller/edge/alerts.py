"""Owns the channels that alerts go to: the log, and webhooks that take them as Slack or PagerDuty do, or as plain JSON.

It never holds anybody up: each webhook has a queue and a task of its own. Addresses and keys are secrets and are
written nowhere. What cannot be delivered is told in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bus.ending import end
from controller.core.commands import Alert, Severity
from controller.core.events import Event
from controller.core.objective_states import LOG
from controller.core.objectives import Objective
from subjects.messages import encode

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from controller.settings import Webhook

log = logging.getLogger("crank.alerts")

# Of one webhook; whoever is so far behind gets the newest no sooner.
_MOST_WAITING = 100
_TIMEOUT_S = 5.0
# Before the second and the third try.
_PAUSES_S = (1.0, 5.0)
_STOP_S = 3.0
_TOO_MANY = 429
_LEVELS: dict[Severity, int] = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


def as_slack(alert: Alert, webhook: Webhook, prefix: str) -> dict[str, Any]:
    """The body of an incoming webhook of Slack, and of those who take the same."""
    return {"text": alert.text}


def as_pagerduty(alert: Alert, webhook: Webhook, prefix: str) -> dict[str, Any]:
    """An event of PagerDuty's Events API v2; what recovered resolves the incident."""
    return {
        "routing_key": webhook.routing_key,
        "event_action": "resolve" if alert.event == "recovered" else "trigger",
        "dedup_key": f"{prefix}:{alert.key}",
        "payload": {
            "summary": alert.text,
            "source": str(alert.body.get("controller", prefix)),
            "severity": alert.severity,
            "component": str(alert.body.get("capability", "")),
            "custom_details": alert.body,
        },
    }


def as_json(alert: Alert, webhook: Webhook, prefix: str) -> dict[str, Any]:
    """Everything, for whoever reads JSON."""
    told = {"channel": alert.channel, "event": alert.event, "severity": alert.severity, "text": alert.text}
    return {**alert.body, **told, "key": f"{prefix}:{alert.key}"}


_BODIES = {"slack": as_slack, "pagerduty": as_pagerduty}


class Alerts:
    """Every channel of one controller."""

    def __init__(self, webhooks: Mapping[str, Webhook], prefix: str) -> None:
        self._channels = {name: _Channel(name, webhook, prefix) for name, webhook in webhooks.items()}
        self._unknown: frozenset[str] = frozenset()
        self.handlers: dict[type[Any], Callable[[Any], Event | None]] = {Alert: self._take}

    def named_by(self, objectives: Mapping[Any, Objective]) -> None:
        """These are in force now: say which of their channels nobody set up."""
        named = {alert.channel for each in objectives.values() for alert in each.alerts}
        unknown = frozenset(named - self._channels.keys() - {LOG})
        for channel in sorted(unknown - self._unknown):
            log.warning(
                "objectives name the channel %s, and nobody set it up: its alerts go to the log. Give it an address "
                "in the setting alert_webhooks",
                channel,
            )
        self._unknown = unknown

    def _take(self, alert: Alert) -> None:
        channel = self._channels.get(alert.channel)
        if channel is None:
            log.log(_LEVELS[alert.severity], "%s", alert.text)
        else:
            channel.take(alert)

    async def stop(self) -> None:
        """Let what is under way be delivered, for a while."""
        await asyncio.gather(*(channel.stop() for channel in self._channels.values()))


class _Channel:
    """One webhook."""

    def __init__(self, name: str, webhook: Webhook, prefix: str) -> None:
        self._name = name
        self._webhook = webhook
        self._prefix = prefix
        self._body = _BODIES.get(name, as_json)
        self._waiting: asyncio.Queue[Alert] = asyncio.Queue(_MOST_WAITING)
        self._task: asyncio.Task[None] | None = None

    def take(self, alert: Alert) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._deliver_all())
        try:
            self._waiting.put_nowait(alert)
        except asyncio.QueueFull:
            self._undelivered(alert, f"{_MOST_WAITING} wait already")

    async def stop(self) -> None:
        if self._task is None:
            return
        try:
            await asyncio.wait_for(self._waiting.join(), _STOP_S)
        except TimeoutError:
            log.warning("alerts to %s are given up: the controller stops", self._name)
        await end(self._task)

    async def _deliver_all(self) -> None:
        from aiohttp import ClientSession, ClientTimeout  # most controllers never need it

        async with ClientSession(timeout=ClientTimeout(_TIMEOUT_S), trust_env=True) as session:
            while True:
                alert = await self._waiting.get()
                try:
                    wrong = await self._deliver(session, alert)
                    if wrong:
                        self._undelivered(alert, wrong)
                finally:
                    self._waiting.task_done()

    async def _deliver(self, session: ClientSession, alert: Alert) -> str:
        """Why it was not taken, or ""."""
        body = encode(self._body(alert, self._webhook, self._prefix))
        wrong, may_help = await self._post(session, body)
        for pause_s in _PAUSES_S:
            if not may_help:
                break
            await asyncio.sleep(pause_s)
            wrong, may_help = await self._post(session, body)
        return wrong

    async def _post(self, session: ClientSession, body: bytes) -> tuple[str, bool]:
        """What went wrong, or "", and whether trying again may help."""
        from aiohttp import ClientError

        headers = {"Content-Type": "application/json"}
        try:
            async with session.post(self._webhook.url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except (ClientError, OSError, ValueError, TimeoutError) as error:
            return type(error).__name__, True  # its words hold the address
        if 200 <= status < 300:
            return "", False
        return f"it answered {status}", status == _TOO_MANY or status >= 500

    def _undelivered(self, alert: Alert, wrong: str) -> None:
        log.error("an alert could not be delivered to %s (%s): %s", self._name, wrong, alert.text)
