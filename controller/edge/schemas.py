"""Owns JSON Schema 2020-12: compiling what workers declare, and checking payloads against it.

A schema comes from outside, and so do payloads: a schema may not reach the network, its patterns run in linear time,
what it makes of one value is bounded (``schema_load``), and an error is told only where telling is cheap.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jsonschema_rs
import msgspec
from cachetools import LRUCache

from controller.core.model import Mismatch
from controller.edge.schema_load import Load, TooMuch, load_of
from subjects.errors import Offence
from subjects.manifests import Manifest, schema_text

# Distinct schemas in use at a time; more are compiled again when they are needed.
_KEPT = 4096
_MESSAGE_CHARS = 300
# Of each pattern's automaton. 255 ASCII letters fit; a long repetition of all letters does not. The engine is linear in
# the text, but every character may cost a step for every state: 3 us at worst within this limit.
_LINEAR = jsonschema_rs.RegexOptions(size_limit=100_000)
_PATTERN_ADVICE = (
    "; patterns run in linear time, so none may look around or refer back, and each is small: "
    "bound lengths by maxLength rather than by {1,1000}"
)
# Everybody else waits while a manifest is compiled: five hundred ordinary schemas take half of this. What was compiled
# until then is kept, so that a second attempt gets further.
_MANIFEST_PATIENCE_S = 2.0
# Subschemas laid on values, of one payload: 12 ns each.
_MOST_CHECKS = 16_000_000
# jsonschema-rs compares every integer of more than 64 bits with every other to see whether items are unique, and
# divides such numbers, and those of many decimals, digit by digit. Counted in words of 64 bits.
_MOST_LONG_WORDS = 200
_SHORT = 1e-19
_LONG_NUMBER = re.compile(rb"[0-9]{19}|[0-9][eE][+-]?[0-9]{2}")
_STEEP_NUMBER = re.compile(rb"[0-9][eE][+-]?[0-9]{3}")
_STEEP_BYTES, _MOST_STEEP = 5000, 1000
# To tell a fault costs 15 us for every branch on the way to it, and a copy of what it is about.
_MOST_TOLD, _MOST_TOLD_BYTES = 4000, 4_000_000

_DOES_NOT_FIT = "does not fit the schema; the schema branches too much, or the payload is too large, to say where"


class _Compiled(NamedTuple):
    validator: jsonschema_rs.Draft202012Validator
    load: Load


class Schemas:
    """Compiled validators by schema text."""

    def __init__(self) -> None:
        # A text that cannot be used is kept too, as what is wrong with it.
        self._compiled: LRUCache[str, _Compiled | str] = LRUCache(_KEPT)

    def offences(self, manifest: Manifest) -> list[Offence]:
        """What is wrong with a manifest's schemas themselves."""
        found: list[Offence] = []
        until = time.monotonic() + _MANIFEST_PATIENCE_S
        for index, capability in enumerate(manifest.capabilities):
            for field in ("input_schema", "output_schema"):
                text = schema_text(getattr(capability, field))
                if text is None:
                    continue
                path = f"capabilities[{index}].{field}"
                known = text in self._compiled
                problem = self._get(text)
                if isinstance(problem, str):
                    found.append(Offence(path, problem))
                if not known and time.monotonic() > until:
                    return [
                        *found,
                        Offence(
                            path, "takes, with those before it, too long to compile; declare fewer and smaller schemas"
                        ),
                    ]
        return found

    def _get(self, text: str) -> _Compiled | str:
        found = self._compiled.get(text)
        if found is None:
            self._compiled[text] = found = _compile(text)
        return found

    def check(self, schema: str, body: bytes) -> Mismatch | None:
        """Validate ``body`` against ``schema``, which was accepted at registration; None when it fits."""
        if not body:
            return Mismatch(False, "", "it is empty")
        try:
            value = _decode(body)
        except (ValueError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
            return Mismatch(False, "", _short(str(error)))
        compiled = self._get(schema)
        if isinstance(compiled, str):  # stored by another release, which took it
            return Mismatch(True, "", f"the schema {compiled}")
        validator, load = compiled
        most = _MOST_CHECKS // load.laid
        if len(body) > 2 * most and _count(value, most) > most:
            return Mismatch(True, "", "holds too many values to be checked against the schema; send less at a time")
        if load.numbers and _LONG_NUMBER.search(body) and _long_words(value) > _MOST_LONG_WORDS:
            return Mismatch(True, "", "holds too many numbers of 20 digits and more to be checked; send them as text")
        try:
            if validator.is_valid(value):
                return None
            if not _tellable(load, value, body):
                return Mismatch(True, "", _DOES_NOT_FIT)
            validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return Mismatch(True, _path(error.instance_path), _short(error.message))
        except (ValueError, RecursionError) as error:
            return Mismatch(True, "", _short(str(error)))
        return None


def _compile(text: str) -> _Compiled | str:
    try:
        schema = msgspec.json.decode(text)
        load = load_of(schema)  # first: compiling unfolds references too
        # Messages go into headers and logs, and what is in a payload is nobody's business there.
        validator = jsonschema_rs.Draft202012Validator(schema, pattern_options=_LINEAR, offline=True, mask="the value")
        return _Compiled(validator, load)
    except TooMuch as error:
        return str(error)
    except (ValueError, jsonschema_rs.ReferencingError, RecursionError) as error:  # ValidationError is a ValueError
        what = _short(str(error))
        advice = _PATTERN_ADVICE if what.endswith('is not a "regex"') else ""
        return f"is not a JSON Schema (2020-12) that stands by itself: {what}{advice}"


def _decode(body: bytes) -> Any:
    # msgspec takes 8 us for a number such as 1e300, a second for a megabyte of them; the standard library does not.
    if len(body) > _STEEP_BYTES and sum(1 for _ in _STEEP_NUMBER.finditer(body)) > _MOST_STEEP:
        return json.loads(body.decode(), parse_constant=_no_number)
    return msgspec.json.decode(body)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _tellable(load: Load, value: Any, body: bytes) -> bool:
    if not load.lists and not load.doubles:
        return True
    if load.laid * len(body) > _MOST_TOLD_BYTES:
        return False
    told, each, level = 0, load.laid, [value]
    while level and told <= _MOST_TOLD:
        told += each * len(level)
        level = [inner for outer in level for inner in _within(outer)]
        each *= load.laid if load.doubles else 1
    return told <= _MOST_TOLD


def _within(value: Any) -> Collection[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _count(value: Any, most: int) -> int:
    """How many values ``value`` is, itself included; little more than ``most`` stands for all above it."""
    count, stack = 1, [value]
    while stack and count <= most:
        inner = _within(stack.pop())
        count += len(inner)
        stack += inner
    return count


def _long_words(value: Any) -> int:
    """The 64-bit words of all integers that need several, and one for each very large or very small number.

    Counted until there are too many.
    """
    words, stack = 0, [value]
    while stack and words <= _MOST_LONG_WORDS:
        inner = stack.pop()
        if isinstance(inner, int):
            words += inner.bit_length() >> 6
        elif isinstance(inner, float):
            words += inner != 0 and not _SHORT < abs(inner) < 1 / _SHORT
        else:
            stack += _within(inner)
    return words


def _path(parts: Sequence[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return _short(text)


def _short(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= _MESSAGE_CHARS else line[: _MESSAGE_CHARS - 1] + "…"
