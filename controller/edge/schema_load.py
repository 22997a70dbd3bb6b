"""Owns how much work a JSON Schema makes: the most subschemas that are laid on one value of a payload.

``$ref`` makes a page of text stand for any amount of checking: two references a level, and twenty levels are a million
checks of one value. What is counted here is what jsonschema-rs does, from its outside: subschemas that a reference
repeats are checked again, and only one that contains itself is remembered per value. ``controller.edge.schemas`` asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin

# Of one value. A union of a hundred types, each of ten branches, is below it; beyond it a 10 KB payload takes 100 ms.
MOST_LAID = 2000
# For the counting itself: 0.1 s at worst, and some thousand parts of an ordinary schema.
_MOST_STEPS = 30_000
# Each may take half a millisecond to compile, all in one turn.
MOST_PATTERNS = 256
# A value checked under unevaluatedItems or unevaluatedProperties is checked again for what was left over.
_UNEVALUATED_COST = 16

_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLES = ("not", "if", "then", "else")
_MAPS = ("dependentSchemas", "dependencies")
_REFS = ("$ref", "$dynamicRef", "$recursiveRef")
_UNEVALUATED = ("unevaluatedItems", "unevaluatedProperties")
# Their errors tell of every branch, or of everything left over.
_LISTING = {"anyOf", "oneOf", *_UNEVALUATED}
_NUMBERS = {"uniqueItems", "multipleOf"}
# What a division takes, in other checks: of whole numbers, in decimals, by what has very many decimals.
_WHOLE_COST, _DECIMAL_COST, _TINY_COST = 10, 100, 1000
_TINY = 1e-15

Node = dict[str, Any]


class Load(NamedTuple):
    """What decides how much a payload may hold, and whether its error can be told.

    ``laid``: the most subschemas on one value. ``doubles``: one that contains itself is laid twice on a value, which
    deciding remembers and telling does not. ``lists``: an error lists more than one fault. ``numbers``: it has
    ``uniqueItems`` or ``multipleOf``, which long numbers slow down.
    """

    laid: int
    doubles: bool = False
    lists: bool = False
    numbers: bool = False


class TooMuch(Exception):
    """The schema makes more work than a payload may cost; the message completes "the schema …"."""


def load_of(schema: object) -> Load:
    """Measure ``schema``, a decoded JSON Schema 2020-12.

    Raises:
        TooMuch: it lays more than ``MOST_LAID`` subschemas on one value, or cannot be measured within bounds.

    """
    if not isinstance(schema, dict):
        return Load(1)
    return _Measure(schema).load()


class _Measure:
    def __init__(self, root: Node) -> None:
        self._root = root
        self._named: dict[str, Node] = {"": root}
        self._base: dict[int, str] = {}
        self._keywords: set[str] = set()
        self._steps = 0
        self._doubles = False
        patterns = self._index()
        if patterns > MOST_PATTERNS:
            raise TooMuch(f"has {patterns} patterns; keep to {MOST_PATTERNS}")
        self._recursive = self._find_recursive()

    def _index(self) -> int:
        """Learn names, bases and keywords of all that is in the text."""
        patterns = 0
        stack: list[tuple[Any, str]] = [(self._root, "")]
        while stack:
            value, base = stack.pop()
            if isinstance(value, list):
                stack += [(item, base) for item in value if isinstance(item, dict | list)]
                continue
            if isinstance(value.get("$id"), str):
                base = urljoin(base, value["$id"]).rstrip("#")
                self._named[base] = value
            self._base[id(value)] = base
            self._keywords.update(value)
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(value.get(key), str):
                    self._named[f"{base}#{value[key]}"] = value
            patterns += isinstance(value.get("pattern"), str)
            several = value.get("patternProperties")
            patterns += len(several) if isinstance(several, dict) else 0
            stack += [(item, base) for item in value.values() if isinstance(item, dict | list)]
        return patterns

    def _target(self, node: Node, ref: str) -> Node | None:
        try:
            address, _, fragment = urljoin(self._base.get(id(node), ""), ref).partition("#")
        except ValueError:
            return None
        if fragment and not fragment.startswith("/"):
            return self._named.get(f"{address}#{unquote(fragment)}")
        found: Any = self._named.get(address)
        for part in fragment.split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list):
                found = found[int(key)] if key.isdecimal() and len(key) < 8 and int(key) < len(found) else None
            else:
                found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else None

    def _targets(self, node: Node) -> Iterator[Node]:
        for key in _REFS:
            ref = node.get(key)
            target = self._target(node, ref) if isinstance(ref, str) else None
            if target is not None:
                yield target

    def _find_recursive(self) -> set[int]:
        """The targets of references that lead back to themselves: Tarjan's strongly connected components."""
        order: dict[int, int] = {}
        low: dict[int, int] = {}
        open_: list[int] = []
        is_open: set[int] = set()
        found: set[int] = set()
        work: list[tuple[int, Iterator[Node]]] = []

        def enter(node: Node) -> None:
            order[id(node)] = low[id(node)] = len(order)
            open_.append(id(node))
            is_open.add(id(node))
            work.append((id(node), self._inside(node)))

        enter(self._root)
        while work:
            key, targets = work[-1]
            target = next(targets, None)
            if target is not None:
                if id(target) == key:
                    found.add(key)
                elif id(target) not in order:
                    enter(target)
                elif id(target) in is_open:
                    low[key] = min(low[key], order[id(target)])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[key])
            if low[key] == order[key]:
                members = open_[open_.index(key) :]
                del open_[-len(members) :]
                is_open.difference_update(members)
                found.update(members if len(members) > 1 else ())
        return found

    def _inside(self, node: Node) -> Iterator[Node]:
        """The targets of all references that stand in the text of ``node``."""
        stack: list[Any] = [node]
        while stack:
            self._step()
            value = stack.pop()
            if isinstance(value, dict):
                yield from self._targets(value)
                stack += [item for item in value.values() if isinstance(item, dict | list)]
            else:
                stack += [item for item in value if isinstance(item, dict | list)]

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise TooMuch("refers to its parts in too many ways to be measured; use fewer references")

    def load(self) -> Load:
        """Go from the root to every value within, each kind of value once."""
        most = 0
        seen: set[tuple[int, ...]] = set()
        groups = [[self._root]]
        while groups:
            group = groups.pop()
            key = tuple(sorted(id(node) for node in group))
            if key in seen:
                continue
            seen.add(key)
            laid, count = self._expand(group)
            most = max(most, count)
            groups += self._below(laid)
        lists, numbers = bool(_LISTING & self._keywords), bool(_NUMBERS & self._keywords)
        return Load(most, self._doubles, lists, numbers)

    def _expand(self, group: list[Node]) -> tuple[list[Node], int]:
        """All subschemas that ``group`` lays on the same value, and what they cost."""
        laid: list[Node] = []
        once: set[int] = set()
        count = 0
        stack = list(group)
        unevaluated = False
        while stack:
            self._step()
            node = stack.pop()
            if id(node) in self._recursive:
                if id(node) in once:
                    self._doubles = True
                    continue
                once.add(id(node))
            laid.append(node)
            count += _own_cost(node)
            unevaluated = unevaluated or any(key in node for key in _UNEVALUATED)
            if count * (_UNEVALUATED_COST if unevaluated else 1) > MOST_LAID:
                raise TooMuch(
                    f"lays more than {MOST_LAID} subschemas on one value; use fewer references and branches, "
                    "or check less here and the rest in the worker"
                )
            stack += self._targets(node)
            for key in _SINGLES:
                stack += _dicts([node.get(key)])
            for key in _LISTS:
                stack += _dicts(node.get(key))
            for key in _MAPS:
                stack += _dicts(node.get(key))
        return laid, count * (_UNEVALUATED_COST if unevaluated else 1)

    def _below(self, laid: list[Node]) -> Iterator[list[Node]]:
        """What ``laid`` lays on each of the values within: by property, by index, on all others, on names."""
        keys = {key for node in laid for key in _map(node.get("properties"))}
        for key in [*keys, None]:
            group: list[Node] = []
            for node in laid:
                self._step()
                named = _map(node.get("properties"))
                group += _dicts([named[key] if key in named else node.get("additionalProperties")])
                group += _dicts(node.get("patternProperties"))
                group += _dicts([node.get("unevaluatedProperties")])
            yield group
        width = max((len(_list(node.get(field))) for node in laid for field in ("prefixItems", "items")), default=0)
        for index in range(width + 1):
            group = []
            for node in laid:
                self._step()
                row = _list(node.get("prefixItems")) or _list(node.get("items"))
                rest = node.get("additionalItems") if isinstance(node.get("items"), list) else node.get("items")
                group += _dicts([row[index] if index < len(row) else rest])
                group += _dicts([node.get("contains"), node.get("unevaluatedItems")])
            yield group
        yield [inner for node in laid for inner in _dicts([node.get("propertyNames")])]


def _own_cost(node: Node) -> int:
    cost = 1
    for key in ("dependentRequired", "dependentSchemas", "dependencies", "patternProperties"):
        cost += len(_map(node.get(key)))
    divisor = node.get("multipleOf")
    if isinstance(divisor, int | float):
        cost += _WHOLE_COST if isinstance(divisor, int) else _DECIMAL_COST if divisor > _TINY else _TINY_COST
    return cost + sum(isinstance(option, dict | list) for option in _list(node.get("enum")))


def _map(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(values: object) -> list[Node]:
    listed = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    return [value for value in listed if isinstance(value, dict)]
