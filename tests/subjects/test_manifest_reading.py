"""Manifests: any JSON is read or refused, every offence is named with its path, newer workers are understood."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subjects.errors import ErrorKind, Offence, Refusal
from subjects.fields import MAX_DEPTH
from subjects.manifests import (
    MAX_CAPABILITIES,
    MAX_MANIFEST_BYTES,
    Bid,
    Capability,
    Manifest,
    Slo,
    parse_manifest,
    schema_text,
)

HELLO: dict[str, Any] = {"verb": "greet", "name": "hello_world", "version": "1.0.0"}
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


def parse(capabilities: Any = (HELLO,), worker_id: Any = "hello-1", **more: Any) -> Manifest | Refusal:
    """A manifest as the worker ``hello-1`` sends it."""
    return parse_manifest(
        json.dumps({"worker_id": worker_id, "capabilities": capabilities, **more}).encode(), "hello-1"
    )


def accepted(*args: Any, **more: Any) -> Manifest:
    """The manifest, which must be accepted."""
    manifest = parse(*args, **more)
    assert isinstance(manifest, Manifest), manifest
    return manifest


def paths(*args: Any, **more: Any) -> list[str]:
    """Where the offences are, in order; the manifest must be refused."""
    refusal = parse(*args, **more)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.kind is ErrorKind.MALFORMED
    assert refusal.offences[0].path in refusal.detail
    return [offence.path for offence in refusal.offences]


def test_the_smallest_manifest_takes_every_default() -> None:
    """An id and one verb, name and version; all else may be absent."""
    manifest = accepted()
    assert manifest == Manifest("hello-1", (Capability("greet", "hello_world", "1.0.0"),))  # type: ignore[arg-type]
    (hello,) = manifest.capabilities
    assert hello.id == "greet:hello_world"
    assert (hello.max_concurrency, hello.idempotent, hello.streaming) == (1, False, False)
    assert (hello.cost_tokens_per_invocation, hello.slo_bid, hello.slo) == (0.0, None, None)


def test_the_largest_manifest_keeps_every_field() -> None:
    """All the metadata of the reference worker arrives as it was sent, and is written back alike."""
    fields = {
        **HELLO, "input_schema": {"type": "object"}, "output_schema": True, "max_concurrency": 8, "idempotent": True,
        "streaming": True, "runtime": "python3.11", "env_profile": "python-core",
        "constraints": {"min_memory_mb": 64, "disk_type": "ssd", "anything": [1, {"x": None}]},
        "slo": {"latency_p50_ms": 50.0, "latency_p95_ms": 100.0, "latency_p99_ms": 200.0, "availability_pct": 99.5,
                "error_budget_pct": 0.5},
        "required_capabilities": ["convert:text_to_stream"], "cost_tokens_per_invocation": 0.1,
        "slo_bid": {"latency_ms": 100.0, "budget_tokens": 5.0, "valid_s": 60.0},
        "controller_affinity": ["controller-a"],
    }  # fmt: skip
    manifest = accepted([fields], instance="b3f0", spiffe_id="spiffe://crank.local/worker/hello-world")
    assert json.loads(msgspec.json.encode(manifest.capabilities[0])) == fields
    assert (manifest.instance, manifest.spiffe_id) == ("b3f0", "spiffe://crank.local/worker/hello-world")
    assert parse_manifest(msgspec.json.encode(manifest), "hello-1") == manifest


def test_a_bid_is_a_number_or_has_terms() -> None:
    """Both spellings of the contract."""
    number, terms = accepted(
        [{**HELLO, "slo_bid": 1}, {**HELLO, "name": "b", "slo_bid": {"latency_ms": 5}}]
    ).capabilities
    assert (number.slo_bid, terms.slo_bid) == (1.0, Bid(latency_ms=5.0))


def test_fields_beside_capabilities_are_defaults_for_all_of_them() -> None:
    """A capability's own value wins."""
    one, other = accepted(
        [HELLO, {**HELLO, "name": "other", "runtime": "node20"}], runtime="python3.11", slo={"latency_p99_ms": 9}
    ).capabilities
    assert (one.runtime, other.runtime) == ("python3.11", "node20")
    assert one.slo == other.slo == Slo(latency_p99_ms=9.0)


def test_null_is_absent_everywhere() -> None:
    """A writer that cannot leave fields out sends null: the default holds, also one that stands beside capabilities."""
    nulls = dict.fromkeys(Capability.__struct_fields__)
    (hello,) = accepted([{**nulls, **HELLO}], runtime="python3.11", env_profile=None, instance=None).capabilities
    assert hello == Capability("greet", "hello_world", "1.0.0", runtime="python3.11")
    assert accepted([{**HELLO, "slo": {"latency_p50_ms": None}}]).capabilities[0].slo == Slo()
    assert paths([{**HELLO, "verb": None}], worker_id=None) == ["worker_id", "capabilities[0].verb"]


def test_unknown_fields_are_ignored() -> None:
    """Newer workers can talk to older controllers."""
    future = {"x": [1, {"y": 2}]}
    assert accepted([{**HELLO, **future, "slo": future}], **future).capabilities[0].slo == Slo()


