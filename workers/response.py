"""Owns an answer with headers of its own, and which headers a handler may set.

Handlers return it; ``workers.handlers`` reads it in a signature, ``workers.runs`` sends it.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

from subjects.headers import (
    CONTENT_TYPE,
    MAX_BLOCK_BYTES,
    MAX_CONTENT_TYPE_CHARS,
    belongs_to_contract,
    is_header_name,
    is_header_value,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Response(Generic[T]):
    """An answer with headers: ``return Response(greeting, headers={"Cache-Control": "max-age=60"})``.

    ``value`` is written as it would be without; ``content_type`` says what it is, instead of what its type and the
    capability say. In a signature it is ``Response[Greeting]``.

    Raises:
        ValueError: a name or value that cannot be a header, a name that Crank or NATS writes itself, or too much.

    """

    value: T
    content_type: str | None = field(default=None, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if self.content_type is not None and not is_content_type(self.content_type):
            raise ValueError(f"content_type is a media type, such as text/csv, not {self.content_type!r:.100}")
        for name, value in self.headers.items():
            _check(name, value)
        # A copy that nobody changes: what was checked is what is sent.
        object.__setattr__(self, "headers", types.MappingProxyType(dict(self.headers)))
        if len(self.lines().encode()) > MAX_BLOCK_BYTES:
            raise ValueError(f"the headers of an answer are at most {MAX_BLOCK_BYTES} bytes; put more into its body")

    def lines(self) -> str:
        """The headers as lines of the contract."""
        return "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())


def is_content_type(text: object) -> bool:
    """Whether ``text`` can stand in ``Content-Type``."""
    return isinstance(text, str) and text.isascii() and text.isprintable() and 0 < len(text) <= MAX_CONTENT_TYPE_CHARS


def value_type(hint: Any) -> Any:
    """What ``hint`` says of the value: ``T`` for ``Response[T]``, also among alternatives."""
    if hint is Response:
        return Any
    origin = get_origin(hint)
    if origin is Response:
        return get_args(hint)[0]
    if origin in (Union, types.UnionType):
        return Union[tuple(map(value_type, get_args(hint)))]  # noqa: UP007  # how many there are is known only now
    return hint


def _check(name: object, value: object) -> None:
    if not isinstance(name, str) or not is_header_name(name):
        raise ValueError(f"{name!r:.100} is not the name of a header")
    if name.lower() == CONTENT_TYPE.lower():
        raise ValueError("the content type is said with content_type=…")
    if belongs_to_contract(name):
        raise ValueError(f"{name} is not a handler's to set: Crank and NATS write it")
    if not isinstance(value, str) or not is_header_value(value):
        raise ValueError(f"the value of {name} must be text without control characters, not {value!r:.100}")
