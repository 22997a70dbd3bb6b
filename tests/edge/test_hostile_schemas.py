"""Schemas and payloads made to keep a controller busy: refused, or checked in little time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from controller.core.model import Mismatch
from controller.edge.schema_load import MOST_LAID, TooMuch, load_of
from controller.edge.schemas import Schemas
from subjects.manifests import Manifest, parse_manifest

# What took seconds, minutes or for ever has to be done while this machine, as busy as it is, counts this far so often.
_COUNT, _TIMES = 1_000_000, 200


@contextmanager
def bounded() -> Iterator[None]:
    """What is done inside takes no longer than so many times a plain loop in the same moment."""
    started = time.perf_counter()
    sum(range(_COUNT))
    unit = time.perf_counter() - started
    started = time.perf_counter()
    yield
    assert (time.perf_counter() - started) / unit < _TIMES


def manifest_of(*schemas: Any) -> Manifest:
    """A manifest with one capability for each input schema."""
    capabilities = [
        {"verb": "test", "name": f"n{number}", "version": "1.0.0", "input_schema": schema}
        for number, schema in enumerate(schemas)
    ]
    manifest = parse_manifest(json.dumps({"worker_id": "w", "capabilities": capabilities}).encode(), "w")
    assert isinstance(manifest, Manifest), manifest
    return manifest


def refused(*schemas: Any) -> str:
    """What a registration with these is told, in little time."""
    manifest = manifest_of(*schemas)
    with bounded():
        offences = Schemas().offences(manifest)
    return "\n".join(f"{offence.path}: {offence.message}" for offence in offences)


def checked(schema: Any, body: Any) -> Mismatch | None:
    """What becomes of a payload under a schema that was accepted, in little time."""
    assert refused(schema) == ""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    schemas, text = Schemas(), json.dumps(schema)
    schemas.check(text, b"null")  # compiles
    with bounded():
        return schemas.check(text, data)


def doubling(levels: int, keyword: str = "anyOf", leaf: Any = None) -> dict[str, Any]:
    """Two references a level: 2 ** ``levels`` checks in a line of text for each level."""
    parts: dict[str, Any] = {f"a{n}": {keyword: [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**parts, f"a{levels}": leaf or {"type": "string"}}, "$ref": "#/$defs/a0"}


def nested(levels: int, innermost: Any) -> Any:
    """``{"c": {"c": … innermost}}``."""
    for _ in range(levels):
        innermost = {"c": innermost}
    return innermost


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf", "allOf"])
@pytest.mark.parametrize("levels", [14, 20, 1000])
def test_references_that_double_at_every_level_are_refused(keyword: str, levels: int) -> None:
    """A page of text that stands for a million checks is refused at the registration, with advice."""
    words = refused(doubling(levels, keyword))
    assert words.startswith("capabilities[0].input_schema: ")
    assert f"more than {MOST_LAID} subschemas" in words
    assert "use fewer references" in words


def test_references_that_double_from_value_to_value_are_refused() -> None:
    """Doubling in ``items`` of ``items`` lays as much on the innermost values."""
    parts: dict[str, Any] = {f"a{n}": {"allOf": [{"items": {"$ref": f"#/$defs/a{n + 1}"}}] * 2} for n in range(20)}
    assert "subschemas on one value" in refused({"$defs": {**parts, "a20": {}}, "$ref": "#/$defs/a0"})


def test_references_by_anchor_and_id_count_as_much() -> None:
    """A pointer is not the only way to refer to a part."""
    by_anchor = {f"a{n}": {"$anchor": f"a{n}", "anyOf": [{"$ref": f"#a{n + 1}"}] * 2} for n in range(20)}
    by_id = {f"a{n}": {"$id": f"http://x/a{n}", "anyOf": [{"$ref": f"a{n + 1}"}] * 2} for n in range(20)}
    leaf = {"a20": {"$anchor": "a20", "type": "string"}}
    assert "subschemas on one value" in refused({"$defs": {**by_anchor, **leaf}, "$ref": "#a0"})
    leaf = {"a20": {"$id": "http://x/a20", "type": "string"}}
    assert "subschemas on one value" in refused({"$defs": {**by_id, **leaf}, "$ref": "http://x/a0"})


def test_what_is_left_over_counts_for_more() -> None:
    """``unevaluatedProperties`` checks again what was checked; compiling it doubled too."""
    assert "subschemas on one value" in refused({**doubling(13), "unevaluatedProperties": False})


def test_a_tangle_of_types_that_contain_each_other_is_given_up() -> None:
    """Measuring itself is bounded."""
    parts = {
        f"n{n}": {"anyOf": [{"properties": {f"c{m}": {"$ref": f"#/$defs/n{m}"}}} for m in range(40)]} for n in range(40)
    }
    assert "too many ways to be measured" in refused({"$defs": parts, "$ref": "#/$defs/n0"})


def test_a_manifest_that_takes_long_to_compile_is_refused_before_all_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody else waits while one manifest is compiled; what was compiled is kept for the next attempt."""
    monkeypatch.setattr("controller.edge.schemas._MANIFEST_PATIENCE_S", 0)
    schemas, manifest = Schemas(), manifest_of({"title": "a"}, {"title": "b"})
    for path in ("capabilities[0].input_schema", "capabilities[1].input_schema"):
        (offence,) = schemas.offences(manifest)
        assert offence.path == path
        assert "too long to compile" in offence.message
    assert schemas.offences(manifest) == []


