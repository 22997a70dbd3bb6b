"""Owns the files that rule this controller while it runs: read at the start, and again whenever one of them changes.

What they come to goes to the core whole, as one ``RulesChanged``. Where a file is broken, what was read before stays in
force. It refuses to know what a file may say; that is told in ``slo_files`` and ``limits_file``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from watchfiles import awatch

from bus.ending import end
from controller.core.events import Event, RulesChanged
from controller.core.objectives import Objective, Rates, Rules
from controller.limits_file import LoadedRates, load_rates
from controller.slo_files import SUFFIX, Loaded, load_objectives
from controller.yaml_files import Mistake

log = logging.getLogger("crank.controller")

# Network drives tell nobody of changes, and a watch begins a moment after it was asked for.
_LOOK_ANYWAY_S = 2.0
# Some editors move a file away before they write it anew.
_GONE_FOR_GOOD_S = 0.25

Identity = tuple[int, int]
"""Device and inode: another folder under the same name is another one."""


class RulesWatch:
    """``slos`` is a folder, ``limits`` a file; None: there are none, and neither need be there at the start."""

    def __init__(self, slos: Path | None, limits: Path | None, feed: Callable[[Event], None]) -> None:
        self.mistakes: tuple[str, ...] = ()
        """What is wrong in the files now, a line each."""
        self._slos = slos
        self._limits = limits
        self._feed = feed
        self._rules = Rules()
        self._files: dict[Path, Objective] = {}
        self._seen: set[Path] = set()
        self._print: object = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read them, tell the core, and begin to watch."""
        if self._slos is None and self._limits is None:
            return
        await self._reload()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Watch no longer."""
        if self._task is not None:
            await end(self._task)

    async def _watch(self) -> None:
        while True:
            places = self._places()
            wait_ms = int(_LOOK_ANYWAY_S * 1000)
            try:
                batches = awatch(
                    *places, watch_filter=None, recursive=False, yield_on_timeout=True, rust_timeout=wait_ms
                )
                async with contextlib.aclosing(batches):
                    async for changes in batches:
                        await self._look(Path(path).name for _, path in changes)
                        if self._places() != places:
                            break
            except (OSError, RuntimeError) as error:  # one of them has just gone, or the system watches no more for us
                log.debug("the folders of rules cannot be watched: %s", error)
                await asyncio.sleep(_LOOK_ANYWAY_S)
                await self._look(())

    def _places(self) -> dict[Path, Identity]:
        """What to watch: the folder, and those that hold its name and the file's."""
        named = [self._slos, self._slos and self._slos.parent, self._limits and self._limits.parent]
        found: dict[Path, Identity] = {}
        for path in named:
            with contextlib.suppress(OSError):
                if path is not None and path.is_dir():
                    status = path.stat()
                    found[path] = (status.st_dev, status.st_ino)
        return found

    async def _look(self, changed: Iterable[str]) -> None:
        ours = {path.name for path in (self._slos, self._limits) if path is not None}
        # Kubernetes swaps a link called ..data, and the files stay what they were: links to what is behind it.
        if any(name in ours or name.endswith(SUFFIX) or name.startswith("..") for name in changed) or (
            _fingerprint(self._slos, self._limits) != self._print
        ):
            try:
                await self._reload()
            except Exception:
                log.exception("the rules could not be read; those before stay in force")

    async def _reload(self) -> None:
        loaded, rates = await asyncio.to_thread(self._read)
        if self._files.keys() - loaded.files.keys() - {Path(each.file) for each in loaded.mistakes}:
            await asyncio.sleep(_GONE_FOR_GOOD_S)
            loaded, rates = await asyncio.to_thread(self._read)
        self._judge(loaded, rates)

    def _read(self) -> tuple[Loaded, LoadedRates]:
        self._print = _fingerprint(self._slos, self._limits)
        # What was there, and is gone, is a mistake; what never was is not.
        self._seen |= {path for path in (self._slos, self._limits) if path is not None and path.exists()}
        loaded = load_objectives(*(self._seen & {self._slos}))
        rates = [load_rates(path) for path in self._seen & {self._limits}] or [LoadedRates(Rates(), [])]
        return loaded, rates[0]

    def _judge(self, loaded: Loaded, rates: LoadedRates) -> None:
        broken = {Path(each.file) for each in loaded.mistakes}
        kept = {path: old for path, old in self._files.items() if path in broken or self._slos in broken}
        self._files = {**kept, **loaded.files}
        rules = Rules(Loaded(self._files, []).objectives, self._rules.rates if rates.rates is None else rates.rates)
        self._say(list(map(self._told, [*loaded.mistakes, *rates.mistakes])), kept)
        if rules != self._rules:
            self._tell_changes(rules)
            self._rules = rules
            self._feed(RulesChanged(rules))

    def _told(self, mistake: Mistake) -> Mistake:
        """What is gone as a whole comes with how to be without it."""
        path = Path(mistake.file)
        if path not in (self._slos, self._limits) or path.exists():
            return mistake
        return mistake._replace(text="is gone; put it back, or to be without leave it there empty")

    def _say(self, mistakes: list[Mistake], kept: dict[Path, Objective]) -> None:
        """Each mistake once, as long as it is there."""
        before, self.mistakes = self.mistakes, tuple(map(str, mistakes))
        new = [each for each in mistakes if str(each) not in before]
        for each in new:
            log.error("%s", each)
        stay = {*kept, *([self._slos] if kept else []), *([self._limits] if self._rules.rates != Rates() else [])}
        for file in dict.fromkeys(each.file for each in new):
            stays = "what it said before stays in force" if Path(file) in stay else "nothing that it says is in force"
            log.error("%s: %s until this is mended", file, stays)
        if before and not mistakes:
            log.info("the files of rules are without mistakes again")

    def _tell_changes(self, rules: Rules) -> None:
        old, new = self._rules.objectives, rules.objectives
        for how, which in (
            ("now has an objective", new.keys() - old.keys()),
            ("has no objective any more", old.keys() - new.keys()),
            ("has another objective now", {name for name in new.keys() & old.keys() if new[name] != old[name]}),
        ):
            if which:
                log.info("%s %s", ", ".join(sorted(which)), how)
        if rules.rates != self._rules.rates:
            log.info("the rates of callers are those of %s now", self._limits)


def _fingerprint(slos: Path | None, limits: Path | None) -> object:
    """What is another one when a file was."""
    found = []
    with contextlib.suppress(OSError):
        found += sorted(slos.iterdir()) if slos is not None else []
    found += [limits] if limits is not None else []
    prints = []
    for path in found:
        with contextlib.suppress(OSError):
            status = path.stat()
            prints.append((path, status.st_ino, status.st_size, status.st_mtime_ns))
    return prints
