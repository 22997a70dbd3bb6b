"""Owns reading a function's signature: what kind it is, what it takes, what it answers. Nothing runs here.

A handler takes at most one payload and at most one ``Context``, in any order; ``workers.worker`` calls it at
declaration, ``workers.runs`` calls what it returns.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from callers.codecs import Decode, Encode, Schema, Unfit, reading, writing
from workers.context import Context
from workers.errors import DeclarationError, PermanentError
from workers.response import value_type

Kind = Literal["coroutine", "generator", "plain"]
_STREAMS = (AsyncGenerator, AsyncIterable, AsyncIterator)
_CONTEXT_NAMES = ("ctx", "context")


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

    def call(self, body: bytes, context: Context | None) -> Any:
        """Call the function: a value, a coroutine or an async generator, by ``kind``.

        Raises:
            PermanentError: the payload cannot be read; and whatever a plain function raises.

        """
        if self.decode is None:
            return self.function(context) if self.wants_context else self.function()
        try:
            payload = self.decode(body)
        except Unfit as error:
            raise PermanentError(f"The payload {error}", code=error.code) from None
        if not self.wants_context:
            return self.function(payload)
        return self.function(context, payload) if self.context_first else self.function(payload, context)


def read_handler(function: Callable[..., Any]) -> Handler:
    """The handler that ``function`` is.

    Raises:
        DeclarationError: it is no function, takes something else, or has a type that cannot become JSON.

    """
    name = getattr(function, "__qualname__", repr(function))
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise DeclarationError(f"{name} is not a function; decorate the async or plain function that does the work")
    kind = _kind(function, name)
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise DeclarationError(
            f"{name}: an annotation cannot be read ({error}); define its type in the module"
        ) from None
    takes = [_role(parameter, hints, name) for parameter in inspect.signature(function).parameters.values()]
    if takes.count("payload") > 1 or takes.count("context") > 1:
        raise DeclarationError(f"{name} takes more than one payload and one context; put the payload's parts in a type")
    try:
        read = reading(_payload_type(function, hints)) if "payload" in takes else None
        write = writing(_answer_type(hints, kind, name))
    except TypeError as error:
        raise DeclarationError(f"{name}: {error}") from None
    return Handler(
        function=function,
        kind=kind,
        decode=read.decode if read else None,
        encode=write.encode,
        wants_context="context" in takes,
        context_first=takes[:1] == ["context"],
        input_schema=read.schema if read else None,
        # A schema speaks of a whole answer, and a stream has none.
        output_schema=None if kind == "generator" else write.schema,
    )


def _kind(function: Callable[..., Any], name: str) -> Kind:
    if inspect.isasyncgenfunction(function):
        return "generator"
    if inspect.isgeneratorfunction(function):
        raise DeclarationError(f"{name} is a plain generator; write `async def` to stream its values")
    return "coroutine" if inspect.iscoroutinefunction(function) else "plain"


def _role(parameter: inspect.Parameter, hints: dict[str, Any], name: str) -> Literal["payload", "context"]:
    if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        raise DeclarationError(
            f"{name}: `{parameter}` cannot be filled; take one payload and, if wanted, `ctx: Context`"
        )
    hint = hints.get(parameter.name)
    if hint is Context or (hint is None and parameter.name in _CONTEXT_NAMES):
        return "context"
    if parameter.name not in hints:
        raise DeclarationError(f"{name}: give `{parameter.name}` a type, such as bytes, dict or a struct of yours")
    if parameter.default is not parameter.empty:
        raise DeclarationError(f"{name}: `{parameter.name}` has a default that would never be used; give its type one")
    return "payload"


def _payload_type(function: Callable[..., Any], hints: dict[str, Any]) -> Any:
    names = inspect.signature(function).parameters
    return next(hints[name] for name in names if name in hints and hints[name] is not Context)


def _answer_type(hints: dict[str, Any], kind: Kind, name: str) -> Any:
    if "return" not in hints:
        return Any
    hint = hints["return"]
    if kind != "generator":
        return value_type(hint)
    if get_origin(hint) not in _STREAMS:
        raise DeclarationError(f"{name} streams; say so with `-> AsyncIterator[…]`")
    return value_type(get_args(hint)[0])
