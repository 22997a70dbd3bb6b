"""What ``docs/operations.md`` says of the gate and the rules, run as it stands there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from controller.core.burn import FEWEST, FEWEST_BAD, PAIRS
from crank.slo.gate import TOLERANCE, needed
from crank.slo.measured import decode, encode
from crank.slo.rules import rules
from tests.cli.conftest import ROOT, clean_environment
from tests.slo.conftest import HELLO, OBJECTIVE, measured
from tests.slo.web import answering

SECTION = (ROOT / "docs" / "operations.md").read_text().partition("## Gate and rules")[2].partition("\n## ")[0]
_TEST = """
import asyncio
from crank.testing import serving
from workers.reference import hello_world

def test_mine():
    async def ask():
        async with serving(hello_world.worker) as client:
            for _ in range(5):
                await client.request("greet:hello_world", {"name": "Ada"})
    asyncio.run(ask())
"""


def test_every_command_works(tmp_path: Path) -> None:
    """In a project with tests and objectives of its own, one after the other."""
    commands = re.findall(r"^    (.+)$", SECTION, re.MULTILINE)
    assert len(commands) == 6
    shutil.copytree(ROOT / "slos", tmp_path / "slos")
    (tmp_path / "test_mine.py").write_text(_TEST)
    sample = {"metric": {"capability": HELLO, "status": "success", "le": "0.05"}, "value": [0, "600"]}
    with answering(200, json.dumps({"data": {"result": [sample]}}).encode()) as url:
        script = "\n".join(command.replace("http://localhost:9090", url) for command in commands)
        run = "set -e; crank() { %s crank \"$@\"; }; pytest() { %s pytest -p no:asyncio \"$@\"; }\n" % (
            (f'"{sys.executable}" -P -m',) * 2
        )  # fmt: skip
        ran = subprocess.run(
            ["/bin/sh", "-c", run + script],
            cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "slo_rules.yaml").read_text().startswith("# Made from SLO files")
    assert (tmp_path / "slo.md").exists()
    assert (tmp_path / "slo.xml").exists()


def test_the_file_that_it_shows_is_read_and_written_so() -> None:
    """By whoever reads the page."""
    shown = re.findall(r"```json\n(.+?)```", SECTION, re.DOTALL)[0]
    expected = {HELLO: measured([1.86] * 590 + [214.0] * 6, failed=4)}
    assert decode(shown.encode()) == decode(encode(expected)) == expected


def test_its_figures_are_those_of_the_code() -> None:
    """How many requests it takes, what is a regression, and when somebody is told."""
    words = " ".join(SECTION.split())
    for allowed, shown in ((0.05, "a p95 holds takes"), (0.01, "a p99"), (0.005, "99.5 %"), (0.001, "or more")):
        assert f"{shown} {needed(allowed):,}" in words
    assert f"The default is {TOLERANCE:g}," in words
    for pair in PAIRS:
        long, short = (f"{window[:-1]} {window[-1]}" for window in (pair.long, pair.short))
        assert f"{pair.rate:g}× over {long} and {short}" in words
    assert f"must be {FEWEST} requests and {FEWEST_BAD} bad ones" in words
    alerts = {rule["alert"] for group in rules([OBJECTIVE])["groups"] for rule in group["rules"] if "alert" in rule}
    assert alerts == set(re.findall(r"`(Crank\w+)`", SECTION))
