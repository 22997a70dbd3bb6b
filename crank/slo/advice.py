"""Owns what is odd in an objective though it is no mistake, and for whom it is enforced at a moment.

It refuses to know of files. ``crank slo check`` tells it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from controller.core.objectives import Objective
from controller.yaml_files import Place


def warnings(objective: Objective, wall_s: float) -> list[tuple[Place, str]]:
    """What its author may not have meant, by the place in the file."""
    found: list[tuple[Place, str]] = []
    if objective.phase != "log" and not objective.reject_on_violation:
        text = f"is {objective.phase}, and refuses nobody: that takes reject_on_violation: true as well"
        found.append((("enforcement", "phase"), text))
    if objective.phase == "enforce" and objective.exceptions:
        found.append((("enforcement", "exceptions"), "count for nothing in phase enforce"))
        return found
    for at, each in enumerate(objective.exceptions):
        if each.until_s <= wall_s:
            found.append(
                (("enforcement", "exceptions", at, "until"), f"has passed: {each.caller} is not spared any more")
            )
    return found


def enforced(objective: Objective, wall_s: float) -> str:
    """Whether, from when and but for how many callers it is, in a word or two."""
    if objective.phase == "log" or not objective.reject_on_violation:
        return "no"
    if wall_s < objective.enforced_from_s:
        return f"from {datetime.fromtimestamp(objective.enforced_from_s, UTC):%Y-%m-%d}"
    spared = sum(wall_s < each.until_s for each in objective.exceptions) if objective.phase == "exceptions" else 0
    return f"but for {spared}" if spared else "yes"
