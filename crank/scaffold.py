"""Owns the files of a new worker: what it may be called, what stands in them, and that nothing is ever overwritten.

``crank new worker`` calls it. What is written is a model of a worker, so it uses what ``docs/workers.md`` explains.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
import unicodedata
from pathlib import Path
from string import Template
from typing import NamedTuple

from crank.shadows import OWN
from subjects.tokens import TOKEN_RULE, is_token
from workers.catalogue import REFERENCE

_WORKER = Template('''\
"""Counts words. Run it beside `crank up`:  crank worker $name:worker"""

from typing import Annotated

from crank import PermanentError, Worker
from msgspec import Meta, Struct

worker = Worker("$name", runtime="python$python")


# The types become JSON Schema: what does not fit is refused before it gets here.
class Text(Struct):
    text: Annotated[str, Meta(max_length=10_000, description="what to count the words of")]


class Words(Struct):
    words: int


@worker.capability(
    "run:$name",  # verb:name, which callers ask for; raise the version when an answer changes its shape
    version="1.0.0",
    max_concurrency=8,  # so many at once; what is more waits, or goes to another worker
    idempotent=True,  # running it twice does no harm, so it may be tried elsewhere when this worker is lost
    cost_tokens_per_invocation=0.1,  # its price, held against what a caller will pay
    slo={"latency_p50_ms": 5, "latency_p95_ms": 50, "availability_pct": 99.5},  # what it promises
)
async def count_words(asked: Text) -> Words:
    """Count the words of a text."""
    words = asked.text.split()
    if not words:
        raise PermanentError("There is no word in the text; send one")  # the caller reads this
    return Words(len(words))


if __name__ == "__main__":
    worker.run()
''')

_TEST = Template('''\
"""Asks the worker through Crank's own routing, in memory: no NATS server is needed."""

import asyncio

import pytest
from crank import CrankError
from crank.testing import serving

from $name import worker


def ask(data: object) -> object:
    async def once() -> object:
        async with serving(worker) as client:
            return (await client.request("run:$name", data)).json()

    return asyncio.run(once())


def test_it_counts_words() -> None:
    assert ask({"text": "one two  three"}) == {"words": 3}


def test_a_text_without_words_is_refused_with_a_reason() -> None:
    with pytest.raises(CrankError, match="no word"):
        ask({"text": " "})


def test_what_is_no_text_does_not_get_to_the_worker() -> None:
    with pytest.raises(CrankError) as refused:
        ask({"text": 3})
    assert refused.value.code == 422
''')

SAMPLE = '{"text": "one two three"}'
"""What the new worker can be asked with."""


class ScaffoldError(Exception):
    """It cannot be made under this name or in this place; the message says what can."""


class Made(NamedTuple):
    """A new worker: its module, which is its name, and its files."""

    name: str
    module: Path
    test: Path


def new_worker(name: str, folder: Path) -> Made:
    """Write a worker and its test into ``folder``, which is made if need be.

    Raises:
        ScaffoldError: the name will not do, or there is something of that name.
        OSError: the place cannot be written.

    """
    module = _module(name)
    made = Made(module, folder / f"{module}.py", folder / f"test_{module}.py")
    for place in (folder / module, made.module, made.test):
        if place.exists():
            raise ScaffoldError(f"{place} is there already, and stays as it is; choose another name or --dir")
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"name": module, "python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for place, text in ((made.module, _WORKER), (made.test, _TEST)):
        with place.open("x", encoding="utf-8") as file:  # x: even if it came to be just now
            file.write(text.substitute(facts))
    return made


def _module(name: str) -> str:
    """The name as Python can import it."""
    module = name.replace("-", "_")
    if not (is_token(name) and module.isidentifier()):
        raise ScaffoldError(f"{name!r} cannot be a worker's and a module's name: {_rule(module)}")
    if module.startswith("test_") or (module.startswith("__") and module.endswith("__")):
        plain = re.sub(r"^(test_|[\d_])+", "", module)[:48].rstrip("_")
        why = "would be taken for a test" if module.startswith("test_") else "is a name of Python's own"
        raise ScaffoldError(f"{module} {why}; {_meant(plain or 'my')}")
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise ScaffoldError(f"{module} is a word of Python's own; {_meant(module)}")
    if module in OWN:
        raise ScaffoldError(f"{module} is the name of a module of Crank's, which comes first; {_meant(module)}")
    if module in REFERENCE:
        raise ScaffoldError(f"{module} is the name of a worker that comes with Crank; {_meant(module)}")
    if module == "conftest" or importlib.util.find_spec(module) is not None:
        raise ScaffoldError(f"{module} is the name of a module that is there already; {_meant(module)}")
    return module


def _rule(module: str) -> str:
    rule = f"it has to be {TOKEN_RULE}, and to begin with no digit"
    bare = "".join(c for c in unicodedata.normalize("NFKD", module) if not unicodedata.combining(c))  # é becomes e
    letters = re.sub(r"\W+", "_", bare).strip("_")[:48]
    meant = letters if letters.isidentifier() else f"worker_{letters}"
    return f"{rule}; did you mean {meant}?" if letters and letters.isascii() else rule


def _meant(module: str) -> str:
    return f"did you mean {module}_worker?"
