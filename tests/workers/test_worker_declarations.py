"""What a declaration says, and what it refuses to say. Nothing here needs a server."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import msgspec
import pytest
from pydantic import BaseModel, Field

from crank import Context, DeclarationError, PermanentError, RetryableError, Worker
from subjects.errors import Refusal
from subjects.manifests import Capability, Slo, parse_manifest
from subjects.messages import encode
from workers.declarations import Metadata


class Text(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(min_length=1)]


class Inner(BaseModel):
    n: int


class Model(BaseModel):
    items: list[Inner]
    label: str = Field(alias="Label")


@dataclasses.dataclass
class Point:
    x: int


class Opaque:
    pass


def _declared(function: Any, **more: Any) -> Capability:
    worker = Worker("t")
    worker.capability("a:b", **more)(function)
    return worker.offers[0].capability


def test_the_smallest_worker_declares_version_and_schemas() -> None:
    """Version 1.0.0, and the schemas of the types in the signature."""

    async def shout(text: Text) -> Text:
        return text

    capability = _declared(shout)
    assert (capability.id, capability.version, capability.max_concurrency) == ("a:b", "1.0.0", 1)
    assert capability.input_schema == capability.output_schema
    assert capability.input_schema["$defs"]["Text"]["properties"]["text"] == {"type": "string", "minLength": 1}


def test_a_pydantic_model_declares_its_schema_with_local_definitions() -> None:
    """Aliases are what callers write, and every reference stays inside the schema."""

    def handler(model: Model) -> list[Inner]:
        return model.items

    capability = _declared(handler)
    assert capability.input_schema["required"] == ["items", "Label"]
    assert capability.input_schema["properties"]["items"]["items"] == {"$ref": "#/$defs/Inner"}
    assert capability.output_schema["type"] == "array"


@pytest.mark.parametrize("kind", [bytes, str, dict, dict[str, Any], Any])
def test_a_type_that_says_nothing_declares_no_schema(kind: Any) -> None:
    """Bytes, text and any JSON object are taken as they come."""

    def handler(payload: Any) -> Any: ...

    handler.__annotations__ = {"payload": kind, "return": kind}
    capability = _declared(handler)
    assert (capability.input_schema, capability.output_schema) == (None, None)


def test_a_given_schema_wins_and_other_json_types_have_one() -> None:
    """A schema written by hand replaces the derived one."""

    def handler(point: Point) -> int:
        return point.x

    assert _declared(handler).output_schema == {"type": "integer"}
    given = {"type": "object", "properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "integer"}}}
    assert _declared(handler, input_schema=given).input_schema == given


def test_metadata_of_the_worker_is_the_default_of_its_capabilities() -> None:
    """Each field comes from the decorator, else from the worker; the manifest is one that a controller accepts."""
    worker = Worker(
        "t",
        spiffe_id="spiffe://crank.local/worker/t",
        runtime="python3.11",
        slo={"latency_p50_ms": 5},
        required_capabilities=["x:y"],
        max_concurrency=3,
        slo_bid={"latency_ms": 10, "budget_tokens": 2},
    )

    @worker.capability("a:one")
    def one() -> None: ...

    @worker.capability("a:two", version="2.1.0", runtime="node20", idempotent=True, slo=Slo(latency_p99_ms=9))
    async def two(ctx: Context) -> None: ...

    @worker.capability("a:one", version="1.1.0", constraints={"gpu_count": 1}, controller_affinity=("c-1",))
    async def newer(payload: bytes, context) -> AsyncIterator[bytes]:  # type: ignore[no-untyped-def]
        yield payload

    assert worker.default_id == "t-1"
    manifest = parse_manifest(encode(worker.manifest("t-9", "i")), "t-9")
    assert not isinstance(manifest, Refusal)
    first, second, third = manifest.capabilities
    assert (first.runtime, first.slo, first.max_concurrency) == ("python3.11", Slo(latency_p50_ms=5), 3)
    assert (first.required_capabilities, second.required_capabilities) == (("x:y",), ("x:y",))
    assert (second.runtime, second.slo, second.idempotent) == ("node20", Slo(latency_p99_ms=9), True)
    assert (first.streaming, third.streaming, third.constraints) == (False, True, {"gpu_count": 1})
    assert (manifest.instance, manifest.spiffe_id) == ("i", "spiffe://crank.local/worker/t")


def test_every_field_of_a_capability_can_be_declared() -> None:
    """The SDK's list of fields is the contract's."""
    assert set(Metadata.__annotations__) == set(Capability.__struct_fields__) - {"verb", "name", "version"}


def test_a_decorated_function_stays_callable() -> None:
    """Unit tests of a handler call it as the function that it is."""
    worker = Worker("t")

    @worker.capability("a:b")
    def double(n: int) -> int:
        return 2 * n

    assert double(4) == 8


def test_a_function_that_another_module_wrapped_is_read_as_it_was_written() -> None:
    """Its annotations mean what they mean in its own module."""
    names: dict[str, Any] = {"functools": functools}
    exec("def wrap(f):\n    return functools.wraps(f)(lambda *a, **k: f(*a, **k))", names)

    def handler(point: Point) -> Point:
        return point

    assert _declared(names["wrap"](handler)).input_schema["$ref"] == "#/$defs/Point"


def _two(a: bytes, b: bytes) -> None: ...
def _untyped(payload) -> None: ...  # type: ignore[no-untyped-def]
def _stars(*parts: bytes) -> None: ...
def _default(payload: dict = {}) -> None: ...  # noqa: B006
def _opaque(payload: Opaque) -> None: ...
def _opaque_answer() -> Opaque: ...
def _unknown(payload: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def _plain_generator() -> Iterator[bytes]:
    yield b""


async def _stream() -> AsyncIterator[bytes]:
    yield b""


async def _mistyped_stream() -> bytes:  # type: ignore[misc]
    yield b""


def _fine(payload: dict) -> dict: ...


@pytest.mark.parametrize(
    ("function", "more", "says"),
    [
        (_two, {}, "more than one payload"),
        (_untyped, {}, "give `payload` a type"),
        (_stars, {}, "cannot be filled"),
        (_default, {}, "default"),
        (_opaque, {}, "Opaque"),
        (_opaque_answer, {}, "Opaque"),
        (_unknown, {}, "Nowhere"),
        (_plain_generator, {}, "async def"),
        (_mistyped_stream, {}, "AsyncIterator"),
        (_stream, {"streaming": False}, "streaming=False"),
        (print, {}, "not a function"),
        (_fine, {"version": "1.0"}, "semantic version"),
        (_fine, {"max_concurency": 2}, "did you mean max_concurrency"),
        (_fine, {"max_concurrency": 0}, "max_concurrency"),
        (_fine, {"slo": {"latency_p50": 1}}, "did you mean latency_p50_ms"),
        (_fine, {"slo": {"availability_pct": 101}}, "slo.availability_pct"),
        (_fine, {"cost_tokens_per_invocation": -1}, "cost_tokens_per_invocation"),
        (_fine, {"required_capabilities": ["nonsense"]}, "required_capabilities[0]"),
        (_fine, {"constraints": {"x": object()}}, "JSON"),
        (_fine, {"input_schema": {"type": "objekt"}}, "not a JSON Schema"),
        (_fine, {"input_schema": {"$ref": "https://example.org/schema"}}, "$defs"),
        (_fine, {"content_type": "a/b\r\nX: y"}, "content_type"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused_at_decoration(function: Any, more: dict[str, Any], says: str) -> None:
    """The error comes at import and names what is wrong."""
    with pytest.raises(DeclarationError) as caught:
        _declared(function, **more)
    assert says in str(caught.value)


def test_a_wrong_worker_is_refused_at_once() -> None:
    """Names, identities and fields are checked before any capability is."""
    for wrong in ({"name": "a b"}, {"name": "t", "spiffe_id": "me"}, {"name": "t", "runtim": "x"}):
        with pytest.raises(DeclarationError):
            Worker(**wrong)
    worker = Worker("t")
    for capability in ("greet", "a:b:c", "a.b:c", ""):
        with pytest.raises(DeclarationError):
            worker.capability(capability)(_fine)
    worker.capability("a:b")(_fine)
    with pytest.raises(DeclarationError, match="twice"):
        worker.capability("a:b")(_fine)


async def test_a_worker_without_capabilities_or_with_a_bad_id_is_not_served() -> None:
    """That is said before anything is connected."""
    with pytest.raises(DeclarationError, match="capabilities"):
        await Worker("t").serve("nats://127.0.0.1:1")
    worker = Worker("t")
    worker.capability("a:b")(_fine)
    with pytest.raises(DeclarationError, match="a b"):
        await worker.serve("nats://127.0.0.1:1", worker_id="a b")


def test_an_error_that_the_contract_cannot_carry_is_refused_where_it_is_made() -> None:
    """Codes are 400 to 599, waits are at most a day."""
    for make in (
        lambda: PermanentError("x", code=200),
        lambda: RetryableError("x", retry_after_s=-1),
        lambda: RetryableError("x", retry_after_s=float("nan")),
    ):
        with pytest.raises(ValueError):
            make()