WRONG: dict[str, tuple[Any, ...]] = {
    "verb": ("", "a.b", "a b", "x" * 65, "é", "a\n", 1, [], {}, True),
    "name": ("", "*", ">", "a:b"),
    "version": ("", "1.0", "latest", "1.0.0\n", "x" * 500, 1, 1.0, None, []),
    "max_concurrency": (0, -1, 1_000_001, 1.5, "8", True),
    "idempotent": (0, 1, "true", []),
    "streaming": (0, 1, "true", []),
    "runtime": ("", "x" * 129, 3, {}),
    "env_profile": ("", "x" * 129, 3, {}),
    "input_schema": ("x", 1, []),
    "output_schema": ("x", 1, []),
    "constraints": ("x", 1, [], True),
    "slo": (1, "x", []),
    "required_capabilities": ("a:b", 1, {}),
    "cost_tokens_per_invocation": (-0.1, "free", True, 10**400),
    "slo_bid": (-1, "x", [], True),
    "controller_affinity": ("a", 1, {}),
}
WRONG_INSIDE: list[tuple[str, Any, str]] = [
    ("constraints", {"": 1}, "."),
    ("constraints", {"k" * 129: 1}, "." + "k" * 129),
    ("slo", {"latency_p50_ms": -1}, ".latency_p50_ms"),
    ("slo", {"latency_p99_ms": "fast"}, ".latency_p99_ms"),
    ("slo", {"availability_pct": 100.1}, ".availability_pct"),
    ("slo", {"error_budget_pct": -0.1}, ".error_budget_pct"),
    ("required_capabilities", ["a:b", "c"], "[1]"),
    ("required_capabilities", [1], "[0]"),
    ("slo_bid", {"latency_ms": -1}, ".latency_ms"),
    ("controller_affinity", ["a", "b.c"], "[1]"),
]
WRONG_BESIDE: dict[str, tuple[Any, ...]] = {
    "worker_id": ("", "a.b", "x" * 65, 1, None, "other"),
    "capabilities": ([], {}, "x", 1, None),
    "instance": ("", "x" * 129, 1),
    "spiffe_id": (
        "", "x", "http://a/b", "spiffe://", "spiffe://a", "spiffe://a/", "spiffe://A/b", "spiffe://a/b c",
        "spiffe://a/b\n", "spiffe://a" + "/b" * 17, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [*((field, value, "") for field, values in WRONG.items() for value in values), *WRONG_INSIDE],
)
def test_a_field_out_of_its_bounds_is_named(field: str, value: Any, where: str) -> None:
    """Once, with the path down to the value that is wrong."""
    assert paths([HELLO, {**HELLO, "name": "other", field: value}]) == [f"capabilities[1].{field}{where}"]


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG_BESIDE.items() for value in values]
)
def test_a_field_of_the_whole_manifest_out_of_its_bounds_is_named(field: str, value: Any) -> None:
    """Also the worker's id when it is not the one in the subject."""
    assert paths(**{field: value}) == [field]


def test_every_offence_is_named_at_once() -> None:
    """Across the manifest, across capabilities, and inside of one field."""
    assert paths(
        [
            {"verb": "a b", "name": "ok", "version": "1", "max_concurrency": 0},
            "not an object",
            {"verb": "a", "version": "1.0.0", "slo": {"latency_p50_ms": -1, "availability_pct": 101}},
            {**HELLO, "controller_affinity": ["a b", "ok", "c d"], "constraints": {"": 1, "k" * 129: 2}},
            {**HELLO, "slo_bid": {"latency_ms": -1, "budget_tokens": "x"}},
        ],
        worker_id="other", instance="",
    ) == [
        "instance", "worker_id", "capabilities[0].verb", "capabilities[0].max_concurrency", "capabilities[0].version",
        "capabilities[1]", "capabilities[2].name", "capabilities[2].slo.latency_p50_ms",
        "capabilities[2].slo.availability_pct", "capabilities[3].constraints.",
        "capabilities[3].constraints." + "k" * 129, "capabilities[3].controller_affinity[0]",
        "capabilities[3].controller_affinity[2]", "capabilities[4].slo_bid.latency_ms",
        "capabilities[4].slo_bid.budget_tokens",
    ]  # fmt: skip


def test_a_default_that_is_wrong_is_named_once_and_where_it_stands() -> None:
    """Not in each capability that would inherit it."""
    assert paths([HELLO, {**HELLO, "name": "b"}], max_concurrency=0, slo={"latency_p50_ms": -1}) == [
        "max_concurrency", "slo.latency_p50_ms",
    ]  # fmt: skip


def test_messages_say_what_to_do() -> None:
    """A person reads them."""
    refusal = parse([{"verb": "a b", "name": "n", "version": "one"}])
    assert isinstance(refusal, Refusal)
    assert refusal.offences == (
        Offence("capabilities[0].verb", "'a b' must be 1 to 64 of the characters A-Z a-z 0-9 _ -"),
        Offence("capabilities[0].version", "'one' is not a semantic version, such as 1.0.0"),
    )
    assert "and 1 more" in refusal.detail


