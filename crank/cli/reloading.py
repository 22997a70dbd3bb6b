"""Owns serving a worker anew whenever a source file of its project changes: ``crank worker … --reload``.

Each time in a child process of its own, so that what runs is what the files say; the one before finishes what it has,
and leaves, first. It refuses to know what a worker is: ``crank.cli.run`` gives it the command that serves one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from crank.children import end
from crank.cli.endings import DONE, FAILED, NOBODY, USAGE
from crank.shadows import source_of

# Longer than a worker drains, which it does by itself; only one that hangs is killed.
_STOP_TIMEOUT_S = 30.0
# What `crank up` writes into a folder all the time.
_STATE = ".crank"


def folders_of(target: str, folder: Path) -> list[Path]:
    """What to watch for ``target``: the user's folder, and that of its module or file if it is elsewhere."""
    place = target.partition(":")[0]
    if place.endswith(".py"):
        source: Path | None = folder / place
    else:
        source = source_of(place.partition(".")[0] if ":" in target else f"workers.reference.{place.replace('-', '_')}")
    # What is installed does not change, and stands among a thousand folders.
    if source is None or source.resolve().is_relative_to(folder.resolve()) or "site-packages" in source.parts:
        return [folder]
    return [folder, source.parent]


async def serve_anew(
    command: Sequence[str], folders: Sequence[Path], stop: asyncio.Event, say: Callable[[str], None]
) -> int:
    """Run ``command``, and again after each change, until ``stop`` is set; the exit code to end with."""
    changes: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(_watch(folders, changes))
    stopping = asyncio.create_task(stop.wait())
    try:
        while True:
            while not changes.empty():  # what the next one reads is what was saved until now
                changes.get_nowait()
            change = asyncio.create_task(changes.get())
            process = await _start(command)
            try:
                ended = asyncio.create_task(process.wait())
                await asyncio.wait((ended, change, stopping, watching), return_when=asyncio.FIRST_COMPLETED)
                if ended.done() and not stopping.done():
                    if process.returncode == NOBODY:  # no save will start a server
                        return NOBODY
                    # What it knows how to say of its end it has said.
                    how = "" if process.returncode in (FAILED, USAGE) else f"It ended with code {process.returncode}. "
                    say(f"{how}Waiting for the next save …")
                    await asyncio.wait((change, stopping, watching), return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()
                await end(process, _STOP_TIMEOUT_S)
            if stopping.done():
                return DONE
            if watching.done():
                say(f"The folder cannot be watched: {watching.exception()}. WATCHFILES_FORCE_POLLING=1 may help.")
                return FAILED
            say(f"{change.result()} changed; serving it anew.")
    finally:
        watching.cancel()
        stopping.cancel()
        await asyncio.gather(watching, stopping, return_exceptions=True)


async def _watch(folders: Sequence[Path], changes: asyncio.Queue[str]) -> None:
    from watchfiles import PythonFilter, awatch

    async for batch in awatch(*folders, watch_filter=PythonFilter(ignore_paths=[f / _STATE for f in folders])):
        names = sorted({Path(path).name for _, path in batch})
        changes.put_nowait(names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more")


async def _start(command: Sequence[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,  # closes when this process ends in any way; the child stops on that
        start_new_session=True,  # Ctrl-C is for this process, which stops its child in order
    )
