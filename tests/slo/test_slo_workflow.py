"""The workflow's own commands, one after the other, as GitHub runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from crank.slo.measured import read
from tests.cli.conftest import ROOT, clean_environment

WORKFLOW = ROOT / ".github" / "workflows" / "slo.yml"


def test_it_measures_judges_and_says_so(tmp_path: Path) -> None:
    """A summary on the page of the build, a report for its list of tests, and a baseline for the next one."""
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["gate"]["steps"]
    named = {step["name"]: step["run"] for step in steps if "run" in step}
    assert named.pop("Install") == "make install"
    environment = clean_environment() | {
        "GITHUB_STEP_SUMMARY": str(tmp_path / "page.md"),
        "PYTEST_ADDOPTS": "-k greet",  # the others take longer, and no other way
    }
    for name, command in named.items():
        here = re.sub(r"(?<= )slo/", f"{tmp_path}/slo/", command).replace(".venv/bin/python", sys.executable)
        ran = subprocess.run(
            ["/bin/bash", "-e", "-c", here], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{name}: {ran.stdout}{ran.stderr}"
    assert (tmp_path / "page.md").read_text().startswith("## Objectives: passed")
    assert (tmp_path / "slo" / "junit.xml").exists()
    (hello,) = read(tmp_path / "slo" / "baseline.json").values()
    assert (hello.requests, hello.failed) == (600, 0)
