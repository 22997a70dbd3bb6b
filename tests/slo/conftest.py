"""Objectives, results that meet or break them, and the command line and installation of ``tests/cli``."""

from __future__ import annotations

from collections.abc import Iterable

from controller.core.objectives import Objective
from crank.slo.measured import Measured, ordered
from subjects.tokens import CapabilityId
from tests.cli.conftest import Crank as Crank
from tests.cli.conftest import crank as crank
from tests.cli.conftest import installation as installation

HELLO = CapabilityId("greet:hello_world")
OBJECTIVE = Objective(
    HELLO, p50_ms=50, p95_ms=100, p99_ms=200, availability=0.995, budget=0.005, owner="hello", tier="staging"
)
SLO_FILE = """\
capability: {verb: greet, name: hello_world}
slo:
  latency: {p50_ms: 50, p95_ms: 100, p99_ms: 200}
  availability: {target: 0.995}
metadata: {owner: hello, tier: staging}
"""


def measured(took_ms: Iterable[float], failed: int = 0) -> Measured:
    """Requests that took so long, and some that failed."""
    times: dict[float | None, float] = {}
    for took in took_ms:
        times[took] = times.get(took, 0) + 1
    return Measured(sum(times.values()) + failed, failed, ordered(times))
