"""Owns a dispatch's dependencies while it runs: opened in order before its handler, closed in reverse after it.

An async handler's are provided on the event loop; a plain one's in its own thread, and only what is async among them
on the loop. The handler's error is raised at the ``yield`` of each. ``workers.runs`` calls it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from workers.context import Context
from workers.dependencies import Plan
from workers.threads import Bridge


class Injection:
    """What the dispatches of one capability are given. ``resources`` is what the worker's lifespans yielded."""

    def __init__(self, plan: Plan, needs: Mapping[str, Any], resources: Mapping[Any, Any]) -> None:
        self._plan = plan
        self._needs = needs
        self._resources = resources

    @contextlib.asynccontextmanager
    async def opened(self, context: Context | None) -> AsyncIterator[dict[str, Any]]:
        """A value for each parameter, on the event loop."""
        values: dict[Any, Any] = {Context: context}
        async with contextlib.AsyncExitStack() as stack:
            for provider in self._plan:
                function, given = provider.function, self._given(provider.needs, values)
                match provider.kind:
                    case "async generator":
                        value = await stack.enter_async_context(contextlib.asynccontextmanager(function)(**given))
                    case "plain generator":
                        value = stack.enter_context(contextlib.contextmanager(function)(**given))
                    case "coroutine":
                        value = await function(**given)
                    case _:
                        value = function(**given)
                values[provider.key] = value
            yield self._given(self._needs, values)

    @contextlib.contextmanager
    def opened_in_thread(self, context: Context | None, bridge: Bridge) -> Iterator[dict[str, Any]]:
        """A value for each parameter, in the thread of a plain handler."""
        values: dict[Any, Any] = {Context: context}
        with contextlib.ExitStack() as stack:
            for provider in self._plan:
                function, given = provider.function, self._given(provider.needs, values)
                match provider.kind:
                    case "async generator":
                        manager = contextlib.asynccontextmanager(function)(**given)
                        value = bridge.run(manager.__aenter__())
                        stack.push(lambda *error, manager=manager: bridge.run(manager.__aexit__(*error), finish=True))
                    case "plain generator":
                        value = stack.enter_context(contextlib.contextmanager(function)(**given))
                    case "coroutine":
                        value = bridge.run(function(**given))
                    case _:
                        value = function(**given)
                values[provider.key] = value
            yield self._given(self._needs, values)

    def _given(self, needs: Mapping[str, Any], values: Mapping[Any, Any]) -> dict[str, Any]:
        return {name: values[key] if key in values else self._resources[key] for name, key in needs.items()}
