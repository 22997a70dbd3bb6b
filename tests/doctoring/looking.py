"""Looking over what a test has set up, and finding the one fault that it expects."""

from __future__ import annotations

import asyncio
from typing import Any

from controller.settings import ControllerSettings
from crank.doctoring import Finding, Report, examine
from crank.doctoring.here import version_of

_SETTINGS = ("prefix", "replicas", "claims_max_bytes", "jobs_max_bytes")


async def looked(url: str, **options: Any) -> Report:
    """The report on ``url``; ``options`` are settings, or for ``examine``. It ends in time, or the test fails."""
    settings = {name: options.pop(name) for name in _SETTINGS if name in options}
    async with asyncio.timeout(20):
        return await examine(
            ControllerSettings(nats_url=url, **settings), **{"version": version_of("crank-router"), **options}
        )


def of(report: Report, check: str) -> list[Finding]:
    """What was found by one check."""
    return [finding for finding in report.findings if finding.check == check]


async def fault(url: str, check: str, **options: Any) -> Finding:
    """The one finding of ``check`` that is not ok; it has a mend."""
    report = await looked(url, **options)
    found = [finding for finding in of(report, check) if finding.result != "ok"]
    assert len(found) == 1, report.findings
    assert found[0].mend
    return found[0]
