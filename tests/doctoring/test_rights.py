"""Who may do what: users with exactly the rights of a role, with one less, and with none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest

from bus import Bus
from bus.inspection import stream
from callers import Client, CrankError
from controller.app import Controller
from controller.settings import ControllerSettings
from crank.doctoring.rights import Needs
from crank.natsd import NatsServer
from subjects.names import Subjects
from tests.doctoring.conftest import StartServer
from tests.doctoring.looking import fault, looked, of
from tests.edge.conftest import StartController, StartWorker
from workers import Worker

ANSWERS = ["_INBOX.>"]


def grants(*roles: str) -> tuple[list[str], list[str]]:
    """What may be published and subscribed, as ``crank doctor`` would propose it for ``roles``."""
    needs = [need for role in roles for need in Needs(Subjects(), "nobody", None).roles()[role]]
    return tuple(sorted({need.grant for need in needs if need.right.act == act}) for act in ("publish", "subscribe"))  # type: ignore[return-value]


def user(name: str, publish: Iterable[str], subscribe: Iterable[str]) -> str:
    """One user of nats-server's configuration, whose password is its name."""
    rights = f"publish: {{ allow: {json.dumps(list(publish))} }}, subscribe: {{ allow: {json.dumps(list(subscribe))} }}"
    return f"{{ user: {name}, password: {name}, permissions: {{ {rights} }} }}"


def authorization(*users: str) -> str:
    """The block of nats-server's configuration."""
    return f"authorization {{ users: [ {', '.join(users)} ] }}"


def role(name: str, *, without: str = "", more: Iterable[str] = ()) -> str:
    """A user with the rights of a role of the same name, less one."""
    publish, subscribe = grants(name)
    kept = [subject for subject in publish if subject != without], [s for s in subscribe if s != without]
    return user(name, (*kept[0], *more), (*kept[1], *ANSWERS))


async def test_what_each_role_is_said_to_need_is_enough(start_server: StartServer) -> None:
    """A controller, a worker and a caller with nothing else do their work."""
    server = await start_server(
        authorization(role("controller", more=ANSWERS), role("worker", more=ANSWERS), role("caller"))
    )
    urls = {name: server.url.replace("//", f"//{name}:{name}@") for name in ("controller", "worker", "caller")}
    for name, url in urls.items():
        said = of(await looked(url), "permissions")
        assert [(finding.result, finding.found) for finding in said] == [("ok", f"this user may do what a {name} does")]
    worker = Worker("echo")

    @worker.capability("test:echo")
    async def echo(text: str) -> str:
        return text

    controller = Controller(ControllerSettings(nats_url=urls["controller"], http_port=0))
    stop = asyncio.Event()
    await controller.start()
    serving = asyncio.create_task(worker.serve(urls["worker"], stop=stop))
    try:
        async with await Client.connect(urls["caller"]) as client, asyncio.timeout(10):
            while (answer := await _try(client)) is None:
                await asyncio.sleep(0.02)
        assert answer == "hello"
        assert of(await looked(urls["caller"]), "controllers")[0].result == "ok"
    finally:
        stop.set()
        await serving
        await controller.stop()


async def _try(client: Client) -> str | None:
    try:
        return (await client.request("test:echo", "hello", headers={"Content-Type": "text/plain"})).body.decode()
    except CrankError:
        return None  # nobody has offered it yet


@pytest.mark.parametrize(
    ("name", "without", "told"),
    [
        ("controller", "crank.request.>", "as a controller: it may not subscribe crank.request.>"),
        ("controller", "crank.registry.*", "as a controller: it may not publish crank.registry.*"),
        ("controller", "$JS.API.STREAM.CREATE.CRANK_REGISTRY", "may not publish $JS.API.STREAM.CREATE.CRANK_REGISTRY"),
        ("worker", "crank.heartbeat.*", "as a worker: it may not publish crank.heartbeat.*"),
        ("worker", "crank.worker.*.>", "as a worker: it may not subscribe crank.worker.*.>"),
        ("caller", "crank.cancel.*", "as a caller: it may not publish crank.cancel.*"),
    ],
)
async def test_a_right_that_a_role_lacks_is_told_with_what_grants_it(
    start_server: StartServer, name: str, without: str, told: str
) -> None:
    """By role and subject; everything else of the role is there."""
    server = await start_server(authorization(role(name, without=without, more=ANSWERS)))
    found = await fault(server.url.replace("//", f"//{name}:{name}@"), "permissions")
    assert found.result == "problem"
    assert told in found.found
    assert f'["{without}"]' in found.mend


