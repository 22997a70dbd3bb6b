"""``crank doctor`` as a person runs it: table, object, exit code. What it finds is tested in ``tests/doctoring``."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from crank.doctoring.here import NATS_PY_SERIES, judge_versions
from crank.natsd import NatsServer
from tests.cli.conftest import ROOT, Crank, clean_environment
from tests.cli.installation import Up

Env = dict[str, str]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
CHECKS = [
    "settings", "versions", "NATS", "max_payload", "permissions", "clock", "JetStream", "replicas", "registry",
    "budgets", "claims", "answers", "jobs", "dead", "results", "controllers", "workers",
]  # fmt: skip


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """One that no other test has touched: what others offered, and offer no more, is warned of."""
    up = Up(tmp_path_factory.mktemp("up"))
    try:
        yield {"CRANK_NATS_URL": str(up.ready()["nats"])}
    finally:
        up.close()


def test_a_healthy_installation_is_told_check_by_check(crank: Crank, installation: Env) -> None:
    """Each ok, code 0, one line a check in a pipe."""
    done = crank("doctor", env=installation)
    assert (done.returncode, done.stderr) == (0, "Everything is as it should be.\n")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[1] for row in rows} == {"ok"}
    assert [row[0] for row in rows] == CHECKS


def test_machines_get_one_object(crank: Crank, installation: Env) -> None:
    """With each finding and its mend."""
    done = crank("doctor", "--json", "--prefix", "nobodys", env=installation)
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], done.stderr) == (1, False, "")
    (wrong,) = (finding for finding in told["findings"] if finding["result"] == "problem")
    assert wrong["check"] == "controllers"
    assert "--prefix crank" in wrong["mend"]


@pytest.mark.parametrize("command", re.findall(r"^    crank (doctor.*)$", OPERATIONS, re.MULTILINE))
def test_what_the_guide_for_operators_shows_works(crank: Crank, installation: Env, command: str) -> None:
    """Word for word; and each check is in its table."""
    done = crank(*shlex.split(command), env=installation)
    assert done.returncode == 0, done.stderr
    for check in CHECKS:
        assert f"\n| {check} | " in OPERATIONS


def test_a_terminal_gets_a_table_with_each_mend_below(tmp_path: Path, installation: Env) -> None:
    """Within 80 columns."""
    ours, theirs = pty.openpty()
    environment = clean_environment() | installation | {"TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "crank", "doctor", "--prefix", "nobodys"],
        cwd=tmp_path, env=environment, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()]
    assert max(map(len, lines)) <= 80
    at = next(number for number, line in enumerate(lines) if line.startswith(" controllers   problem"))
    assert "→ did you mean --prefix crank?" in "".join(lines[at:])
    assert done.stderr == "1 problem, 0 warnings.\n"


def test_without_a_server_the_code_is_that_of_nobody_there(crank: Crank) -> None:
    """3, as with every other command; and the table all the same."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"nats://127.0.0.1:{taken.getsockname()[1]}"
        silent = crank("doctor", "--nats", url)
    refused = crank("doctor", "--nats", url)
    assert (silent.returncode, refused.returncode) == (3, 3)
    assert "says nothing" in silent.stdout
    assert "Connection refused" in refused.stdout
    assert "crank up" in refused.stdout


def test_wrong_settings_are_problems_and_unknown_variables_warnings(crank: Crank, tmp_path: Path) -> None:
    """Each once, with its place; flags that are wrong are wrong usage."""
    config = tmp_path / "c.yaml"
    config.write_text("replicas: many\nhttp_prot: 1\n")
    env = {"CRANK_MAX_ATEMPTS": "3", "CRANK_WORKER_ID": "a b", "CRANK_NATS_URL": "localhost"}
    done = crank("doctor", "--config", str(config), "--json", env=env)
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert {finding["check"] for finding in told["findings"]} == {"settings", "versions"}
    problems = [finding["found"] for finding in told["findings"] if finding["result"] == "problem"]
    for part in ("replicas must be", "http_prot is not a setting", "CRANK_NATS_URL must be", "CRANK_WORKER_ID"):
        assert sum(part in found for found in problems) == 1
    (stray,) = (finding for finding in told["findings"] if finding["result"] == "warning")
    assert stray["found"].startswith("CRANK_MAX_ATEMPTS")
    assert stray["mend"] == "did you mean CRANK_MAX_ATTEMPTS?"
    assert crank("doctor", "--nats", "localhost").returncode == 2
    assert crank("doctor", "--prefix", "a.b").returncode == 2


def test_a_worker_id_that_is_none_does_not_keep_the_rest_from_being_looked_at(crank: Crank, installation: Env) -> None:
    """It is a problem, and everything else is as it is."""
    done = crank("doctor", env=installation | {"CRANK_WORKER_ID": "a b"})
    assert (done.returncode, done.stderr) == (1, "1 problem, 0 warnings.\n")
    assert "CRANK_WORKER_ID is 'a b'" in done.stdout


async def test_a_setting_counts_where_it_is_judged(crank: Crank, nats_server: NatsServer, tmp_path: Path) -> None:
    """The file's replicas on a server that is alone."""
    config = tmp_path / "c.yaml"
    config.write_text(f"replicas: 3\nnats_url: {nats_server.url}\n")
    done = crank("doctor", "--config", str(config))
    assert done.returncode == 1
    assert "set replicas to 1" in done.stdout


def test_the_series_of_nats_py_is_the_one_that_is_asked_for() -> None:
    """Another one is warned of."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"nats-py>={NATS_PY_SERIES.rstrip('.')}" in next(line for line in wanted if line.startswith("nats-py"))
    assert judge_versions("2.17.0", "0.1.0").result == "warning"
    assert judge_versions(f"{NATS_PY_SERIES}3", "0.1.0").result == "ok"
