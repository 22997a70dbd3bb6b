"""Owns what a function needs beside the payload: reading it from the signature, and the order in which it is provided.

Two lifetimes. What a worker's lifespan yields is there from its start to its end; any other dependency is opened for
each dispatch, once, and closed after it. All of it is checked at declaration. ``workers.worker`` calls it; opening and
closing is for ``workers.lifespan`` and ``workers.injection``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints
from weakref import WeakSet

from workers.context import Context
from workers.errors import DeclarationError

Function = Callable[..., Any]
Kind = Literal["coroutine", "plain", "async generator", "plain generator"]
_CONTEXT_NAMES = ("ctx", "context")


@dataclass(frozen=True)
class Depends:
    """Says in a signature where a value comes from: ``session: Annotated[Session, Depends(open_session)]``.

    ``function`` returns the value, or yields it and cleans up afterwards; it is async or plain. It may depend on
    others in the same way, and take the ``Context``. If it is one of the worker's lifespans, the value is what that
    yielded when the worker started. Otherwise it is called for each dispatch, at most once.
    """

    function: Function


class Provider(NamedTuple):
    """A function that provides a value. ``key`` is the function that signatures name, which a test may replace."""

    key: Function
    function: Function
    kind: Kind
    needs: Mapping[str, Any]
    """What each parameter is filled with: the ``key`` of another provider, or ``Context``."""


Plan = tuple[Provider, ...]
Overrides = Mapping[Function, Function]

_lifespans_of_any: WeakSet[Function] = WeakSet()


def name_of(function: Function) -> str:
    """What to call a function in a message."""
    return getattr(function, "__qualname__", None) or repr(function)


def hints_of(function: Function, *, returns: bool = True) -> dict[str, Any]:
    """The annotations of ``function``; without ``returns`` only those of its parameters are looked at.

    Raises:
        DeclarationError: one of them names nothing.

    """
    said = {name: hint for name, hint in function.__annotations__.items() if returns or name != "return"}
    try:
        names = getattr(inspect.unwrap(function), "__globals__", None)
        return get_type_hints(SimpleNamespace(__annotations__=said), names, include_extras=True)
    except (NameError, TypeError) as error:
        raise DeclarationError(
            f"{name_of(function)}: an annotation cannot be read ({error}); define its type in the module"
        ) from None


def dependency_of(parameter: inspect.Parameter, hint: Any, owner: str) -> Function | None:
    """The function that ``Depends`` names for a parameter, or None.

    Raises:
        DeclarationError: it is said in a way that cannot work.

    """
    if isinstance(parameter.default, Depends):
        raise DeclarationError(
            f"{owner}: write `{parameter.name}: Annotated[…, Depends(…)]`, so that its type stays its type"
        )
    while hasattr(hint, "__value__"):  # a name for a type: `type Session = Annotated[…]`
        hint = hint.__value__
    said = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    if any(one is Depends for one in said):
        raise DeclarationError(f"{owner}: `{parameter.name}` depends on what? Write Depends(function)")
    found = next((one.function for one in said if isinstance(one, Depends)), None)
    if found is None and _says_depends(hint):  # it would be a payload, and the caller's to choose
        raise DeclarationError(f"{owner}: put the whole type of `{parameter.name}` into Annotated[…, Depends(…)]")
    if found is not None and parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise DeclarationError(f"{owner}: `{parameter}` cannot be filled by its name; take away the `/` or `*`")
    return found


def _says_depends(hint: Any) -> bool:
    return isinstance(hint, Depends) or any(_says_depends(part) for part in get_args(hint))


def is_context(parameter: inspect.Parameter, hint: Any) -> bool:
    """Whether a parameter takes the ``Context``: by its type, or without one by its name."""
    return hint is Context or (hint is None and parameter.name in _CONTEXT_NAMES)


def read_provider(function: Function, key: Function | None = None) -> Provider:
    """``function`` as a provider.

    Raises:
        DeclarationError: it is no function, or has a parameter that nothing fills.

    """
    name = name_of(function)
    if not (inspect.ismethod(function) or inspect.isfunction(inspect.unwrap(function))):
        raise DeclarationError(f"{name} is not a function; depend on one that returns or yields what you need")
    kind = kind_of(function)
    hints = hints_of(function, returns=False)
    needs: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name)
        if (depends := dependency_of(parameter, hint, name)) is not None:
            needs[parameter.name] = depends
        elif is_context(parameter, hint):
            needs[parameter.name] = Context
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD,
        ):  # fmt: skip
            raise DeclarationError(
                f"{name}: nothing fills `{parameter.name}`; write `Annotated[…, Depends(…)]`, take `ctx: Context`, "
                "or give it a default"
            )
    return Provider(key or function, function, kind, needs)


def kind_of(function: Function) -> Kind:
    """How ``function`` gives its value.

    Raises:
        DeclarationError: it is wrapped in a function of another kind, whose value would be a coroutine or a generator.

    """
    kind, written = _kind(function), _kind(inspect.unwrap(function))
    if kind == "plain" and written != "plain":
        name = name_of(function)
        raise DeclarationError(
            f"{name} is async, and what it is wrapped in is not; make the decorator's inner function `async def`"
            if written == "coroutine"
            else f"{name}: take off what it is wrapped in, such as @contextmanager; its `yield` is enough"
        )
    return kind


def _kind(function: Function) -> Kind:
    if inspect.isasyncgenfunction(function):
        return "async generator"
    if inspect.isgeneratorfunction(function):
        return "plain generator"
    return "coroutine" if inspect.iscoroutinefunction(function) else "plain"


def plan_dispatch(needs: Collection[Any], lifespans: Collection[Function], overrides: Overrides) -> Plan:
    """What is opened for one dispatch, in order, so that ``needs`` are there; each function once.

    Raises:
        DeclarationError: a dependency goes round in a circle, or cannot be provided.

    """
    plan: dict[Function, Provider] = {}

    def add(key: Any, path: tuple[Function, ...]) -> None:
        if key is Context or key in lifespans or key in plan:
            return
        if key in path:
            circle = " needs ".join(name_of(one) for one in (*path[path.index(key) :], key))
            raise DeclarationError(f"nothing can be provided for {name_of(key)}: {circle}")
        if key in _lifespans_of_any:
            raise DeclarationError(
                f"{name_of(key)} is a lifespan of another worker; decorate it with `@worker.lifespan` of this one too"
            )
        provider = read_provider(overrides.get(key, key), key)
        for need in provider.needs.values():
            add(need, (*path, key))
        plan[key] = provider

    for need in needs:
        add(need, ())
    return tuple(plan.values())


def read_lifespan(function: Function, earlier: Collection[Function], key: Function | None = None) -> Provider:
    """``function`` as a lifespan, which can need only those that are opened before it.

    Raises:
        DeclarationError: it needs something that is not there yet, or what ``read_provider`` says.

    """
    provider = read_provider(function, key)
    name = name_of(function)
    for need in provider.needs.values():
        if need is Context:
            raise DeclarationError(f"{name}: there is no Context yet when a worker starts")
        if need not in earlier:
            raise DeclarationError(
                f"{name} needs {name_of(need)}, which is opened for each dispatch; decorate that with "
                "`@worker.lifespan` too, above it"
            )
    _lifespans_of_any.add(provider.key)
    return provider
