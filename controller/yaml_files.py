"""Owns reading the YAML files that people write, against a pydantic model: every mistake is told, with its line.

A field's description completes the sentence "must be …". It refuses to know what a file is for; ``slo_files``,
``limits_file`` and ``settings`` call it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

Place = tuple[str | int, ...]
"""Keys and indices from the top of a file to a value."""


class Mistake(NamedTuple):
    """What is wrong in a file, and what to write instead; ``line`` 0 and ``field`` "" are the file as a whole."""

    file: str
    line: int
    field: str
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:" if self.line else f"{self.file}:"
        return " ".join(part for part in (where, self.field, self.text) if part)


class Document(NamedTuple):
    """A file's content, and the line of each value in it."""

    path: Path
    content: object
    lines: Mapping[Place, int]

    def mistake(self, place: Place, text: str) -> Mistake:
        """``text`` about the value at ``place``, or about where it is missing."""
        known = place
        while known and known not in self.lines:
            known = known[:-1]
        return Mistake(str(self.path), self.lines.get(known, 1), shown_place(place), text)


class Written(BaseModel):
    """What every part of such a file is: nothing unknown, nothing guessed, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


M = TypeVar("M", bound=Written)


class Read(NamedTuple, Generic[M]):
    """A file that was read: ``value`` is None where there are mistakes."""

    value: M | None
    mistakes: list[Mistake]
    document: Document | None = None


def fits(rule: Callable[[str], bool]) -> Callable[[str], str]:
    """A validator of texts by ``rule``; what it wants is told by the field's description."""

    def check(value: str) -> str:
        if not rule(value):
            raise ValueError
        return value

    return check


def wrong(text: str, *place: str | int) -> NoReturn:
    """Refuse, in a model's validator, what stands at ``place`` within it."""
    raise PydanticCustomError("wrong", "{text}", {"text": text, "place": place})


def shown_place(place: Place) -> str:
    """``slo.error_budget.alerts[0].channel``."""
    shown = ""
    for part in place:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else str(part)
    return shown


def shown(value: object) -> str:
    """``value`` in a message: short, whatever it holds."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(str(value) if isinstance(value, date) else value)
    return {"None": "empty", "True": "true", "False": "false"}.get(text) or f"{text:.60}"


def read_as(path: Path, model: type[M], most_bytes: int) -> Read[M]:
    """The file as a ``model``, or everything that keeps it from being one."""
    document, mistakes = read_yaml(path, most_bytes)
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


def read_yaml(path: Path, most_bytes: int) -> tuple[Document | None, list[Mistake]]:
    """The file's content, None where it is no YAML; keys that are there twice are mistakes beside it."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        return None, [Mistake(str(path), 0, "", f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [Mistake(str(path), line, "", "is not UTF-8 text")]
    if len(data) > most_bytes:
        return None, [Mistake(str(path), 0, "", f"is longer than {most_bytes} bytes")]
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        twice: list[Place] = []
        if node is None:
            return Document(path, None, lines), []
        _walk(node, (), lines, twice)
        document = Document(path, loader.construct_document(node), lines)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return None, [Mistake(str(path), line, "", "holds a character that YAML does not allow")]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"column {mark.column + 1}: " if mark is not None else ""
        return None, [Mistake(str(path), mark.line + 1 if mark else 0, "", f"{place}{error.problem or error.context}")]
    except RecursionError:
        return None, [Mistake(str(path), 0, "", "is nested too deeply")]
    return document, [document.mistake(place, "is there twice; keep one") for place in twice]


class _Loader(yaml.SafeLoader):
    """Nothing is written once and read many times, so that a small file stays small; and no mistake is a traceback."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: yaml.AliasEvent = self.peek_event()  # type: ignore[no-untyped-call]
            text = f"*{event.anchor} is not understood here; write out what it stands for"
            raise yaml.composer.ComposerError(None, None, text, event.start_mark)  # type: ignore[arg-type]
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # a 30th of February; a number of thousands of digits
            text = f"{shown(node.value)} cannot be read: {error}"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark) from None


def _walk(node: yaml.Node, place: Place, lines: dict[Place, int], twice: list[Place]) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = (*place, str(key.value))
            lines[name] = key.start_mark.line + 1
            if key.value in seen and isinstance(key.value, Hashable):
                twice.append(name)
            seen.add(str(key.value))
            _walk(value, name, lines, twice)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*place, index), lines, twice)


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
