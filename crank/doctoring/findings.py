"""Owns what a finding is: what was looked at, how it is, and the mend. It knows no check."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Result = Literal["ok", "warning", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """``found`` is how it is, ``mend`` what a person can do about it; "" where all is well."""

    check: str
    result: Result
    found: str
    mend: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, mend: str) -> Finding:
    """It works, and may not stay so or may not be meant so."""
    return Finding(check, "warning", found, mend)


def problem(check: str, found: str, mend: str) -> Finding:
    """Something does not work."""
    return Finding(check, "problem", found, mend)


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few of ``names``, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
