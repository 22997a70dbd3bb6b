"""OpenSLO v1: what is exported is valid there, and comes back as it was; others' documents as far as they go."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controller.core.objectives import AlertAt, Excused, Objective
from controller.slo_fields import SloFile
from controller.slo_files import load_objectives
from crank.slo.openslo import Document, exported, left_out
from crank.slo.openslo_import import taken_in
from subjects.tokens import CapabilityId
from tests.cli.conftest import ROOT, Crank

FOLDER = Path(__file__).parent / "openslo"
HELLO = CapabilityId("greet:hello_world")

_SCHEMAS = [json.loads(path.read_text()) for path in sorted((FOLDER / "schemas").glob("*.json"))]
_REGISTRY = jsonschema_rs.Registry([(schema["$id"], schema) for schema in _SCHEMAS])
OPENSLO = jsonschema_rs.Draft7Validator(
    next(schema for schema in _SCHEMAS if schema["title"] == "OpenSLO"), registry=_REGISTRY
)

_tokens = st.text("abcXYZ019_-", min_size=1, max_size=64)
_ms = st.floats(1e-6, 86_400_000) | st.integers(1, 86_400_000).map(float)
_shares = st.integers(1, 99_999).map(lambda share: share / 100_000)
_lines = st.text(st.characters(codec="utf-8"), min_size=1, max_size=50).filter(str.isprintable)


@st.composite
def _objectives(draw: st.DrawFn) -> Objective:
    """All that an SLO file can ask for."""
    latencies = sorted(draw(st.lists(_ms, min_size=3, max_size=3)))
    p50, p95, p99 = (draw(st.sampled_from([None, each])) for each in latencies)
    target = draw(st.none() | _shares)
    if target is None and p50 is p95 is p99 is None:
        target = 0.5
    return Objective(
        CapabilityId(f"{draw(_tokens)}:{draw(_tokens)}"),
        version=draw(st.none() | st.just(">=1,<2")),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        availability=target,
        budget=None if target is None else 1 - target,
        timeout_ms=draw(st.none() | st.just(86_400_000)),
        owner=draw(st.just("") | _lines),
        cost_center=draw(st.just("") | _lines),
        tier=draw(st.sampled_from(["production", "staging", "development"])),
    )


def _taken(documents: list[Document]) -> dict[CapabilityId, Objective]:
    """What comes back, by way of YAML."""
    found = taken_in(yaml.safe_load_all(yaml.safe_dump_all(documents)))
    assert found.left == []
    return {name: SloFile.model_validate(content).objective() for name, content in found.files.items()}


@given(_objectives())
def test_what_openslo_can_hold_comes_back_as_it_was(objective: Objective) -> None:
    """To the last digit; and every document on the way is valid."""
    documents = exported([objective])
    for document in documents:
        OPENSLO.validate(document)
    assert left_out(objective) == []
    assert _taken(documents) == {objective.capability: objective}


def test_the_schema_refuses_what_is_not_openslo() -> None:
    """The check above could fail."""
    (service, slo, *_) = exported([Objective(HELLO, availability=0.99, budget=0.01)])
    for broken in (
        service | {"kind": "Servce"},
        service | {"metadata": {"name": "greet:hello_world"}},
        slo | {"spec": slo["spec"] | {"objectives": [{"target": 1}]}},
        slo | {"spec": slo["spec"] | {"timeWindow": [{"duration": "1 month"}]}},
    ):
        assert not OPENSLO.is_valid(broken), broken


def test_every_example_is_valid_there_and_each_document_has_a_name_of_its_own() -> None:
    """Capabilities whose names differ in what OpenSLO does not know are told apart."""
    names = ("greet:hello_world", "greet:hello-world", "Greet:hello_world", "_:_", "-:_")
    objectives = [
        *load_objectives(ROOT / "slos").files.values(),
        *(Objective(CapabilityId(name), availability=0.9, budget=0.1) for name in names[1:]),
    ]
    documents = exported(objectives)
    for document in documents:
        OPENSLO.validate(document)
    found = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(found)) == len(found)


def test_what_has_no_place_there_is_said() -> None:
    """Alerts on a spent share, what is enforced, and a target beside a smaller budget."""
    objective = Objective(
        HELLO, availability=0.99, budget=0.005, alerts=(AlertAt(0.5, "log"),), phase="exceptions",
        exceptions=(Excused("a", 1.0, "b"),),
    )  # fmt: skip
    said = [line.partition(":")[0] for line in left_out(objective)]
    assert said == ["slo.error_budget.alerts", "slo.availability.target", "enforcement"]
    held = msgspec.structs.replace(objective, availability=0.995, alerts=(), phase="log", exceptions=())
    back = _taken(exported([objective]))[HELLO]
    assert back == msgspec.structs.replace(held, budget=back.budget)
    assert back.budget == pytest.approx(0.005)


def _slo(name: str, indicator: dict[str, Any], *objectives: dict[str, Any], **spec: Any) -> Document:
    """As somebody else writes it."""
    return {
        "apiVersion": "openslo/v1",
        "kind": "SLO",
        "metadata": {"name": name},
        "spec": {
            "service": "web",
            "budgetingMethod": "Occurrences",
            "timeWindow": [{"duration": "28d", "isRolling": True}],
            **indicator,
            "objectives": list(objectives),
            **spec,
        },
    }


def _source(query: str) -> dict[str, Any]:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": query}}}


def _inline(**spec: Any) -> dict[str, Any]:
    return {"indicator": {"metadata": {"name": "i"}, "spec": spec}}


_WINDOW = "timeWindow: our budgets are of a month of the calendar, in UTC"


def test_others_documents_are_taken_in_as_far_as_they_go() -> None:
    """A latency by threshold or bucket, availability by ratio, an indicator by name; the rest is said, SLO by SLO."""
    ratio = {"ratioMetric": {"counter": True, "good": _source("good"), "total": _source("total")}}
    documents = [
        _slo("slow", _inline(thresholdMetric=_source("http_seconds")), {"op": "lte", "value": 0.25, "target": 0.95}),
        _slo("up", {"indicatorRef": "ups"}, {"targetPercent": 99.5}, alertPolicies=["page"]),
        {"apiVersion": "openslo/v1", "kind": "SLI", "metadata": {"name": "ups"}, "spec": ratio},
        _slo("slower", _inline(thresholdMetric=_source("took")), {"op": "lt", "value": 900, "target": 0.99}),
        _slo("odd", _inline(thresholdMetric=_source("took")), {"op": "lte", "value": 90, "target": 0.9}),
        _slo("more", _inline(thresholdMetric=_source("took")), {"op": "gt", "value": 90, "target": 0.9}),
        _slo("again", _inline(**ratio), {"target": 0.9}),
        _slo("sliced", _inline(**ratio), {"target": 0.9}, budgetingMethod="Timeslices"),
        _slo("elsewhere", {"indicatorRef": "nowhere"}, {"target": 0.9}),
        {"apiVersion": "openslo/v1", "kind": "AlertPolicy", "metadata": {"name": "page"}, "spec": {}},
        {"apiVersion": "openslo/v1alpha", "kind": "SLO", "metadata": {"name": "old"}, "spec": {}},
    ]
    found = taken_in(documents, HELLO)
    assert found.files[HELLO] == {
        "capability": {"verb": "greet", "name": "hello_world"},
        "slo": {"latency": {"p95_ms": 250, "p99_ms": 900}, "availability": {"target": 0.995}},
    }
    assert [line for line in found.left if _WINDOW not in line] == [
        "AlertPolicy page: there is nothing of this kind in an SLO file",
        "document 11: it is not of openslo/v1, with kind and metadata.name",
        "SLO up: alertPolicies has no place in an SLO file",
        "SLO slower: value 900: it is taken as milliseconds",
        "SLO odd: target 0.9 within 90 ms: there are only 0.5, 0.95 and 0.99",
        "SLO more: target 0.9: only `op: lte` or `lt` with a value is a latency",
        "SLO again: 0.9: slo.availability.target is 0.995 already",
        "SLO sliced: its budget counts slices of time, and ours requests",
        "SLO elsewhere: its indicator is not in this file",
    ]
    assert next(line for line in found.left if _WINDOW in line) == f"SLO slow: {_WINDOW}"


def test_whose_objective_it_is_must_be_said_by_somebody() -> None:
    """Others' documents name services, and no capability."""
    found = taken_in([_slo("up", _inline(ratioMetric={}), {"target": 0.9})])
    assert found.files == {}
    assert found.left == ["SLO up: nothing says whose objective it is; say it with --capability VERB:NAME"]


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_anything = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_scalars, inner, max_size=3),
)


