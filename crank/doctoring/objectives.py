"""Owns judging objectives: mistakes in the files of the controller that answers, and budgets that burn or are spent.

``fleet`` calls it, where operators' questions may be asked. Without objectives there is nothing to say.
"""

from __future__ import annotations

import msgspec

from bus import Bus
from bus.connection import BusError
from crank.doctoring.asking import PAGE, told
from crank.doctoring.findings import Finding, ok, problem, some, warning
from subjects.names import Subjects

CHECK = "objectives"
_TROUBLE = {
    "exhausted": "this month's error budget is spent",
    "page": "the error budget burns so fast that it is gone in hours or days",
}


class _Row(msgspec.Struct, frozen=True):
    capability: str
    standing: str


class _Objectives(msgspec.Struct, frozen=True):
    slo: tuple[_Row, ...]
    mistakes: tuple[str, ...] = ()
    controller: str = "?"


async def judge_objectives(bus: Bus, subjects: Subjects) -> list[Finding]:
    """What is found."""
    try:
        heard = await told(bus, subjects.admin("slo"), {"limit": PAGE}, _Objectives)
    except BusError as error:
        said = f"the controllers do not tell of them: {error}"
        return [problem(CHECK, said, "does something else listen there? The log of a controller says more")]
    found = []
    if heard.mistakes:
        said = f"mistakes in the files that controller {heard.controller} reads: {some(heard.mistakes, 3)}"
        mend = "correct them; crank slo check, where that controller was started, shows all of them"
        found.append(problem(CHECK, said, mend))
    for standing, says in _TROUBLE.items():
        if names := [row.capability for row in heard.slo if row.standing == standing]:
            found.append(warning(CHECK, f"{some(names)}: {says}", f"look closer: crank slo status {names[0]}"))
    if found or not heard.slo:
        return found
    return [ok(CHECK, f"{len(heard.slo)} in force; no budget is spent, and none burns fast")]
