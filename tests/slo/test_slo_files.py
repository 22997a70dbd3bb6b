"""SLO files: what they come to, and what is said of everything that can be wrong in one."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.objectives import AlertAt, Excused, Objective
from controller.limits_file import load_rates
from controller.slo_files import load_objectives, read_slo_file
from subjects.tokens import CapabilityId
from tests.cli.conftest import ROOT

TOKEN = "1 to 64 of the characters A-Z a-z 0-9 _ -"
MS = "a number of milliseconds above 0 and at most 86400000, which is a day"
HEAD = "capability: {verb: greet, name: hello}\n"
GOOD = HEAD + "slo: {availability: {target: 0.99}}\n"
WHOLE = """\
capability: {verb: greet, name: hello, version: ">=1,<2"}
slo:
  latency: {p50_ms: 50, p95_ms: 100, p99_ms: 200.5}
  availability: {target: 0.99}
  error_budget: {monthly_pct: 0.5, alerts: [{threshold: 0.5, channel: log}, {threshold: 1, channel: pagerduty}]}
  timeout_ms: 5000
enforcement:
  phase: exceptions
  reject_on_violation: true
  grace_period_days: 7
  since: 2026-11-01
  exceptions: [{caller: spiffe://crank.local/a, until: 2026-12-31, reason: moves in December}]
metadata: {owner: team, cost_center: cc, tier: staging}
"""


def _file(folder: Path, text: str, name: str = "greet_hello.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def _said(path: Path) -> list[str]:
    """The mistakes in a file, without its name."""
    return [str(each).removeprefix(f"{path}:") for each in load_objectives(path).mistakes]


def _utc(*day: int) -> float:
    return datetime(*day, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


def test_a_file_with_every_field_is_an_objective_with_every_field(tmp_path: Path) -> None:
    """Days are days in UTC: grace ends with the first moment after it, an exception with the last of its day."""
    loaded = load_objectives(_file(tmp_path, WHOLE))
    name = CapabilityId("greet:hello")
    assert (loaded.mistakes, loaded.objectives) == (
        [],
        {
            name: Objective(
                capability=name, version=">=1,<2", p50_ms=50, p95_ms=100, p99_ms=200.5, availability=0.99, budget=0.005,
                alerts=(AlertAt(0.5, "log"), AlertAt(1, "pagerduty")), phase="exceptions", reject_on_violation=True,
                enforced_from_s=_utc(2026, 11, 8), exceptions=(
                    Excused("spiffe://crank.local/a", _utc(2027, 1, 1), "moves in December"),
                ), timeout_ms=5000, owner="team", cost_center="cc", tier="staging",
            )
        },
    )  # fmt: skip


def test_the_budget_is_what_the_target_leaves(tmp_path: Path) -> None:
    """Where the file does not say less."""
    (objective,) = load_objectives(_file(tmp_path, GOOD)).files.values()
    assert objective.budget == pytest.approx(0.01)
    assert (objective.phase, objective.enforced_from_s, objective.timeout_ms) == ("log", 0, None)


def test_every_example_is_without_mistakes() -> None:
    """There is one for each capability of the reference workers, those to come as well."""
    loaded = load_objectives(ROOT / "slos")
    assert loaded.mistakes == []
    assert len(loaded.objectives) == 17
    assert {objective.phase for objective in loaded.objectives.values()} == {"log"}
    assert load_rates(ROOT / "limits.example.yaml").mistakes == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: must be a mapping with `capability:` and `slo:`, not empty"),
        ("- a\n", "1: must be a mapping with `capability:` and `slo:`, not a list"),
        ("capability: [\n", "2: column 1: expected the node content, but found '<stream end>'"),
        ("a: 1\n\tb: 2\n", "2: column 1: found character '\\t' that cannot start any token; "
         "indent with spaces, not with tabs"),
        ("capability: {verb: greet, name: hello, version: >=1,<2}\n",
         "1: column 49: found character '>' that cannot start any token; put a text that begins with it in quotes"),
        ("capability:\n  version: >=1,<2\n",
         "2: column 13: expected chomping or indentation indicators, but found '='; "
         "put a text that begins with > or | in quotes"),
        ("a: 1\n---\nb: 2\n", "2: column 1: but found another document; "
         "a file holds one, so take out the line --- and what does not belong here"),
        ("a: 1\nb: \x07\n", "2: holds a character that YAML does not allow"),
        (GOOD + "metadata: {owner: &o a, cost_center: *o}\n",
         "3: column 38: *o is not understood here; write out what it stands for"),
        (GOOD + "metadata: !!python/name:os.system a\n",
         "3: column 11: could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'"),
        (GOOD + f"metadata: {'[' * 2000}\n", " is nested too deeply"),
        (GOOD + "#" * 70_000, " is longer than 65536 bytes"),
        (GOOD + "slo: {latency: {p50_ms: 1}}\n", "3: slo is there twice; keep one"),
        (GOOD + "metdata: {}\n", "3: metdata is not known; did you mean metadata?"),
        (GOOD + "7: {}\n", "3: 7 is not known; there are: capability, slo, enforcement, metadata"),
        ("slo: {availability: {target: 0.9}}\n",
         "1: capability is missing; it must be a mapping of verb, name and, if need be, version"),
        ("capability: {verb: greet}\nslo: {availability: {target: 0.9}}\n",
         f"1: capability.name is missing; it must be {TOKEN}"),
        ("capability: {verb: greet, name: hello, version: 1.0}\nslo: {availability: {target: 0.9}}\n",
         '1: capability.version must be a range of versions, such as ">=1,<2" or "^1.2", not 1.0; put it in quotes'),
        ("capability: {verb: a.b, name: hello}\nslo: {availability: {target: 0.9}}\n",
         f"1: capability.verb must be {TOKEN}, not 'a.b'"),
        (HEAD + "slo: {}\n", "2: slo.latency or slo.availability must say something; so far nothing is asked"),
        (HEAD + "slo: fast\n",
         "2: slo must be a mapping of latency, availability, error_budget, timeout_ms, not 'fast'"),
        (HEAD + "slo:\n  latency:\n    p95_ms: '100'\n",
         f"4: slo.latency.p95_ms must be {MS}, not '100'"),
        (HEAD + "slo: {latency: {p50_ms: .inf}}\n",
         f"2: slo.latency.p50_ms must be {MS}, not inf"),
        (HEAD + "slo:\n  latency:\n    p99_ms: 10\n    p50_ms: 20\n",
         "4: slo.latency.p99_ms must be at least p50_ms, which is 20, and not 10"),
        (HEAD + "slo: {availability: {target: 99.5}}\n",
         "2: slo.availability.target must be a share above 0 and below 1, such as 0.995 for 99.5 %, not 99.5"),
        (HEAD + "slo:\n  availability: {target: 0.99}\n  error_budget: {monthly_pct: 5}\n",
         "4: slo.error_budget.monthly_pct must be at most 1, since availability.target is 0.99, and not 5"),
        (HEAD + "slo: {latency: {p99_ms: 200}, timeout_ms: 100}\n",
         "2: slo.timeout_ms must be at least 200, the slowest that latency allows, and not 100"),
        (HEAD + "slo:\n  error_budget:\n    monthly_pct: 1\n    alerts:\n      - {threshold: 0.5}\n",
         f"6: slo.error_budget.alerts[0].channel is missing; it must be the name of a channel, {TOKEN}"),
        (GOOD + "enforcement: {phase: enforced}\n",
         "3: enforcement.phase must be one of: log, exceptions, enforce, not 'enforced'"),
        (GOOD + "enforcement: {reject_on_violation: 'yes'}\n",
         "3: enforcement.reject_on_violation must be true or false, not 'yes'"),
        (GOOD + "enforcement: {grace_period_days: 7}\n",
         "3: enforcement.since is missing; it must be the day that grace_period_days counts from, such as 2026-11-01"),
        (GOOD + "enforcement:\n  exceptions:\n    - {caller: a, until: 2026-12-31, reason: b}\n"
         "    - {caller: a, until: 2027-12-31, reason: c}\n",
         "6: enforcement.exceptions[1].caller is a, who is there already; keep one of the two"),
        (GOOD + "enforcement: {exceptions: [{caller: a, until: soon, reason: b}]}\n",
         "3: enforcement.exceptions[0].until must be the last day that it holds, one of the calendar, "
         "such as 2026-12-31, not 'soon'"),
        (GOOD + "enforcement: {exceptions: [{caller: a, until: 2026-02-30, reason: b}]}\n",
         "3: enforcement.exceptions[0].until must be the last day that it holds, one of the calendar, "
         "such as 2026-12-31, not '2026-02-30'"),
        (GOOD + f"metadata: {{owner: {'1' * 5000}}}\n",
         f"3: metadata.owner must be a text of 1 to 256 characters in one line, not '{'1' * 59}"),
        *((GOOD + f"metadata: {{tier: !!{kind} {text}}}\n",
           f"3: metadata.tier must be one of: production, staging, development, not '{text}'")
          for kind, text in (("timestamp", "soon"), ("bool", "soon"))),
        (GOOD + "metadata: {tier: !!int ''}\n",
         "3: metadata.tier must be one of: production, staging, development, not ''"),
        (GOOD + "metadata: {owner: no}\n",
         "3: metadata.owner must be a text of 1 to 256 characters in one line, not false; put it in quotes"),
        (GOOD + "metadata: {tier: }\n", "3: metadata.tier must be one of: production, staging, development, not empty"),
        ("capability: {verb: greet, name: bye}\nslo: {availability: {target: 0.9}}\n",
         "1: capability is greet:bye, so that this file must be called greet_bye.yaml"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_line_field_and_what_to_write(tmp_path: Path, text: str, said: str) -> None:
    """One mistake, one line; never a traceback."""
    assert _said(_file(tmp_path, text)) == [said]


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    """By file and line, and the good ones count."""
    _file(
        tmp_path,
        HEAD
        + "slo:\n  latency: {p50_ms: x}\n  availability: {target: 2}\nmeta: {}\nenforcement: {since: 2026-02-30}\n",
    )
    _file(tmp_path, "capability: {verb: a, name: b}\nslo: {latency: {p50: 3}}\n", "a_b.yaml")
    _file(tmp_path, "capability: {verb: a, name: c}\nslo: {latency: {p50_ms: 3}}\n", "a_c.yaml")
    _file(tmp_path, "", "a_d.yml")
    _file(tmp_path, "not one of ours", ".a_e.yaml.swp")
    _file(tmp_path, "not one of ours", "README.md")
    (tmp_path / "a_f.yaml").mkdir()
    loaded = load_objectives(tmp_path)
    assert list(loaded.objectives) == ["a:c"]
    assert [(Path(each.file).name, each.line, each.field) for each in loaded.mistakes] == [
        ("a_f.yaml", 0, ""),
        ("a_b.yaml", 2, "slo.latency.p50"),
        ("a_d.yml", 0, ""),
        ("greet_hello.yaml", 3, "slo.latency.p50_ms"),
        ("greet_hello.yaml", 4, "slo.availability.target"),
        ("greet_hello.yaml", 5, "meta"),
        ("greet_hello.yaml", 6, "enforcement.since"),
    ]


def test_two_files_for_one_capability_are_a_mistake_that_names_both(tmp_path: Path) -> None:
    """Nobody could say which one counts."""
    first, second = _file(tmp_path / "one", GOOD), _file(tmp_path / "two", GOOD)
    loaded = load_objectives(tmp_path / "one", tmp_path / "two")
    assert list(map(str, loaded.mistakes)) == [
        f"{second}:1: capability is greet:hello, which {first} speaks of already; keep one of the two"
    ]


def test_a_pipe_among_the_files_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody would write into it."""
    os.mkfifo(tmp_path / "a_b.yaml")
    assert [each.text for each in load_objectives(tmp_path).mistakes] == ["is not a file"]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_are_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever a file holds, its mistakes are lines."""
    path = tmp_path_factory.getbasetemp() / "a_b.yaml"
    path.write_bytes(data)
    read = read_slo_file(path)
    assert read.value is None
    assert all("\n" not in str(each) for each in read.mistakes)
    assert read.mistakes


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(date(2000, 1, 1))
_names = st.sampled_from(
    ["latency", "p50_ms", "p99_ms", "availability", "target", "error_budget", "monthly_pct", "alerts", "threshold"]
)


@given(st.recursive(_scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4)))
def test_no_content_is_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    """Values of every kind at every place, from an empty file to nearly an objective."""
    import yaml

    path = tmp_path_factory.getbasetemp() / "a_b.yaml"
    path.write_text(yaml.safe_dump({"capability": {"verb": "a", "name": "b"}, "slo": content}))
    read = read_slo_file(path)
    assert (read.value is None) == bool(read.mistakes)
    assert all(each.line > 0 and "\n" not in str(each) for each in read.mistakes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("default: {rate_per_s: 0, burst: 1}\n",
         "1: default.rate_per_s must be a number of requests a second, 0.000001 or more, not 0"),
        ("callers:\n  - {caller: a, rate_per_s: 1}\n",
         "2: callers[0].burst is missing; it must be a number of requests that may come at once, 1 or more"),
        ("callers:\n  - {caller: a, rate_per_s: 1, burst: 1}\n  - {caller: a, rate_per_s: 2, burst: 1}\n",
         "3: callers[1].caller is a, who is there already; keep one of the two"),
        ("defualt: {}\n", "1: defualt is not known; did you mean default?"),
        ("a", "1: must be a mapping with `default:` or `callers:`, not 'a'"),
    ],
)  # fmt: skip
def test_mistakes_in_limits_are_told_in_the_same_way(tmp_path: Path, text: str, said: str) -> None:
    """As lines with file, line and field."""
    path = _file(tmp_path, text, "limits.yaml")
    loaded = load_rates(path)
    assert loaded.rates is None
    assert list(map(str, loaded.mistakes)) == [f"{path}:{said}"]
