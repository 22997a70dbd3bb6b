"""Owns reading OpenSLO v1 documents, ours and others', into the content of SLO files, and what could not be taken over.

Nothing that is imported is enforced: the files begin in the phase ``log``. ``crank slo import`` calls ``taken_in``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from crank.slo.openslo import API_VERSION, MONTH, OURS, QUANTILES
from subjects.tokens import CapabilityId, is_capability, split_capability

_bucket = re.compile(r'\ble=~?"(\d+(?:\\*\.\d+)?)').search
_in_seconds = re.compile(r"seconds|_s\b").search
_READ = {"service", "indicator", "indicatorRef", "timeWindow", "budgetingMethod", "objectives", "description"}


class TakenIn(NamedTuple):
    """The content of an SLO file for each capability, and a line for everything that is not in it."""

    files: dict[CapabilityId, dict[str, Any]]
    left: list[str]


class _Bound(NamedTuple):
    """The longest time that is good, in milliseconds."""

    ms: float
    note: str = ""


def taken_in(documents: Iterable[object], capability: CapabilityId | None = None) -> TakenIn:
    """What ``documents`` ask; ``capability`` is whose objective it is where they do not say it themselves."""
    reading = _Reading(capability)
    for number, document in enumerate(documents, 1):
        reading.sort_in(number, document)
    for name, spec in reading.slos.items():
        reading.read(name, spec)
    return TakenIn({each: content for each, content in reading.files.items() if content["slo"]}, reading.left)


class _Reading:
    def __init__(self, capability: CapabilityId | None) -> None:
        self.files: dict[CapabilityId, dict[str, Any]] = {}
        self.left: list[str] = []
        self.slos: dict[str, Mapping[str, Any]] = {}
        self._services: dict[str, Mapping[str, Any]] = {}
        self._indicators: dict[str, Mapping[str, Any]] = {}
        self._capability = capability

    def sort_in(self, number: int, document: object) -> None:
        """By kind and name."""
        kind, name = _at(document, "kind"), _at(document, "metadata", "name")
        if _at(document, "apiVersion") != API_VERSION or not isinstance(name, str):
            self.left.append(f"document {number}: it is not of {API_VERSION}, with kind and metadata.name")
        elif kind == "SLO":
            self.slos[name] = _mapping(_at(document, "spec"))
        elif kind == "Service":
            self._services[name] = _mapping(_at(document, "metadata", "annotations"))
        elif kind == "SLI":
            self._indicators[name] = _mapping(_at(document, "spec"))
        else:
            self.left.append(f"{_text(kind)} {name}: there is nothing of this kind in an SLO file")

    def read(self, name: str, spec: Mapping[str, Any]) -> None:
        """One SLO."""
        content = self._content(spec)
        if content is None:
            self._leave(name, "nothing says whose objective it is; say it with --capability VERB:NAME")
            return
        if spec.get("budgetingMethod") != "Occurrences":
            self._leave(name, "its budget counts slices of time, and ours requests")
            return
        if _at(spec, "timeWindow", 0, "duration") != MONTH["duration"] or _at(spec, "timeWindow", 0, "isRolling"):
            self._leave(name, "timeWindow: our budgets are of a month of the calendar, in UTC")
        for key in sorted(map(_text, spec.keys() - _READ)):
            self._leave(name, f"{key} has no place in an SLO file")
        inline = _at(spec, "indicator", "spec")
        indicator = _mapping(inline if inline is not None else self._indicators.get(_text(spec.get("indicatorRef"))))
        if not indicator:
            self._leave(name, "its indicator is not in this file")
        objectives = spec.get("objectives")
        for objective in objectives if indicator and isinstance(objectives, list) else ():
            self._ask(name, content, indicator, _mapping(objective))

    def _content(self, spec: Mapping[str, Any]) -> dict[str, Any] | None:
        """The file that this SLO belongs into."""
        told = self._services.get(_text(spec.get("service")), {})
        own = told.get(f"{OURS}capability")
        capability = CapabilityId(own) if isinstance(own, str) and is_capability(own) else self._capability
        return None if capability is None else self.files.setdefault(capability, _begun(capability, told))

    def _ask(
        self, name: str, content: dict[str, Any], indicator: Mapping[str, Any], objective: Mapping[str, Any]
    ) -> None:
        target, percent = _number(objective.get("target")), _number(objective.get("targetPercent"))
        target = target if target is not None or percent is None else float(Decimal(repr(percent)) / 100)
        if target is None:
            self._leave(name, "an objective has no target")
            return
        bound = _bound(indicator, objective)
        if bound is None and "thresholdMetric" in indicator:
            self._leave(name, f"target {target:g}: only `op: lte` or `lt` with a value is a latency")
        elif bound is None:
            self._set(name, content, ("availability", "target"), target)
        elif (field := next((field for field, share in QUANTILES.items() if share == target), None)) is None:
            self._leave(name, f"target {target:g} within {bound.ms:g} ms: there are only 0.5, 0.95 and 0.99")
        else:
            self._set(name, content, ("latency", field), bound.ms)
            if bound.note:
                self._leave(name, bound.note)

    def _set(self, name: str, content: dict[str, Any], place: tuple[str, str], value: float) -> None:
        part = content["slo"].setdefault(place[0], {})
        if place[1] in part:
            self._leave(name, f"{value:g}: slo.{'.'.join(place)} is {part[place[1]]:g} already")
        else:
            part[place[1]] = value

    def _leave(self, name: str, why: str) -> None:
        self.left.append(f"SLO {name}: {why}")


def _begun(capability: CapabilityId, told: Mapping[str, Any]) -> dict[str, Any]:
    """What our own annotations say beside the objectives."""
    ours = {_text(key).removeprefix(OURS): value for key, value in told.items() if isinstance(value, str)}
    verb, name = split_capability(capability)
    content: dict[str, Any] = {"capability": {"verb": verb, "name": name}, "slo": {}}
    if "version" in ours:
        content["capability"]["version"] = ours["version"]
    if ours.get("timeout_ms", "").isdecimal():
        content["slo"]["timeout_ms"] = int(ours["timeout_ms"])
    if metadata := {key: ours[key] for key in ("owner", "cost_center", "tier") if key in ours}:
        content["metadata"] = metadata
    return content


def _bound(indicator: Mapping[str, Any], objective: Mapping[str, Any]) -> _Bound | None:
    """The time within which a request is good, if that is what is counted."""
    value = _number(objective.get("value"))
    if "thresholdMetric" in indicator and objective.get("op") in ("lte", "lt") and value is not None:
        if _in_seconds(_text(_at(indicator, "thresholdMetric", "metricSource", "spec", "query"))):
            return _Bound(_plain(Decimal(repr(value)) * 1000))
        return _Bound(value, f"value {value:g}: it is taken as milliseconds")
    found = _bucket(_text(_at(indicator, "ratioMetric", "good", "metricSource", "spec", "query")))
    return _Bound(_plain(Decimal(found[1].replace("\\", "")) * 1000)) if found else None


def _plain(number: Decimal) -> float:
    """As a person would write it."""
    return int(number) if number.is_finite() and number == number.to_integral_value() else float(number)


def _at(value: object, *place: str | int) -> Any:
    """What stands there, or None."""
    for part in place:
        if isinstance(part, int):
            value = value[part] if isinstance(value, list) and len(value) > part else None
        else:
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
