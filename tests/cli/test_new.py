"""``crank new worker``: what it makes runs at once, by the very commands that it tells; and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from callers import Client
from subjects.manifests import Manifest, parse_manifest
from tests.cli.conftest import ROOT, Crank, clean_environment

Env = dict[str, str]
COMMAND = re.compile(r"^    (.+)$", re.MULTILINE)
GUIDE = (ROOT / "docs" / "workers.md").read_text()


@pytest.fixture
def with_commands(tmp_path: Path) -> Env:
    """The variables under which a shell finds ``crank`` and ``pytest`` of this checkout."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, module in (("crank", "crank"), ("pytest", "pytest")):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m {module} "$@"\n')
        script.chmod(0o755)
    return clean_environment() | {"PATH": f"{commands}:{os.environ['PATH']}"}


async def _offered(url: str, name: str) -> None:
    async with asyncio.timeout(20), await Client.connect(url) as client:
        while not (await client.admin("capabilities", {"verb": "run", "name": name}))["capabilities"]:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("name", "flags"), [("word-count", ()), ("Parser2", ("--dir", "new workers"))])
def test_what_it_makes_is_run_asked_and_tested_by_the_commands_that_it_tells(
    tmp_path: Path, installation: Env, with_commands: Env, name: str, flags: tuple[str, ...]
) -> None:
    """Word for word, in one shell."""
    env = with_commands | installation
    made = subprocess.run(
        ["crank", "new", "worker", name, *flags], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (made.returncode, made.stderr) == (0, "")
    *there, run, ask, test = COMMAND.findall(made.stdout)
    folder = tmp_path / (flags[1] if flags else ".")
    assert there == ([f"cd '{flags[1]}'"] if flags else [])
    if not flags:  # the guide shows this one
        assert all(f"\n    {command}\n" in GUIDE for command in (f"crank new worker {name}", run, ask, test))
    go = "".join(f"{line}\n" for line in there)
    with subprocess.Popen(
        ["/bin/sh", "-c", f"{go}exec {run}"], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
    ) as served:
        try:
            asyncio.run(_offered(installation["CRANK_NATS_URL"], name.replace("-", "_")))
            asked = subprocess.run(go + ask, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True)
            assert (asked.returncode, asked.stdout) == (0, '{"words":3}'), asked.stderr
        finally:
            served.send_signal(signal.SIGINT)
            served.wait(timeout=15)
    tested = subprocess.run(go + test, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout
    linted = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "."], cwd=folder, capture_output=True)
    assert linted.returncode == 0, linted.stdout


def test_nothing_that_is_there_is_overwritten(crank: Crank, tmp_path: Path) -> None:
    """Neither the worker, nor the test, nor a folder that Python would take for it."""
    for taken in ("one.py", "test_two.py", "three"):
        (tmp_path / taken).mkdir() if "." not in taken else (tmp_path / taken).write_text("mine")
        name = taken.removesuffix(".py").removeprefix("test_")
        done = crank("new", "worker", name)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{taken} is there already" in done.stderr
    assert (tmp_path / "one.py").read_text() == (tmp_path / "test_two.py").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["one.py", "test_two.py", "three"]


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("3d", "did you mean worker_3d?"),
        ("a b.c", "did you mean a_b_c?"),
        ("…", "1 to 64 of the characters"),
        ("grüße", "to begin with no digit\n"),
        ("café", "did you mean cafe?"),
        ("ünïcode", "did you mean unicode?"),
        ("test_word", "did you mean word_worker?"),
        ("test-test_3d", "did you mean d_worker?"),
        ("test_", "did you mean my_worker?"),
        ("test_class", "did you mean class_worker?"),
        ("__init__", "did you mean init_worker?"),
        ("__main__", "did you mean main_worker?"),
        ("a" * 65, "1 to 64 of the characters"),
        ("class", "did you mean class_worker?"),
        ("workers", "did you mean workers_worker?"),
        ("email", "did you mean email_worker?"),
        ("pydantic", "did you mean pydantic_worker?"),
        ("hello-world", "did you mean hello_world_worker?"),
        ("conftest", "did you mean conftest_worker?"),
    ],
)
def test_a_name_that_will_not_do_is_refused_with_one_that_does(
    crank: Crank, tmp_path: Path, name: str, mend: str
) -> None:
    """It would be no module, or be taken for another one."""
    done = crank("new", "worker", name)
    assert (done.returncode, done.stdout, os.listdir(tmp_path)) == (2, "", [])
    assert mend in done.stderr
    if meant := re.search(r"did you mean (\w+)\?", done.stderr):
        assert crank("new", "worker", meant[1]).returncode == 0


def test_a_place_that_cannot_be_written_is_one_line(crank: Crank, tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "file").touch()
    done = crank("new", "worker", "mine", "--dir", "file/x")
    assert (done.returncode, done.stderr) == (1, "crank: file/x: Not a directory\n")


def test_a_manifest_is_printed_as_a_controller_would_get_it(crank: Crank, tmp_path: Path) -> None:
    """The same each time, of one's own worker and of ours, under any id; nothing is connected to."""
    assert crank("new", "worker", "mine").returncode == 0
    first, again = (crank("worker", "mine:worker", "--manifest") for _ in range(2))
    assert (first.returncode, first.stderr, first.stdout) == (0, "", again.stdout)
    read = parse_manifest(first.stdout.encode(), "mine-1")
    assert isinstance(read, Manifest)
    (offered,) = read.capabilities
    assert (offered.id, offered.idempotent, offered.cost_tokens_per_invocation) == ("run:mine", True, 0.1)
    assert offered.input_schema
    assert offered.slo
    theirs = crank("worker", "hello_world", "--manifest", "--id", "h-7")
    assert json.loads(theirs.stdout)["worker_id"] == "h-7"
