"""What a handler may depend on, checked where it is declared. Nothing here needs a server."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import msgspec
import pytest
from typing_extensions import TypeAliasType

from crank import Context, DeclarationError, Depends, Worker


def _value() -> int:
    return 1


def _needs_value(ctx: Context, value: Annotated[int, Depends(_value)], limit: int = 3) -> int:
    return value


def _loop_a(b: _LoopB) -> int: ...
def _loop_b(a: Annotated[int, Depends(_loop_a)]) -> int: ...


_LoopB = Annotated[int, Depends(_loop_b)]


def _unfillable(ctx: Context, name: str) -> str: ...
def _unknown(value: Nowhere) -> int: ...  # type: ignore[name-defined]  # noqa: F821
@contextlib.contextmanager
def _managed() -> Iterator[int]:
    yield 1


def _on(dependency: Any) -> Any:
    def handler(value: Any) -> None: ...

    handler.__annotations__["value"] = Annotated[int, Depends(dependency)]
    return handler


def _defaulted(value: int = Depends(_value)) -> None: ...  # type: ignore[assignment]
def _unsaid(value: Annotated[int, Depends]) -> None: ...
def _only(value: Annotated[int, Depends(_value)], /) -> None: ...
def _starred(*values: Annotated[int, Depends(_value)]) -> None: ...
def _inside(value: Annotated[int, Depends(_value)] | None) -> None: ...
def _deep(value: list[Annotated[int, Depends(_value)]]) -> None: ...
def _around(function: Any) -> Any:
    """A decorator that does not know of async functions."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@_around
async def _wrapped() -> int: ...


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (_on(_loop_a), "_loop_a needs _loop_b needs _loop_a"),
        (_on(_unfillable), "_unfillable: nothing fills `name`"),
        (_on(_unknown), "_unknown: an annotation cannot be read"),
        (_on(_managed), "take off what it is wrapped in, such as @contextmanager"),
        (_on(3), "3 is not a function"),
        (_on(int), "int is not a function"),
        (_defaulted, "write `value: Annotated["),
        (_unsaid, "Write Depends(function)"),
        (_only, "cannot be filled by its name"),
        (_starred, "cannot be filled by its name"),
        (_inside, "put the whole type of `value` into Annotated[…, Depends(…)]"),
        (_deep, "put the whole type of `value` into Annotated[…, Depends(…)]"),
        (_on(_wrapped), "_wrapped is async, and what it is wrapped in is not"),
        (_wrapped, "_wrapped is async, and what it is wrapped in is not"),
    ],
)
def test_a_dependency_that_cannot_work_is_refused_at_decoration(handler: Any, says: str) -> None:
    """The error comes at import, and names the function and what is wrong with it."""
    with pytest.raises(DeclarationError) as caught:
        Worker("t").capability("a:b")(handler)
    assert says in str(caught.value)


def test_a_dependency_is_no_payload() -> None:
    """Payload and context may stand beside it in any order; the schema is the payload's alone."""
    worker = Worker("t")

    @worker.capability("a:b")
    def handler(value: Annotated[int, Depends(_needs_value)], payload: dict[str, int], ctx: Context) -> int:
        return value

    @worker.capability("a:c")
    def keyword(*, value: Annotated[int, msgspec.Meta(gt=0), Depends(_value)]) -> int:
        return value

    first, second = worker.offers
    assert first.capability.input_schema == {"type": "object", "additionalProperties": {"type": "integer"}}
    assert second.capability.input_schema is None
    assert [provider.key for provider in first.plan] == [_value, _needs_value]
    assert handler(3, {}, None) == 3  # type: ignore[arg-type]


def test_what_is_remembered_is_a_function_still() -> None:
    """``functools.cache`` is how settings are often read once."""

    @functools.cache
    def settings() -> dict[str, int]: ...

    @functools.cache
    async def session() -> int: ...

    worker = Worker("t")
    worker.capability("a:b")(_on(settings))
    assert worker.dependencies == {settings}
    with pytest.raises(DeclarationError, match="session is async, and what it is wrapped in is not"):
        worker.capability("a:c")(_on(session))


def test_a_type_with_a_dependency_may_have_a_name() -> None:
    """As by Python 3.12's ``type`` statement."""
    worker = Worker("t")
    handler = _on(_value)
    handler.__annotations__["value"] = TypeAliasType("Value", Annotated[int, Depends(_value)])  # type: ignore[misc]
    worker.capability("a:b")(handler)
    assert worker.dependencies == {_value}


def test_what_a_dependency_returns_need_not_be_known_at_run_time() -> None:
    """Its type may be imported for type checkers alone."""
    worker = Worker("t")

    @worker.lifespan
    def model() -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        return 1

    worker.capability("a:b")(_on(model))
    assert worker.dependencies == {model}


def test_a_lifespan_can_need_only_what_is_open_before_it() -> None:
    """Not a dispatch's context, nor what is opened for each dispatch, nor a parameter that nobody fills."""
    worker = Worker("t")

    def takes_context(ctx: Context) -> int: ...
    def takes_value(value: Annotated[int, Depends(_value)]) -> int: ...
    def takes_name(name: str) -> int: ...

    for function, says in (
        (takes_context, "no Context yet"),
        (takes_value, "_value, which is opened for each dispatch"),
        (takes_name, "nothing fills `name`"),
    ):
        with pytest.raises(DeclarationError, match=says):
            worker.lifespan(function)


def test_a_lifespan_is_declared_once_and_before_it_is_used() -> None:
    """Otherwise a model would be loaded for each dispatch, in silence; so it would for another worker's lifespan."""
    worker, other = Worker("t"), Worker("o")

    async def model() -> AsyncIterator[int]:
        yield 1

    worker.capability("a:b")(_on(model))
    with pytest.raises(DeclarationError, match=r"declare the lifespan .*model above a:b 1.0.0"):
        worker.lifespan(model)
    other.lifespan(model)
    with pytest.raises(DeclarationError, match="twice"):
        other.lifespan(model)
    with pytest.raises(DeclarationError, match="a lifespan of another worker"):
        worker.capability("a:c")(_on(model))


def test_a_method_is_the_same_dependency_each_time_it_is_named() -> None:
    """Python makes a new object of it each time."""

    class Models:
        def small(self) -> int: ...

    worker, models = Worker("t"), Models()
    worker.capability("a:b")(_on(models.small))
    with pytest.raises(DeclarationError, match=r"declare the lifespan .*small above a:b"):
        worker.lifespan(models.small)
