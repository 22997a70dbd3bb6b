"""Owns reading SLO files: ``slos/<verb>_<name>.yaml``, one objective each.

What one may say stands in ``slo_fields``. It refuses to know who watches the files: ``controller.edge.rules_watch`` and
the ``crank slo`` commands call ``load_objectives``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from controller.checked_files import Read, checked
from controller.core.objectives import Objective
from controller.slo_fields import SloFile
from controller.yaml_files import Mistake, read_bytes
from subjects.tokens import CapabilityId

SUFFIX = ".yaml"
# A hundred times what an objective needs.
_MOST_BYTES = 64 * 1024
# A folder is read again whenever one of its files changes; parsing the others again would take a millisecond each.
_REMEMBERED = 2048


class Loaded(NamedTuple):
    """What files say: an objective of each good one, and every mistake of the others."""

    files: dict[Path, Objective]
    mistakes: list[Mistake]

    @property
    def objectives(self) -> dict[CapabilityId, Objective]:
        """By capability."""
        return {objective.capability: objective for objective in self.files.values()}


def load_objectives(*places: Path) -> Loaded:
    """Every objective in ``places``, which are files, and folders whose ``.yaml`` files are meant. Never raises."""
    files: dict[Path, Objective] = {}
    mistakes: list[Mistake] = []
    taken: dict[CapabilityId, Path] = {}
    for path in _paths(places, mistakes):
        read = read_slo_file(path)
        mistakes += read.mistakes
        if read.value is None or read.document is None:
            continue
        objective = read.value.objective()
        first = taken.setdefault(objective.capability, path)
        if first is not path:
            text = f"is {objective.capability}, which {first} speaks of already; keep one of the two"
            mistakes.append(read.document.mistake(("capability",), text))
        else:
            files[path] = objective
    return Loaded(files, mistakes)


def read_slo_file(path: Path) -> Read[SloFile]:
    """One file, which must be called what it speaks of."""
    if path.suffix != SUFFIX:
        return Read(None, [Mistake(str(path), 0, "", f"is not read; call it {path.stem}{SUFFIX}")])
    data = read_bytes(path, _MOST_BYTES)
    return Read(None, [data]) if isinstance(data, Mistake) else _judged(path, data)


@lru_cache(_REMEMBERED)
def _judged(path: Path, data: bytes) -> Read[SloFile]:
    read = checked(path, data, SloFile)
    if read.value is None or read.document is None:
        return read
    wanted = f"{read.value.capability.verb}_{read.value.capability.name}{SUFFIX}"
    if path.name != wanted:
        text = f"is {read.value.objective().capability}, so that this file must be called {wanted}"
        return Read(None, [read.document.mistake(("capability",), text)], read.document)
    return read


def _paths(places: Iterable[Path], mistakes: list[Mistake]) -> list[Path]:
    found: list[Path] = []
    for place in places:
        try:
            # What editors and Kubernetes keep beside the files begins with a dot.
            inside = [each for each in sorted(place.iterdir()) if not each.name.startswith(".")]
        except NotADirectoryError:
            inside = [place]
        except OSError as error:
            mistakes.append(Mistake(str(place), 0, "", f"cannot be read: {error.strerror}"))
            continue
        for each in inside:
            if each.suffix not in (SUFFIX, ".yml") and each != place:
                continue
            if each.exists() and not each.is_file():  # a pipe would be waited for
                mistakes.append(Mistake(str(each), 0, "", "is not a file"))
            else:
                found.append(each)
    return list(dict.fromkeys(found))
