"""Owns checking what a worker declares, at import, with the very code that a controller reads manifests with.

``workers.worker`` calls it. A declaration that passes here is refused by a controller only for who the worker is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypedDict

import msgspec

from subjects.errors import Refusal
from subjects.manifests import Bid, Capability, Slo, parse_manifest
from subjects.tokens import TOKEN_RULE, is_capability, split_capability
from workers.dependencies import Plan
from workers.errors import DeclarationError
from workers.handlers import Handler
from workers.response import is_content_type

_ANY_ID = "worker"


class Metadata(TypedDict, total=False):
    """What a capability may say of itself; on ``Worker`` it is the default for all of its capabilities.

    The fields are those of ``subjects.manifests.Capability``: prices in tokens, latencies in milliseconds.
    """

    input_schema: dict[str, Any] | bool | None
    output_schema: dict[str, Any] | bool | None
    max_concurrency: int
    idempotent: bool
    streaming: bool
    runtime: str | None
    env_profile: str | None
    constraints: Mapping[str, Any] | None
    slo: Slo | Mapping[str, float] | None
    required_capabilities: Iterable[str]
    cost_tokens_per_invocation: float
    slo_bid: float | Bid | Mapping[str, float] | None
    controller_affinity: Iterable[str]


class Offer(NamedTuple):
    """A capability and what does its work. ``content_type`` labels the answers; None leaves it to their type.

    ``plan`` is what is opened for each dispatch.
    """

    capability: Capability
    handler: Handler
    content_type: str | None = None
    plan: Plan = ()

    @property
    def label(self) -> str:
        """``verb:name version``, for people."""
        return f"{self.capability.id} {self.capability.version}"


def check_names(given: Iterable[str], allowed: Iterable[str], where: str) -> None:
    """Raise ``DeclarationError`` for a name that nothing would ever read, with the one that was probably meant."""
    known = sorted(allowed)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise DeclarationError(f"{where} has no field {name!r}; {hint}")


def declare(
    capability: str,
    version: str,
    handler: Handler,
    defaults: Metadata,
    own: Metadata,
    content_type: str | None,
    plan: Plan,
) -> Offer:
    """The offer that a decorator states.

    Raises:
        DeclarationError: with every offence in it.

    """
    if not isinstance(capability, str) or not is_capability(capability):
        raise DeclarationError(f"{capability!r} is not verb:name, each of {TOKEN_RULE}")
    check_names(own, Metadata.__annotations__, capability)
    raw: dict[str, Any] = {**defaults, **own}
    if handler.kind == "generator":
        if own.get("streaming") is False:
            raise DeclarationError(f"{capability} yields its answer, so it cannot be streaming=False")
        raw["streaming"] = True
    for field, derived in (("input_schema", handler.input_schema), ("output_schema", handler.output_schema)):
        if raw.get(field) is None:
            raw[field] = derived
        else:
            _check_schema(raw[field], f"{capability}: {field}")
    for field, kind in (("slo", Slo), ("slo_bid", Bid)):
        if isinstance(value := raw.get(field), Mapping):
            check_names(value, kind.__struct_fields__, f"{capability}: {field}")
    if content_type is not None and not is_content_type(content_type):
        raise DeclarationError(f"{capability}: content_type must be a media type such as text/event-stream")
    verb, name = split_capability(capability)  # type: ignore[arg-type]
    declared = _read({**raw, "verb": verb, "name": name, "version": version}, capability)
    return Offer(declared, handler, content_type, plan)


def check_worker(spiffe_id: str | None, defaults: Metadata, name: str) -> None:
    """Raise ``DeclarationError`` for a worker whose own fields could never be accepted."""
    check_names(defaults, Metadata.__annotations__, f"worker {name}")
    _read({**defaults, "verb": "any", "name": "any", "version": "1.0.0"}, f"worker {name}", spiffe_id)


def _read(raw: dict[str, Any], where: str, spiffe_id: str | None = None) -> Capability:
    document = {"worker_id": _ANY_ID, "spiffe_id": spiffe_id, "capabilities": [raw]}
    try:
        manifest = parse_manifest(msgspec.json.encode(document), _ANY_ID)
    except (TypeError, ValueError, RecursionError) as error:
        raise DeclarationError(f"{where} holds something that cannot become JSON: {error}") from None
    if isinstance(manifest, Refusal):
        listed = "; ".join(f"{o.path.removeprefix('capabilities[0].')}: {o.message}" for o in manifest.offences)
        raise DeclarationError(f"{where} is declared wrongly: {listed or manifest.detail}")
    return manifest.capabilities[0]


def _check_schema(schema: Any, where: str) -> None:
    # Only a schema written by hand is checked, so only its writers pay for the import.
    import jsonschema_rs

    if remote := _remote_reference(schema):
        raise DeclarationError(f"{where} refers to {remote}, and nobody fetches that; put it under $defs")
    try:
        jsonschema_rs.meta.validate(schema)
    except ValueError as error:
        raise DeclarationError(f"{where} is not a JSON Schema: {str(error).partition(chr(10))[0]}") from None


def _remote_reference(schema: Any) -> str | None:
    if isinstance(schema, Mapping):
        for key in ("$ref", "$dynamicRef"):
            if isinstance(target := schema.get(key), str) and not target.startswith("#"):
                return target
    parts = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    return next(filter(None, map(_remote_reference, parts)), None)
