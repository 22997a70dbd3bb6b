"""Owns telling which modules of a user's folder are never found, since others of their name come first.

Nothing is imported here. ``crank.targets`` asks before it imports.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

OWN = ("bus", "callers", "controller", "crank", "subjects", "workers")
"""Our packages, by the names that a user's modules had better not have."""


@cache
def check_ours() -> None:
    """Raise ``ImportError`` where a module of somebody else's comes before one of ours: a script's folder is first."""
    home = Path(__file__).parents[1]
    for name in OWN:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).parents[1] == home:
            continue
        shared = ", or remove it: then your modules and Crank's share the name" if name == "workers" else ""
        raise ImportError(
            f"{spec.origin} has the name of Crank's own module {name!r}, and comes before it; rename yours{shared}"
        )


def hidden_in(folder: Path) -> dict[str, Path]:
    """The modules of the folder that have the name of one of ours."""
    found = {name: passed_over(name, folder) for name in OWN}
    return {name: path for name, path in found.items() if path is not None}


def passed_over(top: str, folder: Path) -> Path | None:
    """The folder's own module of this name where Python finds another one first."""
    file, package = folder / f"{top}.py", folder / top
    if not is_found(top) or is_found(top, folder) or (top == "workers" and not file.is_file()):
        return None  # `workers` is shared: see its __init__
    if file.is_file():
        return file
    # A folder without Python in it, such as a clone of Crank, is no module that anybody means.
    return package if any(package.glob("*.py")) else None


def shadowed(theirs: Path) -> str:
    """What to tell of a module that is passed over."""
    top = theirs.stem
    if top in OWN:
        return (
            f"{theirs} has the name of Crank's own module {top!r}, which comes first; rename yours "
            "(what Crank offers is imported from `crank`)"
        )
    owner = next(iter(_found(top)), "")
    return f"{theirs} has the name of the module {top!r} in {owner or 'Python itself'}, which comes first; rename yours"


def is_found(top: str, folder: Path | None = None) -> bool:
    """Whether Python finds a module of this name, and finds the one in ``folder`` if that is given."""
    found = _found(top)
    if folder is None:
        return bool(found)
    theirs = {(folder / f"{top}.py").resolve(), (folder / top).resolve()}
    return any(Path(place).resolve() in theirs for place in found)


def shared_names(folder: Path) -> list[Path]:
    """The modules in the folder's ``workers`` that are never found, because ours of the same name come first."""
    import workers

    ours = Path(workers.__file__ or "").parent
    return sorted(
        file for file in folder.glob("workers/*.py") if file.stem != "__init__" and (ours / file.name).exists()
    )


def _found(top: str) -> list[str]:
    """Where Python finds a module; empty where it finds none."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    return [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]


def source_of(module: str) -> Path | None:
    """The file of a module, or None. Of one in a package, the package is imported, and of others nothing."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def imports_of(place: Path) -> list[tuple[str, int]]:
    """The top-level modules that a source file imports, and at which lines; nothing for one that cannot be read."""
    source = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name.partition(".")[0], node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.module.partition(".")[0], node.lineno))
    return found
