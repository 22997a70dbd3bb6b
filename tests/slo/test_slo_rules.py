"""Rules for Prometheus: what they tell of a history, by its own means, and that the committed ones are current."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import yaml

from controller.core.objectives import Objective
from crank.slo.rules import as_yaml
from subjects.tokens import CapabilityId
from tests.cli.conftest import ROOT, Crank
from tests.conftest import need
from tests.slo.conftest import OBJECTIVE

COMMITTED = Path("observability/prometheus/slo_rules.yaml")
SLOW = Objective(CapabilityId("slow:thing"), p95_ms=1000)


def _promtool(folder: Path, *arguments: str) -> None:
    promtool = need("promtool", "install Debian's `prometheus`")
    ran = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_they_page_open_tickets_and_keep_quiet_as_they_should(tmp_path: Path) -> None:
    """Each history in ``rules_test.yaml``, as promtool plays it."""
    shutil.copy(Path(__file__).with_name("rules_test.yaml"), tmp_path)
    (tmp_path / "rules.yaml").write_text(as_yaml([SLOW, OBJECTIVE], ()))
    _promtool(tmp_path, "test", "rules", "rules_test.yaml")


def test_the_committed_rules_are_made_of_the_slo_files(crank: Crank, tmp_path: Path) -> None:
    """By the command that stands in their head."""
    head = (ROOT / COMMITTED).read_text().splitlines()[:2]
    assert head[1] == f"#   crank slo rules slos --out {COMMITTED}"
    shutil.copytree(ROOT / "slos", tmp_path / "slos")
    ran = crank(*head[1].split()[2:], cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / COMMITTED).read_text() == (ROOT / COMMITTED).read_text(), "\n".join(["made anew by:", *head])


def test_prometheus_takes_the_committed_rules() -> None:
    """Every expression can be read, and none is there twice."""
    _promtool(ROOT, "check", "rules", str(COMMITTED))


def test_a_file_of_no_objectives_is_a_file_of_rules(tmp_path: Path) -> None:
    """And so is one of objectives without a latency."""
    for objectives in ([], [Objective(CapabilityId("a:b"), budget=0.01)]):
        groups = yaml.safe_load(as_yaml(objectives, ()))["groups"]
        assert [group["name"] for group in groups][-1] == "crank_slo_alerts"
        (tmp_path / "rules.yaml").write_text(as_yaml(objectives, ()))
        _promtool(tmp_path, "check", "rules", "rules.yaml")
