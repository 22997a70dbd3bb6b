"""Where a controller finds its objectives and limits, and what it says when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Crank
from tests.cli.installation import Up
from tests.slo.conftest import SLO_FILE


def test_a_broken_file_is_said_and_keeps_nothing_else_from_being_served(tmp_path: Path) -> None:
    """Who starts everything at once sees it at once; the controller's log has it too."""
    slos = tmp_path / "slos"
    slos.mkdir()
    (slos / "greet_hello_world.yaml").write_text(SLO_FILE)
    (slos / "a_b.yaml").write_text("capability: {verb: a, name: b}\nslo: {latncy: {}}\n")
    (tmp_path / "limits.yaml").write_text("defualt: {}\n")
    up = Up(tmp_path, "--workers", "hello_world")
    try:
        up.ready()
        up.process.terminate()
        _, _, said = up.ended()
    finally:
        up.close()
    wrong = [
        "slos/a_b.yaml:2: slo.latncy is not known; did you mean latency?",
        "limits.yaml:1: defualt is not known; did you mean default?",
    ]
    assert said.splitlines()[:2] == [f"crank: warning: {line}" for line in wrong]
    log = (tmp_path / ".crank" / "log" / "controller.log").read_text()
    assert all(line in log for line in wrong)
    assert "greet:hello_world now has an objective" in log


@pytest.mark.parametrize(
    ("variable", "what"), [("CRANK_SLOS", "a folder of SLO files"), ("CRANK_LIMITS_FILE", "a file")]
)
def test_what_was_named_must_be_there(crank: Crank, variable: str, what: str) -> None:
    """A misspelled name would be a fleet without objectives."""
    done = crank("controller", env={variable: "nowhere"})
    assert done.returncode == 2
    assert done.stderr.startswith(f"crank: {variable} must be {what}")
    assert done.stderr.endswith("that is there, not 'nowhere'\n")
