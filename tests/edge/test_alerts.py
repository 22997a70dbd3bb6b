"""Alerts reach the log and webhooks: a real HTTP server takes them, or does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controller.core import counting
from controller.core.commands import Alert
from controller.core.objectives import AlertAt, Objective
from controller.edge import alerts
from controller.edge.alerts import Alerts
from controller.settings import ControllerSettings, SettingsError, Webhook, load_settings
from subjects.tokens import CapabilityId
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller, until
from tests.edge.test_slo_counts import SLO, ask, behave

HELLO = CapabilityId("greet:hello")
SECRET = "T0PS3CRET"


class Receiver:
    """An HTTP server; ``answers`` are the statuses of the next requests, then 200."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.answers: list[int] = []
        self.url = ""
        self.hold: asyncio.Event | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_post("/{what:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.got.append((request.path, await request.json()))
        if self.hold is not None:
            await self.hold.wait()
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """One that listens."""
    made = Receiver()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long before the next try."""
    monkeypatch.setattr(alerts, "_PAUSES_S", (0.02, 0.02))
    monkeypatch.setattr(alerts, "_STOP_S", 0.5)


def alert(channel: str, event: str = "burning", at: int = 0) -> Alert:
    """Something happened."""
    body = {"capability": str(HELLO), "controller": "c-1", "standing": "page", "at": at}
    return Alert(channel, f"{HELLO}: it burns", event, "critical", str(HELLO), body)


def take(channels: Alerts) -> Callable[[Alert], object]:
    """What the driver calls."""
    return channels.handlers[Alert]


async def test_each_kind_of_webhook_gets_what_it_understands(receiver: Receiver) -> None:
    """Slack a text, PagerDuty an event of its API that a recovery resolves, anybody else plain JSON."""
    channels = Alerts(
        {
            "slack": Webhook(url=f"{receiver.url}/slack"),
            "pagerduty": Webhook(url=f"{receiver.url}/pd", routing_key=SECRET),
            "ops": Webhook(url=f"{receiver.url}/ops"),
        },
        "crank",
    )
    for channel in ("slack", "pagerduty", "ops"):
        take(channels)(alert(channel))
    take(channels)(alert("pagerduty", "recovered"))
    await until(lambda: len(receiver.got) == 4)
    got = {path: body for path, body in receiver.got if body.get("event_action") != "resolve"}
    assert got["/slack"] == {"text": "greet:hello: it burns"}
    page = got["/pd"]
    assert (page["routing_key"], page["event_action"], page["dedup_key"]) == (SECRET, "trigger", "crank:greet:hello")
    assert page["payload"]["summary"] == "greet:hello: it burns"
    assert (page["payload"]["severity"], page["payload"]["source"]) == ("critical", "c-1")
    assert got["/ops"]["event"] == "burning"
    assert got["/ops"]["capability"] == "greet:hello"
    (resolved,) = [body for _, body in receiver.got if body.get("event_action") == "resolve"]
    assert resolved["dedup_key"] == page["dedup_key"]
    await channels.stop()


@pytest.mark.parametrize(
    ("answers", "tries", "delivered"),
    [([503, 429], 3, True), ([500, 500, 500], 3, False), ([404], 1, False), ([302], 1, False), ([204], 1, True)],
)
async def test_it_is_tried_three_times_where_that_may_help(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, answers: list[int], tries: int, delivered: bool
) -> None:
    """What is not delivered is told in the log, words and all, and without the address."""
    channels = Alerts({"slack": Webhook(url=f"{receiver.url}/{SECRET}")}, "crank")
    receiver.answers = answers
    take(channels)(alert("slack"))
    await channels.stop()
    assert len(receiver.got) == tries
    assert ("could not be delivered to slack" in caplog.text) is not delivered
    assert ("it burns" in caplog.text) is not delivered
    assert SECRET not in caplog.text


async def test_who_does_not_answer_holds_nobody_up(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook that hangs keeps its own queue, which is bounded; the others' alerts are delivered."""
    monkeypatch.setattr(alerts, "_MOST_WAITING", 3)
    receiver.hold = asyncio.Event()
    quick = Receiver()
    await quick.start()
    slow = Webhook(url=f"{receiver.url}/{SECRET}")
    channels = Alerts({"slow": slow, "quick": Webhook(url=quick.url)}, "crank")
    for at in range(6):
        take(channels)(alert("slow", at=at))
    take(channels)(alert("quick"))
    await until(lambda: len(quick.got) == 1)
    assert caplog.text.count("3 wait already") == 3
    await channels.stop()
    receiver.hold.set()
    assert "given up" in caplog.text
    assert SECRET not in caplog.text
    await quick.stop()


async def test_nobody_there_is_told_without_the_address(caplog: pytest.LogCaptureFixture) -> None:
    """A port where nothing listens, and a name that cannot be."""
    channels = Alerts(
        {"ops": Webhook(url=f"http://127.0.0.1:9/{SECRET}"), "more": Webhook(url=f"http://[::1:9/{SECRET}")}, "crank"
    )
    for channel in ("ops", "more"):
        take(channels)(alert(channel))
    await channels.stop()
    assert caplog.text.count("could not be delivered") == 2
    assert SECRET not in caplog.text


async def test_a_channel_that_nobody_set_up_is_told_once_and_its_alerts_go_to_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """So does the channel called log, which is always there."""
    caplog.set_level(logging.INFO)
    channels = Alerts({}, "crank")
    objectives = {HELLO: Objective(HELLO, alerts=(AlertAt(0.5, "slack"), AlertAt(0.9, "log")))}
    channels.named_by(objectives)
    channels.named_by(objectives)
    assert caplog.text.count("nobody set it up") == 1
    take(channels)(alert("slack"))
    take(channels)(alert("log"))
    assert [each.levelname for each in caplog.records if "it burns" in each.message] == ["ERROR", "ERROR"]
    await channels.stop()


async def test_a_burning_objective_reaches_the_webhook(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, receiver: Receiver, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """From failing requests to Slack, and on NATS for anybody who listens."""
    monkeypatch.setattr(counting, "EVERY_S", 0.2)
    events: list[str] = []
    await caller.bus.subscribe("crank.event.slo.>", lambda subject, *_: events.append(subject))
    (tmp_path / "test_echo.yaml").write_text(SLO.format(channel="slack"))
    await start_controller(controller_id="c-1", slos=tmp_path, alert_webhooks={"slack": f"{receiver.url}/hook"})
    await start_worker(behave=behave)
    await ask(caller, 10, 20)
    await until(lambda: bool(receiver.got) and bool(events))
    assert events == ["crank.event.slo.exhausted"]
    text = receiver.got[0][1]["text"]
    assert text.startswith("test:echo: this month's error budget is spent. ")
    assert "requests failed this month. See: crank slo status test:echo" in text
    (tmp_path / "test_echo.yaml").unlink()
    await until(lambda: events[1:] == ["crank.event.slo.recovered"])
    await until(lambda: "its objective was removed" in receiver.got[-1][1]["text"])


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (f"nonsense{SECRET}", "it is no JSON"),
        ("[1]", ""),
        (f'{{"slack": "ftp://x/{SECRET}"}}', "the address of slack is not http://… or https://…"),
        (f'{{"slack": {{"url": "http:///{SECRET}"}}}}', "the address of slack is not http://… or https://…"),
        (f'{{"slack": {{"urls": "{SECRET}"}}}}', "slack.url is missing"),
        (f'{{"slack": {{"url": ["{SECRET}"]}}}}', "slack.url is of the wrong kind"),
        (f'{{"slack": {{"url": "http://x", "key": "{SECRET}"}}}}', "slack.key is unknown"),
        (f'{{"slack": ["{SECRET}"]}}', "slack is of the wrong kind"),
        (f'{{"pagerduty": "https://x/{SECRET}"}}', "pagerduty lacks its routing_key"),
        (f'{{"a b": "https://x/{SECRET}"}}', "a channel's name is not"),
        (f'{{"https://x/{SECRET}": "slack"}}', "a channel's name is not"),
        (f'{{"https://x/{SECRET}": ["slack"]}}', "a channel is of the wrong kind"),
        (f'{{"slack": "http://[{SECRET}"}}', "the address of slack is not http://… or https://…"),
    ],
)
def test_a_wrong_address_is_told_without_repeating_it(monkeypatch: pytest.MonkeyPatch, value: str, fault: str) -> None:
    """The mistake names the setting, what it should be, and which channel is wrong in what."""
    monkeypatch.setenv("CRANK_ALERT_WEBHOOKS", value)
    with pytest.raises(SettingsError, match="CRANK_ALERT_WEBHOOKS must be a mapping") as wrong:
        load_settings()
    assert fault in str(wrong.value)
    assert SECRET not in str(wrong.value)


def test_addresses_come_from_a_file_or_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A plain address, or one with PagerDuty's key; neither is shown with the settings."""
    config = tmp_path / "crank.yaml"
    config.write_text(
        f"alert_webhooks: {{slack: 'https://hooks/{SECRET}', pagerduty: {{url: 'https://pd/', routing_key: {SECRET}}}}}"
    )
    settings = load_settings(config)
    assert settings.alert_webhooks["slack"].url == f"https://hooks/{SECRET}"
    assert settings.alert_webhooks["pagerduty"].routing_key == SECRET
    assert SECRET not in repr(settings)
    monkeypatch.setenv("CRANK_ALERT_WEBHOOKS", '{"slack": "https://other/"}')
    assert load_settings(config).alert_webhooks == {"slack": Webhook(url="https://other/")}
    monkeypatch.delenv("CRANK_ALERT_WEBHOOKS")
    assert ControllerSettings().alert_webhooks == {}
