"""Owns reading the YAML files that people write: what they say, on which line, and why it is no YAML.

It refuses to know what a file is for, and never raises. ``settings`` calls it, and ``checked_files`` for all others.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import yaml

# By a part of what the parser says, in the order in which they are looked for: what to do about it.
_ADVICE = {
    "'\\t'": "indent with spaces, not with tabs",
    "cannot start any token": "put a text that begins with it in quotes",
    "chomping or indentation": "put a text that begins with > or | in quotes",
    "another document": "a file holds one, so take out the line --- and what does not belong here",
}

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


def read_yaml(path: Path, most_bytes: int) -> tuple[Document | None, list[Mistake]]:
    """The file's content, None where it is no YAML; keys that are there twice are mistakes beside it."""
    data = read_bytes(path, most_bytes)
    return parse_yaml(path, data) if isinstance(data, bytes) else (None, [data])


def read_bytes(path: Path, most_bytes: int) -> bytes | Mistake:
    """All of a file, or why not."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        return Mistake(str(path), 0, "", f"cannot be read: {error.strerror}")
    return data if len(data) <= most_bytes else Mistake(str(path), 0, "", f"is longer than {most_bytes} bytes")


def parse_yaml(path: Path, data: bytes) -> tuple[Document | None, list[Mistake]]:
    """As ``read_yaml``, of what was read already."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [Mistake(str(path), line, "", "is not UTF-8 text")]
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
        said = error.problem or error.context or "is no YAML"
        advice = next((f"; {each}" for part, each in _ADVICE.items() if part in said), "")
        return None, [Mistake(str(path), mark.line + 1 if mark else 0, "", f"{place}{said}{advice}")]
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
        except (ValueError, LookupError, AttributeError):  # a 30th of February: a text, which is wrong in its place
            return node.value


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
