"""How verdicts are written for build servers and for people."""

from __future__ import annotations

from xml.etree import ElementTree

from controller.core.objectives import Objective
from crank.slo.gate import judge
from crank.slo.measured import Measured
from crank.slo.reports import junit, markdown, row, sentence
from tests.slo.conftest import HELLO, OBJECTIVE, measured

MIXED = judge({HELLO: OBJECTIVE}, {HELLO: measured([10.0] * 200 + [300.0] * 12)}, {})


def test_junit_has_a_test_case_for_each_check() -> None:
    """Failed, skipped where it was not measured and need not be, or passed."""
    suite = ElementTree.fromstring(junit(MIXED, require_all=False)).find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "2", "errors": "0", "skipped": "2",
    }  # fmt: skip
    ended = {case.get("name"): next((child.tag for child in case), "passed") for case in suite}
    assert ended == {
        "p50": "passed", "p95": "failure", "p99": "failure", "availability": "skipped", "budget": "skipped",
    }  # fmt: skip
    failure = suite.find("testcase[@name='p99']/failure")
    assert failure is not None
    assert failure.get("message") == "p99 ≤ 200 ms: violated, 300 ms (12 of 212 were slower)"
    strict = ElementTree.fromstring(junit(MIXED, require_all=True)).find("testsuite")
    assert strict is not None
    assert (strict.get("failures"), strict.get("skipped")) == ("4", "0")


def test_markdown_begins_with_how_it_ended_and_with_what_is_wrong() -> None:
    """A table that every renderer of Markdown shows."""
    lines = markdown(MIXED, require_all=False).splitlines()
    assert lines[0] == "## Objectives: failed"
    assert lines[2] == "2 violated, 2 not measured, 1 met."
    assert lines[6].startswith("| greet:hello_world | p95 | ≤ 100 ms | 300 ms | 212 | ❌ violated |")
    assert lines[-1].startswith("| greet:hello_world | p50 |")
    assert {line.count("|") for line in lines[4:]} == {8}
    passed = judge({HELLO: OBJECTIVE}, {HELLO: measured([10.0] * 600)}, {})
    assert markdown(passed, require_all=True).startswith("## Objectives: passed")


def test_quantities_are_told_so_that_nothing_is_rounded_into_its_objective() -> None:
    """Not 100 % where one failed, and no time where it is not known."""
    found = Measured(1_000_000, 1, ((None, 999_999),), (200.0,))
    rows = [row(check) for check in judge({HELLO: OBJECTIVE}, {HELLO: found}, {}).checks]
    assert [each[2:4] for each in rows] == [
        ("≤ 50 ms", "> last bucket"),
        ("≤ 100 ms", "> last bucket"),
        ("≤ 200 ms", "> last bucket"),
        ("≥ 99.5%", "99.999%"),
        ("≤ 100% spent", "0% spent"),
    ]


def test_an_objective_is_shown_as_it_was_written() -> None:
    """Whatever binary numbers make of it."""
    for share, shown in ((0.29, "≥ 29%"), (0.995, "≥ 99.5%"), (0.999, "≥ 99.9%"), (0.99999, "≥ 99.999%")):
        (check,) = judge({HELLO: Objective(HELLO, availability=share)}, {}, {}).checks
        assert row(check)[2] == shown


def test_what_is_not_known_is_said_in_words() -> None:
    """Nothing measured, nothing asked for, and what was measured in vain."""
    assert sentence(judge({HELLO: OBJECTIVE}, {}, {})) == (
        "Nothing that is asked for was measured, so nothing is known: 5 not measured. No request: greet:hello_world."
    )
    assert "| greet" not in markdown(judge({HELLO: OBJECTIVE}, {}, {}), require_all=False)
    assert sentence(judge({}, {HELLO: measured([1.0])}, {})) == (
        "Nothing is asked for. No objective: greet:hello_world."
    )