async def test_half_of_another_role_is_only_warned_of(start_server: StartServer) -> None:
    """It may be meant: a caller that may also publish heartbeats."""
    publish, _ = grants("caller")
    server = await start_server(authorization(user("a", (*publish, "crank.heartbeat.*"), ANSWERS)))
    report = await looked(server.url.replace("//", "//a:a@"))
    assert [(f.result, f.found.partition(":")[0]) for f in of(report, "permissions")] == [
        ("ok", "this user may do what a caller does"),
        ("warning", "as a worker"),
    ]


@pytest.mark.parametrize(
    ("publish", "subscribe", "told"),
    [
        (["else.>"], ANSWERS, "may do nothing that a controller, worker, caller or operator does"),
        (["crank.>"], ["else.>"], "no answer reaches it"),
    ],
)
async def test_a_user_that_can_take_no_part_is_a_problem(
    start_server: StartServer, publish: list[str], subscribe: list[str], told: str
) -> None:
    """Nothing is allowed, or no answer; and what cannot be asked is not waited for."""
    server = await start_server(authorization(user("a", publish, subscribe)))
    url = server.url.replace("//", "//a:a@")
    found = await fault(url, "permissions")
    assert found.result == "problem"
    assert told in found.found
    unseen = [finding.found for finding in (await looked(url)).findings if "not looked at" in finding.found]
    assert len(unseen) == 2


async def test_a_worker_that_may_answer_nobody_is_warned_of(start_server: StartServer) -> None:
    """Unless it may answer whatever it is asked, which cannot be seen from here."""
    server = await start_server(authorization(role("worker")))
    found = await fault(server.url.replace("//", "//worker:worker@"), "permissions")
    assert (found.result, "_INBOX.>" in found.found, "allow_responses" in found.mend) == ("warning", True, True)


async def test_a_user_for_one_worker_is_looked_at_for_that_worker(start_server: StartServer) -> None:
    """Its rights name its id, and the queue group that workers share."""
    publish = [f"crank.{kind}.w-1" for kind in ("register", "deregister", "heartbeat")]
    subscribe = ["crank.worker.w-1.> w", "crank.control.w-1", *ANSWERS]
    server = await start_server(authorization(user("a", (*publish, *ANSWERS), subscribe)))
    url = server.url.replace("//", "//a:a@")
    report = await looked(url, worker_id="w-1")
    assert of(report, "permissions")[0].found == "this user may do what a worker does"
    assert "may do nothing" in (await fault(url, "permissions")).found


async def test_looking_changes_nothing(
    start_server: StartServer, start_controller: StartController, start_worker: StartWorker, nats_server: NatsServer
) -> None:
    """No count moves, nothing is stored, nobody is asked to work, and no worker or controller minds."""
    await start_controller(controller_id="c-1")
    worker = await start_worker("w-1")
    bus = await Bus.connect(nats_server.url, name="t")
    client = Client(bus, "crank")

    async def state() -> tuple[object, ...]:
        kept = await stream(bus, "CRANK_REGISTRY")
        assert kept is not None
        health = (await client.admin("health"))["health"]
        (row,) = await client.listed("workers")
        return health, kept.state, row["state"], row["in_flight_reported"], worker.registrations, len(worker.dispatches)

    before = await state()
    report = await looked(nats_server.url, worker_id="w-1")
    assert {finding.result for finding in report.findings} == {"ok"}
    assert await state() == before
    assert worker.controls == []
    await bus.close()
