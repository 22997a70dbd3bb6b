"""``crank slo gate`` and ``crank slo rules`` as a person or a build runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from crank.cli import main
from crank.slo.measured import encode, read
from subjects.tokens import CapabilityId
from tests.cli.conftest import ROOT, Crank, clean_environment
from tests.cli.terminal import on_terminal
from tests.slo.conftest import HELLO, SLO_FILE, measured

FAST, SLOWER, BROKEN = ({HELLO: measured([took] * 600)} for took in (10.0, 20.0, 300.0))


@pytest.fixture
def crank(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Crank:
    """The command in this process, which spares each of many short tests the third of a second that one takes."""
    monkeypatch.chdir(folder)
    for name in os.environ:
        if name.startswith("CRANK_"):
            monkeypatch.delenv(name)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["crank", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With one objective, and results that meet it, are worse, and break it."""
    (tmp_path / "slos").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "slos" / "greet_hello_world.yaml").write_text(SLO_FILE)
    for name, results in (("fast", FAST), ("slower", SLOWER), ("broken", BROKEN), ("nothing", {})):
        (tmp_path / f"{name}.json").write_bytes(encode(results))
    return tmp_path


def test_the_exit_code_says_whether_the_build_goes_on(crank: Crank, folder: Path) -> None:
    """0 where all that was measured is met, 1 where something is broken or nothing was measured."""
    met = crank("slo", "gate", "--results", "fast.json")
    assert (met.returncode, met.stderr) == (0, "5 met.\n")
    broken = crank("slo", "gate", "--results", "broken.json")
    assert (broken.returncode, broken.stderr) == (1, "3 violated, 2 met.\n")
    nothing = crank("slo", "gate", "--results", "nothing.json")
    assert nothing.returncode == 1
    assert nothing.stderr.startswith("Nothing that is asked for was measured, so nothing is known: 5 not measured.")


def test_what_was_not_measured_fails_where_all_has_to_be(crank: Crank, folder: Path) -> None:
    """Results of several files are added up."""
    for name in ("some", "more"):
        (folder / f"{name}.json").write_bytes(encode({HELLO: measured([10.0] * 299)}))
    some = ("slo", "gate", "--results", "some.json")
    assert (crank(*some).returncode, crank(*some, "--require-all").returncode) == (0, 1)
    assert crank(*some, "--results", "more.json", "--require-all").returncode == 0


def test_a_baseline_is_made_kept_to_and_moved(crank: Crank, folder: Path) -> None:
    """Worse than the baseline fails, unless tolerance says that it is not; what breaks an objective becomes none."""
    baseline = ("--baseline", "kept/baseline.json")
    missing = crank("slo", "gate", "--results", "fast.json", *baseline)
    assert (missing.returncode, "--update-baseline makes it" in missing.stderr) == (2, True)
    made = crank("slo", "gate", "--results", "fast.json", *baseline, "--update-baseline")
    assert (made.returncode, read(folder / "kept" / "baseline.json")) == (0, FAST)
    worse = crank("slo", "gate", "--results", "slower.json", *baseline)
    assert (worse.returncode, "it was 10 ms" in worse.stdout) == (1, True)
    assert crank("slo", "gate", "--results", "slower.json", *baseline, "--tolerance", "1").returncode == 0
    broken = crank("slo", "gate", "--results", "broken.json", *baseline, "--update-baseline")
    assert (broken.returncode, read(folder / "kept" / "baseline.json")) == (1, FAST)
    moved = crank("slo", "gate", "--results", "slower.json", *baseline, "--update-baseline")
    assert (moved.returncode, read(folder / "kept" / "baseline.json")) == (1, SLOWER)


def test_a_new_baseline_keeps_what_was_not_measured_now(crank: Crank, folder: Path) -> None:
    """And what nobody asks for is no part of it."""
    (folder / "fast.json").write_bytes(encode({CapabilityId("not:asked"): measured([1.0])}))
    (folder / "baseline.json").write_bytes(encode(FAST))
    crank("slo", "gate", "--results", "fast.json", "--baseline", "baseline.json", "--update-baseline")
    assert read(folder / "baseline.json") == FAST