def test_patterns_are_small_and_few() -> None:
    """A repetition of a repetition, look-around, and a thousand patterns are refused, with what to do instead."""
    assert "maxLength" in refused({"pattern": r"(\p{L}{0,100}){0,100}"})
    assert "look around" in refused({"pattern": "(?=a)b"})
    assert "patterns; keep to" in refused({"patternProperties": {f"a{n}": {} for n in range(300)}})
    assert refused({"pattern": r"^[A-Za-z0-9._ -]{1,255}$"}) == ""


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"type": "string"}]},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$dynamicAnchor": "a", "allOf": [{"$dynamicRef": "#a"}]},
    ],
)
def test_a_schema_that_is_nothing_but_itself_is_harmless(schema: Any) -> None:
    """References in a circle come to an end."""
    assert checked(schema, 1) is None


@pytest.mark.parametrize(
    "odd", [{"anyOf": [{"$ref": 1}]}, {"properties": [1]}, {"$id": 3}, {"$defs": [[{}]]}, {"enum": 5}]
)
def test_what_is_no_schema_is_refused_as_such(odd: Any) -> None:
    """Measuring does not stumble over what compiling will refuse."""
    assert "is not a JSON Schema" in refused(odd)


def test_ordinary_schemas_are_accepted() -> None:
    """Hundreds of properties, a union of a hundred types, a tree, an expression: all within the bounds."""
    union = [{"properties": {"kind": {"const": n}, "x": {"type": "integer"}}, "required": ["kind"]} for n in range(100)]
    tree = {"properties": {"name": {"type": "string"}, "children": {"items": {"$ref": "#"}}}}
    assert (
        refused({"properties": {f"p{n}": {"type": "string"} for n in range(500)}}, {"oneOf": union}, tree, True) == ""
    )
    assert load_of({"oneOf": union}).laid == 101


def test_measuring_says_when_it_is_too_much() -> None:
    """The bound is of one value: as much beside each other is no matter."""
    assert load_of({"properties": {f"p{n}": doubling(5) for n in range(20)}}).laid < 200
    with pytest.raises(TooMuch):
        load_of({"allOf": [{"anyOf": [{}] * 100}] * 30})


RECURSIVE = [
    {"type": "object", "anyOf": [{"properties": {"c": {"$ref": "#"}}}] * 2},
    {"type": "object", "oneOf": [{"properties": {"c": {"$ref": "#"}}}] * 2},
    {"$anchor": "n", "type": "object", "allOf": [{"properties": {"c": {"$ref": "#n"}}}] * 2},
    {"$dynamicAnchor": "n", "type": "object", "anyOf": [{"properties": {"c": {"$dynamicRef": "#n"}}}] * 2},
]


@pytest.mark.parametrize("schema", RECURSIVE)
def test_a_deep_payload_under_a_recursive_schema_is_refused_at_once(schema: Any) -> None:
    """To tell where doubles with every level, and took minutes at twenty: beyond a few it is only refused."""
    found = checked(schema, nested(60, 1))
    assert found is not None
    assert found.is_json
    assert "does not fit" in found.message or "is not" in found.message


def test_a_small_fault_is_told_with_its_place() -> None:
    """Where telling is cheap: the path, and what was expected."""
    union = {"items": {"oneOf": [{"properties": {"kind": {"const": n}, "x": {"type": "integer"}}} for n in range(20)]}}
    assert checked(union, [{"kind": 1, "x": "1"}]) == Mismatch(
        True, "[0]", "the value is not valid under any of the schemas listed in the 'oneOf' keyword"
    )
    tree = {"properties": {"name": {"type": "string"}, "children": {"items": {"$ref": "#"}}}}
    found = checked(tree, {"children": [{"children": [{"name": 1}]}]})
    assert found is not None
    assert found.path == "children[0].children[0].name"


