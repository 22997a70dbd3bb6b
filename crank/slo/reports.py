"""Owns how the gate's verdicts are written for others: a sentence, JUnit for build servers, Markdown for people.

It judges nothing. ``crank slo gate`` calls it, and shows the table on a terminal itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from xml.etree import ElementTree

from crank.slo.gate import Check, Judged, Verdict

COLUMNS = ("capability", "what", "asked", "measured", "requests", "verdict", "why")
_VERDICTS: tuple[Verdict, ...] = ("violated", "regressed", "not measured", "met")
_MARKS: dict[Verdict, str] = {"violated": "❌", "regressed": "❌", "not measured": "⚠️", "met": "✅"}

_ROUNDING = 1e-6


def seen(judged: Judged) -> list[Check]:
    """The checks of capabilities to which there were requests."""
    known = {check.capability for check in judged.checks if check.requests or check.found is not None}
    return [check for check in judged.checks if check.capability in known]


def row(check: Check) -> tuple[str, ...]:
    """The check's cells, for people."""
    sign = "≥" if check.what == "availability" else "≤"
    return (
        check.capability,
        check.what,
        f"{sign} {_quantity(check, check.asked)}",
        "–" if check.found is None else _quantity(check, check.found),
        f"{check.requests:.0f}",
        check.verdict,
        check.why,
    )


def _quantity(check: Check, value: float) -> str:
    if check.what == "availability":
        return f"{math.floor(value * 1e5 + _ROUNDING) / 1e3:g}%"  # 99.9996 % is not all of them
    if check.what == "budget":
        return f"{value:.0%} spent"
    if math.isinf(value):
        return "> last bucket"
    return f"{value:.3g} ms" if value < 1000 else f"{value:.0f} ms"


def sentence(judged: Judged) -> str:
    """How many checks came to what, worst first; what had no request, and what has no objective."""
    counts = {verdict: sum(check.verdict == verdict for check in judged.checks) for verdict in _VERDICTS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    if judged.checks and counts["not measured"] == len(judged.checks):
        told = "Nothing that is asked for was measured, so nothing is known: " + told
    missing = sorted({check.capability for check in judged.checks} - {check.capability for check in seen(judged)})
    unknown = f" No request: {', '.join(missing)}." if missing else ""
    unasked = f" No objective: {', '.join(judged.unasked)}." if judged.unasked else ""
    return f"{told or 'Nothing is asked for'}.{unknown}{unasked}"


def junit(judged: Judged, require_all: bool) -> bytes:
    """One test case a check: failed, skipped where it was not measured and need not be, or passed."""
    failures = judged.failures(require_all)
    skipped = [check for check in judged.checks if check.verdict == "not measured" and check not in failures]
    suite = ElementTree.Element(
        "testsuite", name="crank slo gate",
        tests=str(len(judged.checks)), failures=str(len(failures)), errors="0", skipped=str(len(skipped)),
    )  # fmt: skip
    for check in judged.checks:
        case = ElementTree.SubElement(suite, "testcase", classname=check.capability, name=check.what)
        if check.verdict != "met":
            kind = "failure" if check in failures else "skipped"
            ElementTree.SubElement(case, kind, message=_told(check))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    made: bytes = ElementTree.tostring(suites, "utf-8", xml_declaration=True)
    return made + b"\n"


def _told(check: Check) -> str:
    _, what, asked, found, _, verdict, why = row(check)
    return f"{what} {asked}: {verdict}, {found}" + (f" ({why})" if why else "")


def markdown(judged: Judged, require_all: bool) -> str:
    """A heading that says how it ended, the sentence, and a table with what is wrong on top."""
    heading = "failed" if judged.failures(require_all) else "passed"
    worst_first: Callable[[Check], int] = lambda check: _VERDICTS.index(check.verdict)  # noqa: E731
    lines = [f"## Objectives: {heading}", "", sentence(judged), ""]
    if shown := seen(judged):
        lines += ["| " + " | ".join(COLUMNS) + " |", "|---|---|---|---:|---:|---|---|"]
        for check in sorted(shown, key=worst_first):
            *cells, verdict, why = row(check)
            lines.append("| " + " | ".join([*cells, f"{_MARKS[check.verdict]} {verdict}", why]) + " |")
    return "\n".join(lines) + "\n"
