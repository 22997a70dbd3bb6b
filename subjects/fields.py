"""Owns reading a JSON object into a struct field by field, so that every offence is named at once.

``msgspec`` stops at the first mistake; a person who fixes a manifest wants all of them, so what it refuses is taken
apart here until every value that is wrong has its path. Unknown fields are ignored.
"""

from __future__ import annotations

from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

from subjects.errors import Offence, Refusal, malformed

T = TypeVar("T", bound=msgspec.Struct)

# A schema written by a person nests a few dozen levels. What is accepted is encoded again elsewhere, deeper in the
# stack than here, and must not be the value that overflows it.
MAX_DEPTH = 100


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
    if _too_deep(value):
        return malformed(f"The {what} is nested too deep; keep it within {MAX_DEPTH} levels.")
    return value


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


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
        except msgspec.ValidationError as error:
            path = prefix + field.encode_name
            offences += _inside(value, field.type, path) or [Offence(path, str(error))]
    return (None, offences) if offences else (kind(**values), [])


def _inside(value: Any, kind: Any, path: str) -> list[Offence]:
    """The offences within ``value``, which is no ``kind``; none when it is wrong as a whole."""
    offences: list[Offence] = []
    for choice in _choices(kind):
        origin, args = get_origin(choice), get_args(choice)
        if isinstance(value, dict) and isinstance(choice, type) and issubclass(choice, msgspec.Struct):
            offences += convert_fields(value, choice, f"{path}.")[1]
        elif isinstance(value, dict) and origin is dict:
            for key, item in value.items():
                offences += _wrong(key, args[0], f"{path}.{key}") or _wrong(item, args[1], f"{path}.{key}")
        elif isinstance(value, list) and origin in (list, tuple):
            for index, item in enumerate(value):
                offences += _wrong(item, args[0], f"{path}[{index}]")
    return offences


def _wrong(value: Any, kind: Any, path: str) -> list[Offence]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return _inside(value, kind, path) or [Offence(path, str(error))]
    return []


def _choices(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) is Annotated:
        return _choices(get_args(kind)[0])
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def refuse(what: str, offences: list[Offence]) -> Refusal:
    """One 400 for all ``offences``; the detail shows the first and how many more."""
    first = offences[0]
    more = f" (and {len(offences) - 1} more, see errors)" if len(offences) > 1 else ""
    return malformed(f"The {what} cannot be accepted: {first.path}: {first.message}{more}.", *offences[:100])
