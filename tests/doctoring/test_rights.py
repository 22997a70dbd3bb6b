"""Who may do what: users with exactly the rights of a role, with one less, and with none."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable

import pytest

from bus import Bus
from bus.inspection import stream
from callers import Answer, Client, CrankError
from controller.app import Controller
from controller.settings import ControllerSettings
from crank.doctoring import Finding
from crank.doctoring.needs import Needs
from crank.natsd import NatsServer
from subjects.names import Subjects
from tests.cli.conftest import ROOT
from tests.doctoring.conftest import StartServer
from tests.doctoring.looking import fault, looked, of
from tests.edge.conftest import StartController, StartWorker
from workers import Worker, WorkerError

ANSWERS = ["_INBOX.>"]


def grants(role: str) -> tuple[list[str], list[str]]:
    """What ``crank doctor`` wants published and subscribed, answers and inboxes apart."""
    needs = Needs(Subjects(), "nobody", None).roles()[role]
    publish, subscribe = ({need.grant for need in needs if need.right.act == act} for act in ("publish", "subscribe"))
    return sorted(publish), sorted(subscribe)


def user(name: str, publish: Iterable[str], subscribe: Iterable[str], more: str = "") -> str:
    """One user of nats-server's configuration, whose password is its name."""
    rights = f"publish: {json.dumps(list(publish))}, subscribe: {json.dumps(list(subscribe))}{more}"
    return f"{{ user: {name}, password: {name}, permissions: {{ {rights} }} }}"


def authorization(*users: str) -> str:
    """The block of nats-server's configuration."""
    return f"authorization {{ users: [ {', '.join(users)} ] }}"


def signed_in(server: NatsServer, name: str) -> str:
    """The address of ``server`` with that user."""
    return server.url.replace("//", f"//{name}:{name}@")


def role(name: str, *, without: str = "", more: Iterable[str] = ()) -> str:
    """A user with the rights of a role of the same name, less one."""
    publish, subscribe = ([subject for subject in subjects if subject != without] for subjects in grants(name))
    return user(name, (*publish, *more), (*subscribe, *ANSWERS))


