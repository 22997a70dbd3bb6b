"""Owns how a decision record looks to a person: the verdict, the candidates with score or reason, who was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crank.cli.endings import printable


def lines(record: Mapping[str, Any]) -> list[str]:
    """The record, a few plain lines of under 80 columns where ids are short; what is missing is left out."""
    verdict = record.get("verdict") or {}
    told = [_row("caller", record.get("caller"))]
    if verdict:
        told.append(_row("verdict", f"{'allowed' if verdict.get('allow') else 'denied'}: {verdict.get('reason', '')}"))
    candidates = [candidate for candidate in record.get("candidates") or () if isinstance(candidate, Mapping)]
    width = max((len(str(candidate.get("worker_id"))) for candidate in candidates), default=0)
    for index, candidate in enumerate(candidates):
        told.append(
            _row("" if index else "candidates", f"{candidate.get('worker_id')!s:{width}}  {_judged(candidate)}")
        )
    aim = record.get("aim") or {}
    if aim.get("objective_ms") is not None:
        would = f"; enforced, it would be refused: {aim['would']}" if aim.get("would") else ""
        told.append(_row("objective", f"within {aim['objective_ms']:g} ms{would}"))
    chosen = record.get("chosen")
    told.append(_row("chosen", f"{chosen} (version {record.get('version')})" if chosen else "nobody"))
    told.append(_row("outcome", record.get("outcome")))
    if record.get("detail"):
        told.append(_row("", record["detail"]))
    return told


def _judged(candidate: Mapping[str, Any]) -> str:
    version = candidate.get("version")
    left_out = candidate.get("left_out")
    score = candidate.get("score_ms")
    judged = f"left out: {left_out}" if left_out else f"about {score:.1f} ms" if score is not None else "fits"
    slowest, price = candidate.get("expected_ms"), candidate.get("price_tokens")
    if not left_out and slowest is not None:
        judged += f", slowest {slowest:.0f}"
    return f"{version}  {judged}{f', {price:g} tokens' if price and not left_out else ''}"


def _row(name: str, value: object) -> str:
    return printable(f"{name:<12}{value}")
