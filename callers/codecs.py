"""Owns the way between a handler's Python types and bytes, and the JSON Schema (2020-12) that says it to others.

``bytes`` and ``str`` are the payload itself; everything else is JSON, read by msgspec, or by pydantic where a type
holds a pydantic model. ``workers.handlers`` calls it once per type at declaration, and what it returns runs for every
message; ``callers.client`` reads answers with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

Decode = Callable[[bytes], Any]
Encode = Callable[[Any], tuple[bytes, str | None]]
"""``encode(value)`` → body and its media type; None is the contract's default, JSON."""
Schema = dict[str, Any]

TEXT_CONTENT_TYPE = "text/plain; charset=utf-8"


class Unfit(ValueError):
    """Bytes that do not fit a type. The message goes on after their name: "is not JSON …", "does not fit at $.x …".

    ``code`` is the contract's: 400 for what cannot be read at all, 422 for what is of another type.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Reading(NamedTuple):
    """How payloads of one type are read. ``decode`` raises ``Unfit``."""

    decode: Decode
    schema: Schema | None


class Writing(NamedTuple):
    """How answers of one type are written. ``encode`` raises whatever the value's own types raise."""

    encode: Encode
    schema: Schema | None


def reading(kind: Any) -> Reading:
    """How to read payloads of type ``kind``.

    Raises:
        TypeError: neither msgspec nor pydantic can read it from JSON.

    """
    if kind is bytes:
        return Reading(lambda body: body, None)
    if kind is str:
        return Reading(_decode_text, None)
    schema, adapter = _schema(kind, "validation")
    if adapter is not None:
        return Reading(_pydantic_decode(adapter), schema)
    return Reading(_msgspec_decode(msgspec.json.Decoder(kind).decode), schema)


def writing(kind: Any) -> Writing:
    """How to write answers of type ``kind``; ``Any`` goes by the value.

    Raises:
        TypeError: it cannot become JSON.

    """
    if kind is Any:
        return Writing(encode_any, None)
    if kind in (bytes, str, None, type(None)):
        return Writing({bytes: _encode_bytes, str: _encode_text}.get(kind, _encode_nothing), None)
    return Writing(_encode_json, _schema(kind, "serialization")[0])


def encode_any(value: Any) -> tuple[bytes, str | None]:
    """``value`` by its own type: bytes and text as they are, None as an empty body, the rest as JSON."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), None
    if isinstance(value, str):
        return _encode_text(value)
    return _encode_nothing(value) if value is None else _encode_json(value)


def _schema(kind: Any, mode: Any) -> tuple[Schema | None, Any]:
    """``(schema or None where it would say nothing, pydantic adapter or None)``."""
    try:
        schema = msgspec.json.schema(kind)
    except (TypeError, ValueError) as error:
        adapter = _adapter(kind)
        if adapter is None:
            raise TypeError(f"{name_of(kind)} cannot be read from or written to JSON: {_first(error)}") from None
        return adapter.json_schema(mode=mode), adapter
    return (None if schema in ({}, {"type": "object"}) else schema), None


def _adapter(kind: Any) -> Any:
    # Importing pydantic takes a tenth of a second, so only those pay it who imported it for a model of their own.
    if "pydantic" not in sys.modules:
        return None
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(kind)
    except PydanticUserError:
        return None


def _decode_text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Unfit(f"is not UTF-8 text (byte {error.start})", 400) from None


def _msgspec_decode(decode: Decode) -> Decode:
    def read(body: bytes) -> Any:
        try:
            return decode(body)
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at `")
            raise _unfit(text, path.rstrip("`") or "$") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(str(error)) from None

    return read


def _pydantic_decode(adapter: Any) -> Decode:
    from pydantic import ValidationError

    def read(body: bytes) -> Any:
        try:
            return adapter.validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            if first["type"] == "json_invalid":
                raise _not_json(first["msg"]) from None
            path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
            raise _unfit(first["msg"], f"${path}") from None

    return read


def _unfit(text: str, path: str) -> Unfit:
    return Unfit(f"does not fit at {path}: {text}", 422)


def _not_json(why: str) -> Unfit:
    return Unfit(f"is not JSON: {why}", 400)


def _encode_bytes(value: Any) -> tuple[bytes, str | None]:
    return bytes(memoryview(value)), None


def _encode_text(value: str) -> tuple[bytes, str | None]:
    return value.encode(), TEXT_CONTENT_TYPE


def _encode_nothing(value: Any) -> tuple[bytes, str | None]:
    if value is not None:
        raise TypeError(f"the handler is declared to return nothing, and returned {type(value).__name__}")
    return b"", None


def _raw_json(value: Any) -> msgspec.Raw:
    dump = getattr(value, "model_dump_json", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} cannot become JSON")
    return msgspec.Raw(dump(by_alias=True).encode())


_to_json = msgspec.json.Encoder(enc_hook=_raw_json).encode


def _encode_json(value: Any) -> tuple[bytes, str | None]:
    return _to_json(value), None


def name_of(kind: Any) -> str:
    """A type for people: ``Greeting``, ``list[int]``."""
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _first(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2]
