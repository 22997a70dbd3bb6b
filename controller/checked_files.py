"""Owns files that must be as a pydantic model says: every mistake a line, with what to write instead.

A field's description completes the sentence "must be …". It refuses to know what a file is for; ``slo_files`` and
``limits_file`` call it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Generic, NamedTuple, NoReturn, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from controller.yaml_files import Document, Mistake, Place, parse_yaml, shown


class Written(BaseModel):
    """What every part of such a file is: nothing unknown, nothing guessed, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


M = TypeVar("M", bound=Written)


class Read(NamedTuple, Generic[M]):
    """A file that was read: ``value`` is None where there are mistakes."""

    value: M | None
    mistakes: list[Mistake]
    document: Document | None = None


LINE_RULE = "a text of 1 to 256 characters in one line"


def fits(rule: Callable[[str], bool]) -> Callable[[str], str]:
    """A validator of texts by ``rule``; what it wants is told by the field's description."""

    def check(value: str) -> str:
        if not rule(value):
            raise ValueError
        return value

    return check


Line = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(fits(str.isprintable))]
"""A text for people, as ``LINE_RULE`` says."""


def once_each(callers: Iterable[str], field: str) -> None:
    """Refuse, in a model's validator, the first who stands twice in the list ``field``, by its ``caller``."""
    seen: set[str] = set()
    for at, caller in enumerate(callers):
        if caller in seen:
            wrong(f"is {caller}, who is there already; keep one of the two", field, at, "caller")
        seen.add(caller)


def wrong(text: str, *place: str | int) -> NoReturn:
    """Refuse, in a model's validator, what stands at ``place`` within it."""
    raise PydanticCustomError("wrong", "{text}", {"text": text, "place": place})


def checked(path: Path, data: bytes, model: type[M]) -> Read[M]:
    """What was read of ``path`` as a ``model``, or everything that keeps it from being one."""
    document, mistakes = parse_yaml(path, data)
    if document is None:
        return Read(None, mistakes)
    keys = " and ".join(f"`{name}:`" for name, field in model.model_fields.items() if field.is_required())
    content = {} if document.content is None and not keys else document.content
    if not isinstance(content, Mapping):
        keys = keys or " or ".join(f"`{name}:`" for name in model.model_fields)
        return Read(None, [document.mistake((), f"must be a mapping with {keys}, not {shown(content)}")], document)
    try:
        value = model.model_validate(content)
    except ValidationError as error:
        mistakes += [_mistake(document, model, each) for each in error.errors(include_url=False)]
        return Read(None, sorted(mistakes, key=lambda each: each.line), document)
    return Read(None if mistakes else value, mistakes, document)


def _mistake(document: Document, model: type[Written], error: ErrorDetails) -> Mistake:
    place, value = error["loc"], error["input"]
    if error["type"] == "invalid_key":  # a number, which is not known either
        place = (*place[:-1], str(place[-1]))
    if error["type"] == "wrong":
        return document.mistake((*place, *error["ctx"]["place"]), error["ctx"]["text"])
    known = _fields(model, place[:-1])
    field = known.get(str(place[-1]))
    if error["type"] in ("extra_forbidden", "invalid_key"):
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        advice = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
        return document.mistake(place, f"is not known; {advice}")
    if error["type"] == "missing":
        return document.mistake(place, f"is missing; it must be {_rule(model, place)}")
    text = f"must be {_rule(model, place)}, not {shown(value)}"
    if field is not None and _is_text(field.annotation) and isinstance(value, int | float | date):
        text += "; put it in quotes"
    return document.mistake(place, text)


def _is_text(annotation: object) -> bool:
    return annotation is str or any(map(_is_text, get_args(annotation)))


def _rule(model: type[Written], place: Place) -> str:
    """The description of the field at ``place``; of an item of a list what it holds."""
    field = _fields(model, place[:-1]).get(str(place[-1]))
    if field is not None:
        return field.description or "left out"
    return f"a mapping of {', '.join(_fields(model, place))}"


def _fields(model: type[Written], place: Place) -> dict[str, FieldInfo]:
    fields = dict(model.model_fields)
    for part in place:
        if isinstance(part, int):
            continue
        field = fields.get(part)
        inner = None if field is None else _model(field.annotation)
        if inner is None:
            return {}
        fields = dict(inner.model_fields)
    return fields


def _model(annotation: object) -> type[Written] | None:
    if isinstance(annotation, type) and issubclass(annotation, Written):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model(each)) is not None), None)
