"""Owns doing to processes what the plan says, when it says so, and writing down since when and until when.

A process in trouble is left alone until that is over. ``chaos.run`` calls it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from chaos.plan import Trouble
from chaos.processes import Member
from chaos.story import Happened


class Troubles:
    """Makes trouble for ``members``."""

    def __init__(self, members: Mapping[str, Member], told: list[Happened]) -> None:
        self._members = members
        self._told = told
        self._busy = {name: asyncio.Lock() for name in members}
        self.now: set[str] = set()
        """Who is in trouble at the moment."""

    async def make(self, troubles: Iterable[Trouble], began: float) -> None:
        """All of them, each at its time after ``began``; returns when everybody is up again.

        Raises:
            NatsServerError, OSError: something could not be started again.

        """
        async with asyncio.TaskGroup() as group:
            for trouble in troubles:
                await asyncio.sleep(max(0.0, began + trouble.at_s - time.monotonic()))
                group.create_task(self._one(trouble))

    async def _one(self, trouble: Trouble) -> None:
        member = self._members[trouble.who]
        async with self._busy[trouble.who]:
            happened = Happened(trouble.who, trouble.what, time.monotonic())
            self._told.append(happened)
            self.now.add(trouble.who)
            match trouble.what:
                case "kill":
                    await member.kill()
                    await asyncio.sleep(trouble.for_s)
                    await member.start()
                case "restart":
                    await member.stop()
                    await member.start()
                case "short freeze" | "long freeze":
                    await member.freeze(trouble.for_s)
            happened.until = time.monotonic()
            self.now.discard(trouble.who)