def test_a_capability_that_is_listed_twice_is_named_by_its_place() -> None:
    """The second one is, also when another before it cannot be read; two versions are two."""
    assert paths([HELLO, HELLO]) == ["capabilities[1]"]
    assert paths([{}, HELLO, HELLO])[-1] == "capabilities[2]"
    assert len(accepted([HELLO, {**HELLO, "version": "1.1.0"}]).capabilities) == 2


def test_there_are_limits() -> None:
    """On the number of capabilities, on the offences listed, and on the bytes."""
    many = [{**HELLO, "name": f"n{i}"} for i in range(MAX_CAPABILITIES + 1)]
    assert len(accepted(many[:-1]).capabilities) == MAX_CAPABILITIES
    assert paths(many) == ["capabilities"]
    assert len(paths([{}] * MAX_CAPABILITIES)) == 100
    refusal = parse_manifest(b" " * (MAX_MANIFEST_BYTES + 1), "hello-1")
    assert isinstance(refusal, Refusal)
    assert str(MAX_MANIFEST_BYTES) in refusal.detail


def nested(depth: int) -> bytes:
    """A manifest with a schema of so many levels."""
    return (
        b'{"worker_id":"hello-1","capabilities":[{"verb":"a","name":"b","version":"1.0.0","input_schema":'
        + b'{"not":' * depth + b"true" + b"}" * depth + b"}]}"
    )  # fmt: skip


def test_deep_nesting_is_refused_before_it_can_overflow_anybody() -> None:
    """What is accepted can be written again; hundreds of levels cannot, and are named so."""
    manifest = parse_manifest(nested(MAX_DEPTH - 4), "hello-1")
    assert isinstance(manifest, Manifest)
    assert schema_text(manifest.capabilities[0].input_schema)
    for depth in (MAX_DEPTH, 500, 950, 20_000):
        refusal = parse_manifest(nested(depth), "hello-1")
        assert isinstance(refusal, Refusal), depth
        assert "deep" in refusal.detail or "recursion" in refusal.detail


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff", b'{"a": "\\ud800"}', b"9" * 5000, b"\xef\xbb\xbf{}"],
)
def test_what_is_not_a_json_object_is_a_400(body: bytes) -> None:
    """Truncated, of another kind, not UTF-8, numbers without end."""
    refusal = parse_manifest(body, "hello-1")
    assert isinstance(refusal, Refusal)
    assert "JSON" in refusal.detail


FIELDS = st.sampled_from(["worker_id", "capabilities", "instance", "spiffe_id", *Capability.__struct_fields__])


@given(
    st.one_of(
        JSON,
        st.fixed_dictionaries(
            {"worker_id": st.one_of(st.just("hello-1"), JSON)},
            optional={"capabilities": st.lists(st.one_of(JSON, st.dictionaries(FIELDS, JSON, max_size=8)), max_size=4)},
        ),
        st.dictionaries(FIELDS, JSON, max_size=8),
        st.dictionaries(FIELDS, JSON, max_size=8).map(
            lambda more: {"worker_id": "hello-1", "capabilities": [{**HELLO, **more}, HELLO], **more}
        ),
    )
)
def test_any_json_is_a_manifest_or_a_400(value: Any) -> None:
    """No value raises; what is refused names at least one field, and what is accepted can be written and read again."""
    manifest = parse_manifest(json.dumps(value).encode(), "hello-1")
    if isinstance(manifest, Refusal):
        assert manifest.kind is ErrorKind.MALFORMED
        assert len({o.path for o in manifest.offences}) == len(manifest.offences)
        return
    assert parse_manifest(msgspec.json.encode(manifest), "hello-1") == manifest


@given(st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_a_400(body: bytes) -> None:
    """No bytes raise."""
    assert isinstance(parse_manifest(body, "hello-1"), Refusal)


def test_equal_schemas_are_one_object() -> None:
    """A thousand equal workers share them; the order of keys does not matter, and absent stays absent."""
    one = schema_text({"type": "object", "required": ["a"]})
    assert one is schema_text({"required": ["a"], "type": "object"})
    assert one == '{"required":["a"],"type":"object"}'
    assert schema_text(True) == "true"
    assert schema_text(None) is None


@pytest.mark.parametrize("key", ["timeout_s", "max_output_bytes"])
@pytest.mark.parametrize("value", [0, -1, True, "10", [1], 10**400, 1e300])
def test_a_constraint_that_the_router_enforces_has_to_be_a_limit(key: str, value: object) -> None:
    """Anything else is an offence with its path, also where it stands beside the capabilities."""
    capability = {"verb": "v", "name": "n", "version": "1.0.0"}
    for body in (
        {"worker_id": "w", "capabilities": [{**capability, "constraints": {key: value}}]},
        {"worker_id": "w", "constraints": {key: value}, "capabilities": [capability]},
    ):
        refusal = parse_manifest(json.dumps(body).encode(), "w")
        assert isinstance(refusal, Refusal)
        assert [offence.path for offence in refusal.offences] == [f"capabilities[0].constraints.{key}"]
