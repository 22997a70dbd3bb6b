"""Owns the objectives in files for those commands that need all of them, and some: else they end, and say why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crank.cli.endings import end

if TYPE_CHECKING:
    from controller.slo_files import Loaded

SLOS = Path("slos")
"""Where nothing else is said."""


def loaded_or_end(places: tuple[Path, ...], *, broken: int, empty: int) -> Loaded:
    """What the files in ``places`` ask; the exit codes are those of a mistake in one, and of nothing that is asked."""
    from controller.slo_files import load_objectives

    loaded = load_objectives(*(places or (SLOS,)))
    if loaded.mistakes:
        end("\n".join(map(str, loaded.mistakes)), broken)
    if not loaded.files:
        where = " ".join(map(str, places or (SLOS,)))
        end(f"crank: no file in {where} asks for anything: an SLO file is called VERB_NAME.yaml", empty)
    return loaded
