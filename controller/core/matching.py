"""Owns whether an offer fits what a request asks for, by version and constraints, and the reason when it does not."""

from __future__ import annotations

from functools import lru_cache

from subjects.errors import describe
from subjects.manifests import Capability
from subjects.requests import ConstraintValue, constraint_items
from subjects.versions import in_range


def mismatch(spec: Capability, version: str | None, constraints: str | None) -> str | None:
    """Why ``spec`` does not fit, or None when it does. ``constraints`` is canonical JSON text."""
    if not in_range(spec.version, version):
        return f"version {spec.version} is not in {version}"
    for key, wanted in _items(constraints).items() if constraints is not None else ():
        reason = _unmet(_declared(spec, key), key, wanted)
        if reason is not None:
            return reason
    return None


# One text is matched against a whole fleet.
_items = lru_cache(maxsize=256)(constraint_items)


def _declared(spec: Capability, key: str) -> object:
    if key == "runtime":
        return spec.runtime
    if key == "env_profile":
        return spec.env_profile
    return (spec.constraints or {}).get(key)


def _unmet(declared: object, key: str, wanted: ConstraintValue) -> str | None:
    if declared is None:
        return f"{key} is not declared"
    if isinstance(wanted, bool) or isinstance(declared, bool) or isinstance(wanted, str):
        fits = type(declared) is type(wanted) and declared == wanted
        return None if fits else f"{key} is {describe(declared)}, not {describe(wanted)}"
    if isinstance(declared, int | float):
        return None if declared >= wanted else f"{key} is {declared}, less than {wanted}"
    return f"{key} is {describe(declared)}, which is no number"