def documented() -> dict[str, tuple[list[str], list[str]]]:
    """The table of rights in ``docs/operations.md``, by role."""
    rows = re.findall(r"^\| (\w+) \| (`.+`) \| (`.+`) \|$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    return {name: (re.findall(r"`(.+?)`", publish), re.findall(r"`(.+?)`", hear)) for name, publish, hear in rows}


def test_what_the_guide_says_each_role_needs_is_what_is_tried() -> None:
    """And an inbox for everybody, and answers for those who are asked."""
    for name, (publish, subscribe) in documented().items():
        assert sorted(set(publish) - set(ANSWERS)) == grants(name)[0]
        assert sorted(set(subscribe) - set(ANSWERS)) == grants(name)[1]
    assert list(documented()) == ["controller", "worker", "caller", "operator"]


@pytest.mark.parametrize("answering", ["_INBOX.>", "allow_responses"])
async def test_what_each_role_is_said_to_need_is_enough(start_server: StartServer, answering: str) -> None:
    """A controller, a worker, a caller and an operator with nothing else do their work."""
    rights = documented()
    users = [user(name, *rights[name]) for name in ("controller", "worker", "caller", "operator")]
    if answering == "allow_responses":
        publish, subscribe = rights["worker"]
        users[1] = user("worker", set(publish) - set(ANSWERS), subscribe, ", allow_responses: true")
    server = await start_server(authorization(*users))
    worker = Worker("echo")

    @worker.capability("test:echo")
    async def echo(text: str) -> str:
        return text

    @worker.capability("test:fail")
    async def fail() -> None:
        raise WorkerError("as it should")

    controller = Controller(ControllerSettings(nats_url=signed_in(server, "controller"), http_port=0, slos=None))
    stop = asyncio.Event()
    await controller.start()
    serving = asyncio.create_task(worker.serve(signed_in(server, "worker"), stop=stop))
    try:
        async with await Client.connect(signed_in(server, "caller")) as client, asyncio.timeout(10):
            while (answer := await _try(client)) is None:
                await asyncio.sleep(0.02)
            await _durably(client)
        assert answer == "hello"
        async with await Client.connect(signed_in(server, "operator")) as operator, asyncio.timeout(10):
            await _look_after(operator)
        for name, seen in (("controller", "warning"), ("worker", "ok"), ("caller", "ok")):
            report = await looked(signed_in(server, name))
            assert of(report, "permissions")[0] == Finding("permissions", "ok", f"this user may do what a {name} does")
            assert of(report, "controllers")[0].result == seen
            assert {finding.result for finding in of(report, "JetStream")} <= {"ok"}
    finally:
        stop.set()
        await serving
        await controller.stop()


async def _durably(client: Client) -> None:
    """A key whose answer is too large for a record, a job that is done, and one that is dead."""
    long = "x" * 600_000
    text = {"Content-Type": "text/plain"}
    assert (await client.request("test:echo", long, headers=text, idempotency_key="k")).body.decode() == long
    done = await client.submit("test:echo", "hello", headers=text)
    answer = await client.result(done.job_id, timeout_ms=9000)
    assert isinstance(answer, Answer)
    assert answer.body == b"hello"
    dead = await client.submit("test:fail")
    with pytest.raises(CrankError) as error:
        await client.result(dead.job_id, timeout_ms=9000)
    assert error.value.job_status == "dead"


async def _look_after(operator: Client) -> None:
    """Everything that an operator's questions make a controller read."""
    while not (dead := await operator.listed("dead", op="list")):
        await asyncio.sleep(0.02)
    assert (await operator.admin("dead", {"op": "show", "job_id": dead[0]["job_id"]}))["dead"]
    await operator.admin("dead", {"op": "drop", "job_id": dead[0]["job_id"]})
    assert await operator.listed("dead", op="list") == []
    assert isinstance(await operator.listed("jobs"), list)
    told = await operator.admin("recovery")
    assert (told["complete"], told["counts"].get("dead")) == (True, 1)


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
        (
            "controller",
            "$JS.API.CONSUMER.MSG.NEXT.CRANK_JOBS.*",
            "may not publish $JS.API.CONSUMER.MSG.NEXT.CRANK_JOBS.*",
        ),
        ("controller", "$JS.ACK.CRANK_JOBS.>", "may not publish $JS.ACK.CRANK_JOBS.>"),
        ("controller", "$KV.crank_idempotency.*", "may not publish $KV.crank_idempotency.*"),
        ("controller", "crank.claims.asked.*", "may not subscribe crank.claims.asked.*"),
        ("caller", "crank.submit.>", "as a caller: it may not publish crank.submit.>"),
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
    found = await fault(signed_in(server, name), "permissions")
    assert found.result == "problem"
    assert told in found.found
    assert f'["{without}"]' in found.mend


async def test_half_of_another_role_is_only_warned_of(start_server: StartServer) -> None:
    """It may be meant: a caller that may also publish heartbeats."""
    publish, _ = grants("caller")
    server = await start_server(authorization(user("a", (*publish, "crank.heartbeat.*"), ANSWERS)))
    report = await looked(signed_in(server, "a"))
    assert [(f.result, f.found.partition(":")[0]) for f in of(report, "permissions")] == [
        ("ok", "this user may do what a caller does"),
        ("warning", "as a worker"),
    ]


@pytest.mark.parametrize(
    ("publish", "subscribe", "told"),
    [
        (["else.>"], ANSWERS, "may do nothing that a controller, worker, caller and operator does"),
        (["crank.>"], ["else.>"], "no answer reaches it"),
    ],
)
async def test_a_user_that_can_take_no_part_is_a_problem(
    start_server: StartServer, publish: list[str], subscribe: list[str], told: str
) -> None:
    """Nothing is allowed, or no answer; and what cannot be asked is not waited for."""
    server = await start_server(authorization(user("a", publish, subscribe)))
    url = signed_in(server, "a")
    found = await fault(url, "permissions")
    assert found.result == "problem"
    assert told in found.found
    unseen = [finding.found for finding in (await looked(url)).findings if "not looked at" in finding.found]
    assert len(unseen) == 1


async def test_a_worker_that_may_answer_nobody_is_warned_of(start_server: StartServer) -> None:
    """Unless it may answer whatever it is asked, which cannot be seen from here."""
    server = await start_server(authorization(role("worker")))
    found = await fault(signed_in(server, "worker"), "permissions")
    assert (found.result, "_INBOX.>" in found.found, "allow_responses" in found.mend) == ("warning", True, True)


async def test_a_user_for_one_worker_is_looked_at_for_that_worker(start_server: StartServer) -> None:
    """Its rights name its id, and the queue group that workers share."""
    publish = [f"crank.{kind}.w-1" for kind in ("register", "deregister", "heartbeat")]
    subscribe = ["crank.worker.w-1.> w", "crank.control.w-1", *ANSWERS]
    server = await start_server(authorization(user("a", (*publish, *ANSWERS), subscribe)))
    url = signed_in(server, "a")
    report = await looked(url, worker_id="w-1")
    assert of(report, "permissions")[0].found == "this user may do what a worker does"
    assert of(report, "controllers")[0].found == "no controller listens under the prefix 'crank'"
    assert "may do nothing" in (await fault(url, "permissions")).found


async def test_looking_changes_nothing(
    start_server: StartServer, start_controller: StartController, start_worker: StartWorker, nats_server: NatsServer
) -> None:
    """No count moves, nothing is stored, nobody is asked to work, and no worker or controller minds."""
    await start_controller(controller_id="c-1")
    worker = await start_worker("w-1")
    bus = await Bus.connect(nats_server.url, name="t")
    client = await Client.on(bus)

    async def state() -> tuple[object, ...]:
        names = (
            "CRANK_REGISTRY", "CRANK_JOBS", "CRANK_DEAD", "KV_crank_idempotency", "KV_crank_results",
            "OBJ_crank_answers",
        )  # fmt: skip
        found = {name: await stream(bus, name) for name in names}
        kept = {name: one.state for name, one in found.items() if one is not None}
        assert len(kept) == len(names)
        health = (await client.admin("health"))["health"]
        (row,) = await client.listed("workers")
        return health, kept, row["state"], row["in_flight_reported"], worker.registrations, len(worker.dispatches)

    before = await state()
    report = await looked(nats_server.url, worker_id="w-1")
    assert {finding.result for finding in report.findings} == {"ok"}
    assert await state() == before
    assert worker.controls == []
    await bus.close()
