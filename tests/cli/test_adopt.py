"""``crank adopt`` as a person runs it: a service of theirs beside an installation, mistakes, signals."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Crank, clean_environment

Env = dict[str, str]
SERVICE = """
    import asyncio, os
    import nats
    from nats import micro
    from nats.micro.request import ServiceError

    async def total(request):
        if not request.data:
            raise ServiceError("404", "No such order")
        await request.respond(str(len(request.data)).encode(), headers={"Content-Type": "text/plain"})

    async def main():
        connection = await nats.connect(os.environ["CRANK_NATS_URL"])
        service = await micro.add_service(connection, name="orders", version="1.2.0")
        await service.add_endpoint(name="total", handler=total, subject="shop.total")
        await service.add_endpoint(name="all", handler=total, subject="shop.all.>")
        print("ready", flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


def _start(*command: str, folder: Path, env: Env) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    environment = clean_environment() | env
    return subprocess.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _end(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str]:
    process.send_signal(how)
    _, err = process.communicate(timeout=15)
    return process.returncode, err


@pytest.fixture
def service(installation: Env, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The service ``orders``, in a process that has nothing of ours."""
    (tmp_path / "orders.py").write_text(textwrap.dedent(SERVICE))
    process = _start(sys.executable, "orders.py", folder=tmp_path, env=installation | {"PYTHONPATH": ""})
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def _said(process: subprocess.Popen[str], *wanted: str) -> list[str]:
    """What it says on stderr, up to the line with the last of ``wanted``, each of which has to come in turn."""
    assert process.stderr is not None
    lines = []
    for text in wanted:
        while True:
            lines.append(process.stderr.readline())
            assert lines[-1], f"it ended before it said {text!r}: {lines}"
            if text in lines[-1]:
                break
    return lines


def test_a_service_is_adopted_lost_found_and_let_go(
    crank: Crank, installation: Env, service: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Each change is a line for people; Ctrl-C ends it well, and nothing is offered then."""
    command = [sys.executable, "-P", "-m", "crank", "adopt", "orders", "--id", "a-7"]
    adoption = _start(*command, folder=tmp_path, env=installation)
    try:
        lines = _said(
            adoption, "orders has 1 instance and offers", "orders:total 1.2.0 on shop.total", "a-7 is registered"
        )
        assert "endpoint 'all' is left out: it listens on the pattern shop.all.>" in lines[0]
        done = crank("request", "orders:total", "seven..", env=installation)
        assert (done.returncode, done.stdout) == (0, "7")
        failed = crank("request", "orders:total", env=installation)
        assert failed.returncode == 1
        assert "404" in failed.stderr
        assert "No such order" in failed.stderr
        service.kill()
        gone = crank("request", "orders:total", env=installation)
        assert "503 no_worker" in gone.stderr
        _said(adoption, "orders is gone; it is offered again when it is back")
        again = _start(sys.executable, "orders.py", folder=tmp_path, env=installation)
        try:
            _said(adoption, "orders has 1 instance", "a-7 is registered")
            assert crank("request", "orders:total", "ab", env=installation).stdout == "2"
        finally:
            again.kill()
            again.communicate()
    finally:
        code, err = _end(adoption, signal.SIGINT)
    assert (code, "Traceback" in err) == (0, False), err
    assert "503 no_worker" in crank("request", "orders:total", env=installation).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["order"], 1, "no service 'order' answers; did you mean orders?"),
        (["nothing"], 1, "no service 'nothing' answers; there are orders"),
        (["crank-controller"], 1, "crank-controller is Crank itself"),
        (["orders", "--only", "totl"], 1, "orders has no endpoint 'totl'; did you mean total?"),
        (["orders", "--as", "x=a:b"], 1, "there are all, shop.all.>, shop.total, total"),
        (["orders", "--only", "all"], 1, "has no endpoint that could be offered\n  endpoint 'all' is left out"),
        (["orders", "--as", "total"], 2, "is not ENDPOINT=VERB:NAME"),
        (["orders", "--as", "total=sum"], 2, "'sum' is not VERB:NAME"),
        (["orders", "--as", "total=a:b", "--as", "all=a:b"], 2, "a:b cannot be both total and all"),
        (["orders", "--as", "total=a:b", "--as", "total=a:c"], 2, "total cannot be both a:b and a:c"),
        (["orders", "--cost", "inf"], 2, "'inf' is not a number of tokens"),
        (["orders", "--max-concurrency", "0"], 2, "--max-concurrency"),
        (["or.ders"], 2, "'or.ders' is not 1 to 64 of"),
        ([], 2, "SERVICE"),
    ],
)
def test_every_mistake_is_told_with_what_there_is_instead(
    crank: Crank, installation: Env, service: subprocess.Popen[str], arguments: list[str], code: int, said: str
) -> None:
    """Never a traceback, and nothing is registered."""
    done = crank("adopt", *arguments, env=installation)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_about_adopting_does_what_it_says(crank: Crank, installation: Env, tmp_path: Path) -> None:
    """Its service, started as it stands there, and its commands in their order."""
    page = (ROOT / "docs" / "adopting.md").read_text()
    (module,) = re.findall(r'```python\n("""stock\.py"""\n.+?)```', page, re.DOTALL)
    (adopt, *requests) = re.findall(r"^    crank (.+)$", page, re.MULTILINE)
    (tmp_path / "stock.py").write_text(module)
    stock = _start(sys.executable, "stock.py", folder=tmp_path, env=installation | {"PYTHONPATH": ""})
    adoption = None
    try:
        while "stock" not in crank("adopt", "nothing", env=installation).stderr:
            assert stock.poll() is None
        adoption = _start(sys.executable, "-P", "-m", "crank", *shlex.split(adopt), folder=tmp_path, env=installation)
        _said(adoption, "stock:count 1.2.0 on shop.stock.count", "is registered")
        tea, coal = (crank(*shlex.split(request), env=installation) for request in requests)
        assert (tea.returncode, tea.stdout) == (0, "3")
        assert coal.returncode == 1
        assert "(404): We have no coal" in coal.stderr
    finally:
        for process in filter(None, (stock, adoption)):
            process.kill()
            process.communicate()


def test_without_a_server_there_is_nothing_to_adopt_from(crank: Crank) -> None:
    """Code 3, and how to start one; as for every command."""
    done = crank("adopt", "orders", env={"CRANK_NATS_URL": "nats://127.0.0.1:1"})
    assert done.returncode == 3
    assert "no NATS server answers at nats://127.0.0.1:1" in done.stderr


def test_without_a_controller_it_waits_and_can_be_stopped(
    crank: Crank, installation: Env, service: subprocess.Popen[str], tmp_path: Path
) -> None:
    """As a worker does: under a prefix that nobody serves."""
    command = [sys.executable, "-P", "-m", "crank", "adopt", "orders", "--prefix", "other"]
    adoption = _start(*command, folder=tmp_path, env=installation)
    _said(adoption, "waits to be registered: no controller is there")
    assert _end(adoption, signal.SIGTERM)[0] == 0