@given(st.data())
def test_no_document_is_a_traceback(data: st.DataObject) -> None:
    """Whatever stands where something else should."""
    documents = exported([Objective(HELLO, p99_ms=200, availability=0.99, budget=0.01)])
    for _ in range(3):
        place: Any = data.draw(st.sampled_from(documents))
        while True:
            key = data.draw(st.sampled_from(list(place if isinstance(place, dict) else range(len(place)))))
            if not (isinstance(place[key], dict | list) and place[key]) or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(_anything)
        if isinstance(place, dict):
            place |= data.draw(st.dictionaries(_scalars, _scalars, max_size=2))
    taken_in([*documents, data.draw(_anything)], HELLO)


def _piped(crank: Crank, *arguments: str, text: str) -> subprocess.CompletedProcess[str]:
    return crank("slo", "import", "-", *arguments, stdin=text)


def test_export_and_import_are_commands_that_fit_together(crank: Crank, tmp_path: Path) -> None:
    """Every example comes back; what OpenSLO has no place for is said; a file that is there stays as it is."""
    out = crank("slo", "export", str(ROOT / "slos"))
    assert out.returncode == 0
    assert f"{ROOT / 'slos' / 'greet_hello_world.yaml'}: enforcement: " in out.stderr
    back = _piped(crank, text=out.stdout)
    assert (back.returncode, back.stderr) == (0, "")
    assert "slos/greet_hello_world.yaml" in back.stdout.splitlines()
    ours = load_objectives(ROOT / "slos").objectives
    taken = load_objectives(tmp_path / "slos").objectives
    assert taken.keys() == ours.keys()
    assert [each.p99_ms for each in taken.values()] == [each.p99_ms for each in ours.values()]
    again = _piped(crank, text=out.stdout)
    assert (again.returncode, again.stdout) == (1, "")
    assert "slos/greet_hello_world.yaml is there already and stays as it is" in again.stderr


@pytest.mark.parametrize("text", ["", "a: [", "{}", "a: &a [*a]", "capability: {verb: a, name: b}"])
def test_a_file_without_objectives_is_said_and_nothing_is_made(crank: Crank, tmp_path: Path, text: str) -> None:
    """With code 1, and without a traceback."""
    done = _piped(crank, text=text)
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
    assert not (tmp_path / "slos").exists()


def test_a_file_of_ours_is_told_to_be_one(crank: Crank) -> None:
    """It needs no import."""
    done = _piped(crank, text="capability: {verb: a, name: b}\nslo: {latency: {p99_ms: 1}}\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "crank: <stdin> is an SLO file already; save it as slos/VERB_NAME.yaml\n"


def test_broken_files_are_not_exported(crank: Crank, tmp_path: Path) -> None:
    """Half of the objectives would be taken for all."""
    (tmp_path / "a_b.yaml").write_text("slo: 1\n")
    done = crank("slo", "export", ".")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("a_b.yaml:1: ")
