"""Owns semantic versions and ranges of them. The syntax and the order are the ``semantic_version`` library's.

Ranges are npm's (``^1.2``, ``~1.2.3``, ``1.x``, ``a || b``), with a comma allowed between bounds (``>=2, <3``).
As in npm, a pre-release matches only a range that names a pre-release of the same version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from semantic_version import NpmSpec, Version

# A caller's text reaches a regular expression, so it is short.
MAX_RANGE_CHARS = 128
MAX_VERSION_CHARS = 64

_after_operator = re.compile(r"(?<=[<>=^~]) ").sub


@lru_cache(maxsize=4096)
def parse_version(text: str) -> Version | None:
    """The version, or None when ``text`` is not a semantic version (``1.2.3``, ``2.0.0-rc.1``)."""
    # The library takes a line end after a version and digits of any script; a version becomes a header value.
    if len(text) > MAX_VERSION_CHARS or not (text.isascii() and text.isprintable()):
        return None
    try:
        return Version(text)  # type: ignore[no-untyped-call]
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _spec(text: str) -> NpmSpec | None:
    if len(text) > MAX_RANGE_CHARS:
        return None
    plain = _after_operator("", " ".join(text.replace(",", " ").replace("==", "=").split()))
    if not plain:
        return None
    try:
        return NpmSpec(plain)  # type: ignore[no-untyped-call]
    except (ValueError, AttributeError):  # the library does not check the ends of `a - b` before it reads them
        return None


def is_range(text: str) -> bool:
    """Whether ``text`` is a range that ``in_range`` understands."""
    return _spec(text) is not None


def in_range(version: str, wanted: str | None) -> bool:
    """Whether ``version`` lies in ``wanted``; None is any version, pre-releases too."""
    if wanted is None:
        return True
    parsed, spec = parse_version(version), _spec(wanted)
    return parsed is not None and spec is not None and bool(spec.match(parsed))  # type: ignore[no-untyped-call]


def by_precedence(versions: Iterable[str]) -> list[str]:
    """``versions``, the highest first by semantic precedence; what is no version is left out."""
    known = [parsed for parsed in map(parse_version, versions) if parsed is not None]
    return [str(version) for version in sorted(known, reverse=True)]
