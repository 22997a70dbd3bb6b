"""Owns what a service says of its endpoints for us: metadata ``crank.<field>``, a field of the manifest.

``crank.adopting.plans`` asks. Whether a value is a possible one is checked where every declaration is.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from subjects.errors import describe
from workers.declarations import Metadata

_PREFIX = "crank."
# An endpoint answers once, and calls nobody as this worker. It checks its payloads itself: one schema that controllers
# do not take would have the whole worker refused, and with it all other endpoints.
_NOT_HINTED = {"streaming", "required_capabilities", "input_schema", "output_schema"}
_FIELDS = sorted(Metadata.__annotations__.keys() - _NOT_HINTED)
_MAX_CHARS = 1024


def hints_of(service: Mapping[str, Any] | None, endpoint: Mapping[str, Any] | None) -> Metadata | str:
    """The fields that an endpoint's metadata sets, with its service's for all of them; or what is wrong with one.

    Metadata is text, so a value is JSON, or the text itself where it is none: ``true``, ``0.5``, ``node20``.
    """
    hints: dict[str, Any] = {}
    for key, value in {**(service or {}), **(endpoint or {})}.items():
        if not key.startswith(_PREFIX):
            continue
        field = key.removeprefix(_PREFIX)
        if field not in _FIELDS:
            near = difflib.get_close_matches(field[:64], _FIELDS, 1)
            advice = f"did you mean {_PREFIX}{near[0]}?" if near else f"after {_PREFIX} comes {', '.join(_FIELDS)}"
            return f"its metadata has {describe(key)}; {advice}"
        if not isinstance(value, str) or len(value) > _MAX_CHARS:
            return f"its metadata {key} is not a text of at most {_MAX_CHARS} characters"
        try:
            hints[field] = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            hints[field] = value
    concurrency = hints.get("max_concurrency", 1)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        return f"its metadata {_PREFIX}max_concurrency is {describe(concurrency)}, which is no number"
    return cast(Metadata, hints)  # what kind each value is, is checked when it is declared