@pytest.mark.parametrize("body", [["x"] * 200_000, "x" * 1_000_000, list(range(100_000))])
def test_a_large_payload_that_fits_no_branch_is_only_refused(body: Any) -> None:
    """An error that copies the payload for each of two hundred branches took seconds."""
    found = checked({"anyOf": [{"type": "null"}] * 200}, body)
    assert found is not None
    assert "does not fit" in found.message or "too many values" in found.message


def test_too_many_values_for_a_heavy_schema_are_refused() -> None:
    """Hundreds of checks for each of hundreds of thousands of values: told to send less; a few are checked."""
    schema = {**doubling(8), "$ref": "#/$defs/a0"}
    items = {"$defs": schema["$defs"], "items": {"$ref": "#/$defs/a0"}}
    found = checked(items, ["x"] * 200_000)
    assert found is not None
    assert "send less at a time" in found.message
    assert checked(items, ["x"] * 1000) is None


@pytest.mark.parametrize(
    "numbers", [[10**30 + n for n in range(20_000)], [10**4000 + n for n in range(150)]], ids=["many", "long"]
)
def test_unique_items_of_long_integers_are_refused(numbers: list[int]) -> None:
    """Each was compared with every other, digit by digit; a few are."""
    found = checked({"uniqueItems": True}, numbers)
    assert found is not None
    assert "send them as text" in found.message
    assert checked({"uniqueItems": True}, [10**30, *range(50_000), 10**30 + 1]) is None


def test_unique_items_of_everything_else_are_checked() -> None:
    """Numbers, texts, arrays and objects by the ten thousand."""
    items = [[n, f"{n:020d}", {"n": n}, n + 0.5] for n in range(10_000)]
    assert checked({"uniqueItems": True}, items) is None
    assert checked({"uniqueItems": True}, [*items, items[0]]) is not None


def test_multiples_of_very_large_numbers_are_refused() -> None:
    """A decimal division of 1e300 takes 10 us, and reading it nearly as long."""
    found = checked({"items": {"multipleOf": 0.01}}, b"[" + b"1e300," * 150_000 + b"1]")
    assert found is not None
    assert "send them as text" in found.message
    assert checked({"items": {"multipleOf": 0.01}}, [0.25] * 10_000) is None


def test_a_payload_of_steep_numbers_reads_as_any_other() -> None:
    """They are read by another parser, which takes no more and no less."""
    steep = b"1e300," * 2000
    assert checked({"items": {"type": "number"}}, b"[" + steep + b"1]") is None
    for bad in (b"NaN]", b"-Infinity]", b"1", b"\xff]", b"'x']"):
        found = checked({"items": {"type": "number"}}, b"[" + steep + bad)
        assert found is not None
        assert not found.is_json


def test_a_schema_of_another_release_that_is_too_much_is_told_as_such() -> None:
    """What the registry holds may have been accepted by a release that measured less."""
    found = Schemas().check(json.dumps(doubling(30)), b'"x"')
    assert found is not None
    assert found.message.startswith("the schema lays more than")


@pytest.mark.parametrize("body", [b"[" * 900 + b"]" * 900, b"[" * 5000, b'"\\ud800"', b"1" * 5000, b"1e400", b""])
def test_odd_payloads_are_answered(body: bytes) -> None:
    """Depth, lone surrogates, numbers without end: a mismatch, never an exception."""
    assert isinstance(checked({"type": "boolean", "anyOf": [{}, {"not": {}}]}, body), Mismatch)


@pytest.mark.parametrize(
    ("schema", "rule"),
    [
        ({"maxLength": 3}, "longer than 3"),
        ({"type": "integer"}, "integer"),
        ({"const": 1}, "1"),
        ({"enum": ["a"]}, "a"),
    ],
)
def test_a_message_names_the_rule_and_never_what_the_payload_holds(schema: dict[str, Any], rule: str) -> None:
    """However long the value is, the rule is still told; messages end up in headers and logs."""
    mismatch = checked({"properties": {"name": schema}}, {"name": "secret" * 100})
    assert mismatch is not None
    assert mismatch.path == "name"
    assert rule in mismatch.message
    assert "secret" not in mismatch.message


def test_an_empty_payload_is_said_to_be_empty() -> None:
    """Not that something was truncated."""
    assert Schemas().check('{"type":"object"}', b"") == Mismatch(False, "", "it is empty")