def test_verdicts_are_written_for_machines_and_for_people(crank: Crank, folder: Path) -> None:
    """JSON on stdout, JUnit and Markdown into files, in folders that are made."""
    ran = crank(
        "slo", "gate", "--results", "broken.json", "--json", "--junit", "out/slo.xml", "--markdown", "out/slo.md"
    )
    told = json.loads(ran.stdout)
    assert (told["ok"], len(told["checks"]), told["unasked"]) == (False, 5, [])
    assert told["checks"][0] == {
        "capability": "greet:hello_world", "what": "p50", "verdict": "violated", "asked": 50, "found": 300,
        "requests": 600, "why": "600 of 600 were slower",
    }  # fmt: skip
    assert len(ElementTree.parse(folder / "out" / "slo.xml").findall(".//failure")) == 3
    assert (folder / "out" / "slo.md").read_text().startswith("## Objectives: failed")


async def test_on_a_terminal_the_checks_stand_below_their_capability(folder: Path) -> None:
    """Within its 80 columns, with colours."""
    code, screen = await on_terminal(folder, "slo", "gate", "--results", "broken.json")
    assert code == 1
    assert "\x1b[1;31mviolated" in screen
    lines = re.sub(r"\x1b\[[0-9;]*m", "", screen).splitlines()
    assert lines[0] == "greet:hello_world"
    assert re.fullmatch(r"  p99 +≤ 200 ms +300 ms  violated: 600 of 600 were slower", lines[3])
    assert len(lines) == 7
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "say what was measured: --results FILE"),
        (("--results", "fast.json", "--prometheus", "http://127.0.0.1:9090"), "say what was measured"),
        (("--results", "none.json"), "none.json cannot be read: No such file or directory"),
        (("--results", "slos/greet_hello_world.yaml"), "holds no measured results"),
        (("--results", "fast.json", "--update-baseline"), "--baseline FILE"),
        (("--results", "fast.json", "--tolerance", "nan"), "--tolerance"),
        (("--prometheus", "file:///etc/passwd"), "it is not http://HOST:PORT"),
        (("--prometheus", "http://127.0.0.1:9090", "--window", "1h] or vector(0)"), "is not a Prometheus duration"),
        (("nowhere", "--results", "fast.json"), "nowhere"),
        (("empty", "--results", "fast.json"), "no file in empty asks for anything"),
        (("--results", "fast.json", "--results", "./fast.json"), "fast.json twice: each request would count twice"),
    ],
)
def test_wrong_usage_and_broken_files_are_told(
    crank: Crank, folder: Path, arguments: tuple[str, ...], told: str
) -> None:
    """Code 2, what is wrong, and what to do."""
    ran = crank("slo", "gate", *arguments)
    assert (ran.returncode, told in ran.stderr) == (2, True), ran.stderr
    assert "Traceback" not in ran.stderr


def test_every_mistake_in_the_files_is_told_by_both(crank: Crank, folder: Path) -> None:
    """And nothing is judged or written by half of them."""
    (folder / "slos" / "a_b.yaml").write_text("capability: {verb: a, name: b}\nslo: {latency: {p55_ms: 1}}\n")
    for command in (("gate", "--results", "fast.json"), ("rules", "--out", "rules.yaml")):
        ran = crank("slo", *command)
        assert (ran.returncode, "slos/a_b.yaml:2: slo.latency.p55_ms" in ran.stderr) == (2, True), ran.stderr
    assert not (folder / "rules.yaml").exists()


@pytest.mark.parametrize("command", [("rules",), ("rules", "--out", "empty/rules.yaml"), ("export",)])
def test_what_makes_nothing_is_no_success(crank: Crank, folder: Path, command: tuple[str, ...]) -> None:
    """Rules that watch nothing would look like rules, and be put in force."""
    ran = crank("slo", *command, "empty")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "crank: no file in empty asks for anything: an SLO file is called VERB_NAME.yaml\n"
    assert list((folder / "empty").iterdir()) == []


def test_rules_go_to_stdout_and_say_how_they_were_made(crank: Crank, folder: Path) -> None:
    """So that they can be made anew."""
    printed = crank("slo", "rules").stdout
    assert printed.splitlines()[1] == "#   crank slo rules slos"
    assert crank("slo", "rules", "--out", "rules.yaml").returncode == 0
    assert (folder / "rules.yaml").read_text().splitlines()[2:] == printed.splitlines()[2:]


def test_the_script_that_builds_call_is_the_gate(folder: Path) -> None:
    """With its options and its exit code."""
    script = [sys.executable, str(ROOT / "scripts" / "check_slo_compliance.py"), "--results", "broken.json"]
    ran = subprocess.run(script, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "3 violated, 2 met.\n")
