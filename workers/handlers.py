"""Owns reading a function's signature: what kind it is, what it takes, what it answers. Nothing runs here.

A handler takes at most one payload and at most one ``Context``, in any order, and whatever it depends on;
``workers.worker`` calls it at declaration, ``workers.runs`` calls what it returns.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, Literal, NamedTuple, get_args, get_origin

from callers.codecs import Decode, Encode, Schema, Unfit, reading, writing
from workers.context import Context
from workers.dependencies import Function, dependency_of, hints_of, is_context, kind_of, name_of
from workers.errors import DeclarationError, PermanentError
from workers.response import value_type

Kind = Literal["coroutine", "generator", "plain"]
Role = Literal["payload", "context"]
_STREAMS = (AsyncGenerator, AsyncIterable, AsyncIterator)


class Handler(NamedTuple):
    """A function, ready to be called with bytes. ``decode`` is None when it takes no payload."""

    function: Callable[..., Any]
    kind: Kind
    decode: Decode | None
    encode: Encode
    wants_context: bool
    context_first: bool
    input_schema: Schema | None
    output_schema: Schema | None
    names: dict[Role, str]
    """The parameters that take payload and context."""
    needs: dict[str, Function]
    """What each of the other parameters depends on."""

    def call(self, body: bytes, context: Context | None) -> Any:
        """Call a function that depends on nothing: a value, a coroutine or an async generator, by ``kind``.

        Raises:
            PermanentError: the payload cannot be read; and whatever a plain function raises.

        """
        if self.decode is None:
            return self.function(context) if self.wants_context else self.function()
        payload = self.read(body)
        if not self.wants_context:
            return self.function(payload)
        return self.function(context, payload) if self.context_first else self.function(payload, context)

    def read(self, body: bytes) -> Any:
        """The payload; None when the function takes none.

        Raises:
            PermanentError: it cannot be read.

        """
        if self.decode is None:
            return None
        try:
            return self.decode(body)
        except Unfit as error:
            raise PermanentError(f"The payload {error}", code=error.code) from None

    def call_with(self, payload: Any, context: Context | None, given: dict[str, Any]) -> Any:
        """As ``call``, with a payload that was read, and a value for each of ``needs``."""
        if "payload" in self.names:
            given[self.names["payload"]] = payload
        if "context" in self.names:
            given[self.names["context"]] = context
        return self.function(**given)


def read_handler(function: Callable[..., Any]) -> Handler:
    """The handler that ``function`` is.

    Raises:
        DeclarationError: it is no function, takes something else, or has a type that cannot become JSON.

    """
    name = name_of(function)
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise DeclarationError(f"{name} is not a function; decorate the async or plain function that does the work")
    kind = _kind(function, name)
    hints = hints_of(function)
    names: dict[Role, str] = {}
    needs: dict[str, Function] = {}
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name)
        if (depends := dependency_of(parameter, hint, name)) is not None:
            needs[parameter.name] = depends
            continue
        role = _role(parameter, hint, name)
        if role in names:
            raise DeclarationError(
                f"{name} takes more than one payload and one context; put the payload's parts in a type"
            )
        names[role] = parameter.name
    try:
        read = reading(hints[names["payload"]]) if "payload" in names else None
        write = writing(_answer_type(hints, kind, name))
    except TypeError as error:
        raise DeclarationError(f"{name}: {error}") from None
    return Handler(
        function=function,
        kind=kind,
        decode=read.decode if read else None,
        encode=write.encode,
        wants_context="context" in names,
        context_first=next(iter(names), None) == "context",
        input_schema=read.schema if read else None,
        # A schema speaks of a whole answer, and a stream has none.
        output_schema=None if kind == "generator" else write.schema,
        names=names,
        needs=needs,
    )


def _kind(function: Callable[..., Any], name: str) -> Kind:
    match kind_of(function):
        case "async generator":
            return "generator"
        case "plain generator":
            raise DeclarationError(f"{name} is a plain generator; write `async def` to stream its values")
        case kind:
            return kind


def _role(parameter: inspect.Parameter, hint: Any, name: str) -> Role:
    if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
        raise DeclarationError(
            f"{name}: `{parameter}` cannot be filled; take one payload and `ctx: Context`, with no `*` or `/`"
        )
    if is_context(parameter, hint):
        return "context"
    if hint is None:
        raise DeclarationError(f"{name}: give `{parameter.name}` a type, such as bytes, dict or a struct of yours")
    if parameter.default is not parameter.empty:
        raise DeclarationError(f"{name}: `{parameter.name}` has a default that would never be used; give its type one")
    return "payload"


def _answer_type(hints: dict[str, Any], kind: Kind, name: str) -> Any:
    if "return" not in hints:
        return Any
    hint = hints["return"]
    if kind != "generator":
        return value_type(hint)
    if get_origin(hint) not in _STREAMS:
        raise DeclarationError(f"{name} streams; say so with `-> AsyncIterator[…]`")
    return value_type(get_args(hint)[0])
