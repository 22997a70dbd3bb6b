"""Owns what a worker declares: its capabilities with all their metadata, read from JSON, every offence named.

Schemas are kept as canonical text, equal schemas as one object, so that a thousand equal workers share them.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from subjects.errors import Offence, Refusal, describe
from subjects.fields import convert_fields, decode_object, refuse
from subjects.tokens import TOKEN_PATTERN, TOKEN_RULE, CapabilityId, WorkerId, capability_id, is_token
from subjects.versions import parse_version

# A manifest with two hundred schemas of a page each fits; more is a mistake or an attack.
MAX_MANIFEST_BYTES = 512 * 1024
MAX_CAPABILITIES = 256

# A day, as with the longest time-out; and more bytes than any message has.
_ENFORCED = {"timeout_s": 86_400, "max_output_bytes": 2**40}

Token = Annotated[str, Meta(pattern=rf"^{TOKEN_PATTERN}\Z")]
CapabilityText = Annotated[str, Meta(pattern=rf"^{TOKEN_PATTERN}:{TOKEN_PATTERN}\Z")]
Short = Annotated[str, Meta(min_length=1, max_length=128)]
NonNegative = Annotated[float, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Concurrency = Annotated[int, Meta(ge=1, le=1_000_000)]
SpiffeId = Annotated[
    str, Meta(pattern=r"^spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]{1,255}){1,16}\Z", max_length=2048)
]


class Slo(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a worker promises: milliseconds and percent."""

    latency_p50_ms: NonNegative | None = None
    latency_p95_ms: NonNegative | None = None
    latency_p99_ms: NonNegative | None = None
    availability_pct: Percent | None = None
    error_budget_pct: Percent | None = None


class Bid(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A priority bid with its terms; a plain number is a bid without terms."""

    latency_ms: NonNegative | None = None
    budget_tokens: NonNegative | None = None
    valid_s: NonNegative | None = None


class Capability(msgspec.Struct, frozen=True, omit_defaults=True):
    """One capability of one worker. All after ``max_concurrency`` may be absent."""

    verb: Token
    name: Token
    version: str
    input_schema: dict[str, Any] | bool | None = None
    output_schema: dict[str, Any] | bool | None = None
    max_concurrency: Concurrency = 1
    idempotent: bool = False
    streaming: bool = False
    runtime: Short | None = None
    env_profile: Short | None = None
    constraints: dict[Short, Any] | None = None
    slo: Slo | None = None
    required_capabilities: tuple[CapabilityText, ...] = ()
    cost_tokens_per_invocation: NonNegative = 0.0
    slo_bid: NonNegative | Bid | None = None
    controller_affinity: tuple[Token, ...] = ()

    @property
    def id(self) -> CapabilityId:
        """``verb:name``."""
        return capability_id(self.verb, self.name)


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A worker's whole declaration. ``instance`` tells a restart from a second process with the same id."""

    worker_id: WorkerId
    capabilities: tuple[Capability, ...]
    instance: str | None = None
    spiffe_id: str | None = None


class _Head(msgspec.Struct):
    worker_id: Token
    capabilities: Annotated[list[Any], Meta(min_length=1, max_length=MAX_CAPABILITIES)]
    instance: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    spiffe_id: SpiffeId | None = None


# What may stand beside ``capabilities`` as a default for all of them: every field that may be absent.
_Defaults = msgspec.defstruct(
    "_Defaults", [(f.name, f.type, None) for f in msgspec.structs.fields(Capability) if not f.required]
)


def parse_manifest(body: bytes, subject_worker_id: str) -> Manifest | Refusal:
    """The manifest in ``body``, or a 400 with every offence. ``subject_worker_id`` is the id it was sent under."""
    raw = decode_object(body, MAX_MANIFEST_BYTES, "manifest")
    if isinstance(raw, Refusal):
        return raw
    head, offences = convert_fields(raw, _Head)
    if raw.get("worker_id") != subject_worker_id and not any(o.path == "worker_id" for o in offences):
        offences.append(Offence("worker_id", f"is not {subject_worker_id!r}, the id in the subject"))
    offences += convert_fields(raw, _Defaults)[1]
    # One that is wrong was named above, and need not be named again in every capability.
    wrong_fields = {re.split(r"[.[]", o.path, maxsplit=1)[0] for o in offences}
    defaults = {key: raw[key] for key in _Defaults.__struct_fields__ if key in raw and key not in wrong_fields}
    listed = raw.get("capabilities")
    capabilities: dict[int, Capability] = {}
    for index, item in enumerate(listed[:MAX_CAPABILITIES] if isinstance(listed, list) else ()):
        capability, wrong = _capability(item, defaults, f"capabilities[{index}]")
        offences += wrong
        if capability is not None:
            capabilities[index] = capability
    offences += _twice(capabilities)
    if offences or head is None:
        return refuse("manifest", offences)
    return Manifest(WorkerId(head.worker_id), tuple(capabilities.values()), head.instance, head.spiffe_id)


def _capability(item: Any, defaults: dict[str, Any], path: str) -> tuple[Capability | None, list[Offence]]:
    if not isinstance(item, dict):
        return None, [Offence(path, "is not a JSON object; give verb, name and version")]
    raw = {**defaults, **{key: value for key, value in item.items() if value is not None}} if defaults else item
    capability, offences = convert_fields(raw, Capability, f"{path}.")
    offences = [_friendly(o, raw) for o in offences]
    version = raw.get("version")
    if isinstance(version, str) and parse_version(version) is None:
        offences.append(Offence(f"{path}.version", f"{describe(version)} is not a semantic version, such as 1.0.0"))
        capability = None
    wrong = _enforced(raw.get("constraints"), path)
    return (None if wrong else capability), offences + wrong


def _enforced(constraints: Any, path: str) -> list[Offence]:
    """The two constraints that the router enforces have to be limits; all others are matched as they are."""
    if not isinstance(constraints, dict):
        return []
    offences = []
    for key, most in _ENFORCED.items():
        value = constraints.get(key)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value <= most):
            offences.append(Offence(f"{path}.constraints.{key}", f"must be a number above 0 and at most {most}"))
    return offences


def _friendly(offence: Offence, raw: dict[str, Any]) -> Offence:
    field = offence.path.rpartition(".")[2]
    value = raw.get(field)
    if field in ("verb", "name") and isinstance(value, str) and not is_token(value):
        return Offence(offence.path, f"{describe(value)} must be {TOKEN_RULE}")
    return offence


def _twice(capabilities: dict[int, Capability]) -> list[Offence]:
    seen: set[tuple[str, str]] = set()
    offences = []
    for index, capability in capabilities.items():
        key = (capability.id, capability.version)
        if key in seen:
            offences.append(Offence(f"capabilities[{index}]", f"{key[0]} {key[1]} is listed twice"))
        seen.add(key)
    return offences


def schema_text(schema: dict[str, Any] | bool | None) -> str | None:
    """A schema as canonical JSON text, one object for equal schemas; None stays None."""
    if schema is None:
        return None
    return sys.intern(msgspec.json.encode(schema, order="deterministic").decode())
