"""Owns reading a JSON object into a struct field by field, so that every offence is named at once.

``msgspec`` stops at the first mistake; a person who fixes a manifest wants all of them. Unknown fields are ignored.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from subjects.errors import Offence, Refusal, malformed

T = TypeVar("T", bound=msgspec.Struct)


def decode_object(body: bytes, limit: int, what: str) -> dict[str, Any] | Refusal:
    """The JSON object in ``body``, or a 400; at most ``limit`` bytes are looked at."""
    if len(body) > limit:
        return malformed(f"The {what} is {len(body)} bytes; keep it under {limit}.")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return malformed(f"The {what} is not JSON ({error}); send one UTF-8 JSON object.")
    if not isinstance(value, dict):
        return malformed(f"The {what} is not a JSON object; send {{…}} with the documented fields.")
    return value


@lru_cache(maxsize=64)
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def convert_fields(raw: dict[str, Any], kind: type[T], prefix: str = "") -> tuple[T | None, list[Offence]]:
    """``(struct, [])``, or ``(None, offences)``; paths start with ``prefix`` (such as ``capabilities[0].``).

    JSON null counts as absent, so that writers need not leave fields out.
    """
    values: dict[str, Any] = {}
    offences: list[Offence] = []
    for field in _fields(kind):
        value = raw.get(field.encode_name)
        if value is None:
            if field.required:
                offences.append(Offence(prefix + field.encode_name, "is missing"))
            continue
        try:
            values[field.name] = msgspec.convert(value, field.type)
        except (msgspec.ValidationError, RecursionError) as error:
            offences.append(_offence(prefix + field.encode_name, str(error)))
    return (None, offences) if offences else (kind(**values), [])


def _offence(path: str, message: str) -> Offence:
    text, _, where = message.partition(" - at `$")
    return Offence(path + where.rstrip("`"), text)


def refuse(what: str, offences: list[Offence]) -> Refusal:
    """One 400 for all ``offences``; the detail shows the first and how many more."""
    first = offences[0]
    more = f" (and {len(offences) - 1} more, see errors)" if len(offences) > 1 else ""
    return malformed(f"The {what} cannot be accepted: {first.path}: {first.message}{more}.", *offences[:100])
