"""Owns JSON Schema 2020-12: compiling what workers declare, and checking payloads against it.

A schema comes from outside: it may not reach the network, and its patterns run in linear time.
"""

from __future__ import annotations

from collections.abc import Sequence

import jsonschema_rs
import msgspec
from cachetools import LRUCache

from controller.core.model import Mismatch
from subjects.errors import Offence
from subjects.manifests import Manifest, schema_text

# Distinct schemas in use at a time; more are compiled again when they are needed.
_KEPT = 4096
_MESSAGE_CHARS = 300
_LINEAR = jsonschema_rs.RegexOptions()


class Schemas:
    """Compiled validators by schema text."""

    def __init__(self) -> None:
        self._compiled: LRUCache[str, jsonschema_rs.Draft202012Validator] = LRUCache(_KEPT)

    def offences(self, manifest: Manifest) -> list[Offence]:
        """What is wrong with a manifest's schemas themselves."""
        found = []
        for index, capability in enumerate(manifest.capabilities):
            for field in ("input_schema", "output_schema"):
                text = schema_text(getattr(capability, field))
                problem = None if text is None else self._problem(text)
                if problem is not None:
                    found.append(Offence(f"capabilities[{index}].{field}", problem))
        return found

    def _problem(self, text: str) -> str | None:
        try:
            self._validator(text)
        except (ValueError, jsonschema_rs.ReferencingError) as error:  # ValidationError is a ValueError
            return f"is not a JSON Schema (2020-12) that stands by itself: {_short(str(error))}"
        return None

    def _validator(self, text: str) -> jsonschema_rs.Draft202012Validator:
        validator = self._compiled.get(text)
        if validator is None:
            schema = msgspec.json.decode(text)
            validator = jsonschema_rs.Draft202012Validator(schema, pattern_options=_LINEAR, offline=True)
            self._compiled[text] = validator
        return validator

    def check(self, schema: str, body: bytes) -> Mismatch | None:
        """Validate ``body`` against ``schema``, which was accepted at registration; None when it fits."""
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Mismatch(False, "", _short(str(error)))
        try:
            self._validator(schema).validate(value)
        except jsonschema_rs.ValidationError as error:
            return Mismatch(True, _path(error.instance_path), _short(error.message))
        except (ValueError, RecursionError) as error:
            return Mismatch(True, "", _short(str(error)))
        return None


def _path(parts: Sequence[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return _short(text)


def _short(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= _MESSAGE_CHARS else line[: _MESSAGE_CHARS - 1] + "…"
