"""``crank slo check``: what the files ask for on 80 columns, each mistake a line, and an exit code for scripts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Crank
from tests.cli.terminal import on_terminal
from tests.slo.conftest import SLO_FILE


def _slos(folder: Path) -> Path:
    slos = folder / "slos"
    slos.mkdir()
    (slos / "greet_hello_world.yaml").write_text(SLO_FILE)
    return slos


async def test_what_is_asked_is_a_table_of_80_columns() -> None:
    """All of our examples: nothing is broken or cut off."""
    code, screen = await on_terminal(ROOT, "slo", "check")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", screen).replace("\r", "").split("\n")
    assert code == 0
    assert max(map(len, lines)) <= 80
    row = "greet:hello_world >=1, <2    50    100      200   99.5 %   no"
    assert row in {line.strip() for line in lines}


def test_without_a_path_the_files_that_a_controller_would_read_are_checked(crank: Crank, tmp_path: Path) -> None:
    """Objectives, and limits if there are any."""
    _slos(tmp_path)
    done = crank("slo", "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split() == [
        "greet:hello_world",
        "50",
        "100",
        "200",
        "99.5",
        "%",
        "no",
    ]
    (tmp_path / "limits.yaml").write_text("callers: [{caller: a, rate_per_s: 1, burst: 0}]\n")
    done = crank("slo", "check")
    assert done.returncode == 1
    assert done.stderr.startswith("limits.yaml:1: callers[0].burst must be ")


def test_each_mistake_is_a_line_and_the_exit_code_is_1(crank: Crank, tmp_path: Path) -> None:
    """What is good is shown all the same."""
    (_slos(tmp_path) / "a_b.yaml").write_text("capability: {verb: a}\nslo: {latncy: 1}\n")
    done = crank("slo", "check", "slos")
    assert done.returncode == 1
    assert "greet:hello_world" in done.stdout
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == ["slos/a_b.yaml:1:", "slos/a_b.yaml:2:"]


def test_json_has_the_objectives_and_the_mistakes(crank: Crank, tmp_path: Path) -> None:
    """One object, for machines."""
    (_slos(tmp_path) / "a_b.yaml").write_text("a: b\n")
    done = crank("slo", "check", "slos", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (1, False)
    assert [each["capability"] for each in told["objectives"]] == ["greet:hello_world"]
    assert told["objectives"][0]["p99_ms"] == 200
    assert told["mistakes"][-1] == {
        "file": "slos/a_b.yaml", "line": 1, "field": "a",
        "message": "is not known; there are: capability, slo, enforcement, metadata",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("enforcement", "enforced", "warned"),
    [
        ("phase: enforce", "no",
         ["enforcement.phase is enforce, and refuses nobody: that takes reject_on_violation: true as well"]),
        ("phase: enforce, reject_on_violation: true, exceptions: [{caller: a, until: 2999-12-31, reason: b}]", "yes",
         ["enforcement.exceptions count for nothing in phase enforce"]),
        ("phase: exceptions, reject_on_violation: true, exceptions: [{caller: a, until: 2999-12-31, reason: b}, "
         "{caller: b, until: 2020-12-31, reason: b}]", "but for 1",
         ["enforcement.exceptions[1].until has passed: b is not spared any more"]),
        ("phase: enforce, reject_on_violation: true, since: 2999-01-01", "from 2999-01-01", []),
    ],
)  # fmt: skip
def test_what_enforces_otherwise_than_it_looks_is_shown_and_warned_of(
    crank: Crank, tmp_path: Path, enforcement: str, enforced: str, warned: list[str]
) -> None:
    """The table says for whom it is enforced today; a warning fails nothing."""
    with (_slos(tmp_path) / "greet_hello_world.yaml").open("a") as file:
        file.write(f"enforcement: {{{enforcement}}}\n")
    done = crank("slo", "check", "slos")
    line = len(SLO_FILE.splitlines()) + 1
    assert done.stderr.splitlines() == [f"warning: slos/greet_hello_world.yaml:{line}: {each}" for each in warned]
    assert (done.returncode, done.stdout.rstrip().endswith(f"  {enforced}")) == (0, True)
    told = json.loads(crank("slo", "check", "slos", "--json").stdout)
    assert (told["ok"], [f"{each['field']} {each['message']}" for each in told["warnings"]]) == (True, warned)


@pytest.mark.parametrize(("paths", "code"), [(["nowhere"], 2), (["."], 1), ([], 1)])
def test_what_checks_nothing_is_no_success(crank: Crank, paths: list[str], code: int) -> None:
    """A build must not be green because of a misspelled folder."""
    done = crank("slo", "check", *paths)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr
