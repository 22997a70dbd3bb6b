"""Owns asking a Prometheus server what controllers measured over a window. Only this module knows its HTTP API.

What comes back is not trusted: its size is bounded, and what is no capability or no number is passed over.
"""

from __future__ import annotations

import http.client
import math
import re
from collections import defaultdict
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import msgspec

from crank.slo.measured import Measured
from subjects.tokens import CapabilityId, is_capability

WINDOW_RULE = "a Prometheus duration such as 30m, 6h or 30d"
is_window = re.compile(r"[1-9][0-9]{0,5}[smhdw]").fullmatch
# A request that was rejected was its caller's own fault, and counts for nothing.
_REQUESTS = 'sum by (capability, status) (increase(controller_requests_total{{status=~"success|error"}}[{window}]))'
_TIMES = "sum by (capability, le) (increase(controller_request_duration_seconds_bucket[{window}]))"
_TIMEOUT_S = 30.0
_MAX_BYTES = 64 * 1024 * 1024


class PrometheusUnreachable(Exception):
    """Nobody answers there; the message names the address."""


class PrometheusRefused(Exception):
    """The server answers, and not with what was asked for."""


class _Series(msgspec.Struct, frozen=True):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct, frozen=True):
    result: list[_Series]


class _Answer(msgspec.Struct, frozen=True):
    data: _Data


def measure(url: str, window: str) -> dict[CapabilityId, Measured]:
    """What controllers counted within ``window`` until now. Times are known by bucket.

    Raises:
        PrometheusUnreachable, PrometheusRefused: nothing can be told.

    """
    requests: dict[str, dict[str, float]] = defaultdict(dict)
    for labels, value in _asked(url, _REQUESTS.format(window=window)):
        requests[labels.get("capability", "")][labels.get("status", "")] = value
    below: dict[str, dict[float, float]] = defaultdict(dict)
    for labels, value in _asked(url, _TIMES.format(window=window)):
        if (end_ms := _number(labels.get("le", "")) * 1000) >= 0:
            below[labels.get("capability", "")][round(end_ms, 6)] = value
    found = {}
    for capability in filter(is_capability, requests.keys() | below.keys()):
        counts = requests[capability]
        failed = counts.get("error", 0.0)
        bounds = tuple(sorted(end for end in below[capability] if math.isfinite(end)))
        took = _by_bucket(below[capability])
        found[CapabilityId(capability)] = Measured(failed + counts.get("success", 0.0), failed, took, bounds)
    return found


def _by_bucket(below: dict[float, float]) -> tuple[tuple[float | None, float], ...]:
    """Prometheus's buckets hold those below them too."""
    took: list[tuple[float | None, float]] = []
    before = 0.0
    for end_ms, count in sorted(below.items()):
        if count > before:
            took.append((end_ms if math.isfinite(end_ms) else None, count - before))
            before = count
    return tuple(took)


def _asked(url: str, query: str) -> list[tuple[dict[str, str], float]]:
    address = f"{url.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"
    try:
        with urlopen(Request(address), timeout=_TIMEOUT_S) as response:  # noqa: S310  # the caller sees to the scheme
            body = response.read(_MAX_BYTES + 1)
    except HTTPError as error:
        raise PrometheusRefused(f"{url} answered {error.code}: {_words(error.read(4096))}") from None
    except (URLError, OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise PrometheusUnreachable(f"nobody answers as Prometheus at {url} ({why})") from None
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PrometheusRefused(f"{url} does not answer as Prometheus does ({error})") from None
    series = ((each.metric, _number(each.value[1])) for each in answer.data.result)
    return [(labels, value) for labels, value in series if math.isfinite(value) and value >= 0]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _words(body: bytes) -> str:
    try:
        told: Any = msgspec.json.decode(body)
        return str(told["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return "no reason given"


def is_address(text: str) -> bool:
    """Whether ``text`` is the address of an HTTP server."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        return False
