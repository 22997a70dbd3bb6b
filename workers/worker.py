"""Owns the declaration of a worker: its name, its defaults, its capabilities and the functions behind them.

Importing a module with a ``Worker`` checks it and starts nothing. It knows neither NATS nor a running worker:
``workers.runtime`` serves what stands here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Unpack

import msgspec

from subjects.manifests import Bid, Manifest, NonNegative
from subjects.names import DEFAULT_PREFIX
from subjects.tokens import TOKEN_RULE, WorkerId, is_token
from workers.declarations import Metadata, Offer, check_worker, declare
from workers.dependencies import (
    Function,
    Overrides,
    Plan,
    Provider,
    name_of,
    plan_dispatch,
    read_lifespan,
)
from workers.errors import DeclarationError
from workers.handlers import read_handler

F = TypeVar("F", bound=Callable[..., Any])

# Long enough for nearly all work; shorter than the usual grace period of what stops processes (Kubernetes: 30 s).
DRAIN_TIMEOUT_S = 25.0


class Worker:
    """A named set of capabilities. ``metadata`` (see ``Metadata``) is the default for all of them.

    >>> worker = Worker("shout", runtime="python3.11")
    >>> @worker.capability("text:shout", max_concurrency=8)
    ... async def shout(text: str) -> str:
    ...     return text.upper()
    """

    def __init__(self, name: str, *, spiffe_id: str | None = None, **metadata: Unpack[Metadata]) -> None:
        """Raise ``DeclarationError`` for a name that is no token, an unknown field or an impossible value."""
        if not isinstance(name, str) or not is_token(name):
            raise DeclarationError(f"a worker's name is {TOKEN_RULE}, not {name!r}")
        check_worker(spiffe_id, metadata, name)
        self.name = name
        self.spiffe_id = spiffe_id
        self._defaults = metadata
        self._offers: list[Offer] = []
        self._lifespans: dict[Function, Provider] = {}
        self._bids: dict[str, float | Bid] = {}

    @property
    def bids(self) -> Mapping[str, float | Bid]:
        """What it bids anew, by capability."""
        return self._bids

    @property
    def offers(self) -> tuple[Offer, ...]:
        """The capabilities declared so far, each with its handler."""
        return tuple(self._offers)

    def capability(
        self, capability: str, *, version: str = "1.0.0", content_type: str | None = None, **metadata: Unpack[Metadata]
    ) -> Callable[[F], F]:
        """Offer ``verb:name`` in a semantic version, done by the decorated function, which stays as it is.

        The function is async, an async generator (then it streams) or plain (then it runs in a thread); it takes at
        most one payload and one ``Context``, and whatever it ``Depends`` on. ``content_type`` labels its answers;
        without it, text is ``text/plain`` and everything else is unlabelled, which the contract reads as JSON.

        Raises:
            DeclarationError: at decoration, for whatever a controller would refuse and a caller could never use.

        """
        if callable(capability):
            raise DeclarationError('write `@worker.capability("verb:name")`: it has to be said what is offered')

        def decorate(function: F) -> F:
            handler = read_handler(function)
            plan = plan_dispatch(handler.needs.values(), self._lifespans, {})
            offer = declare(capability, version, handler, self._defaults, metadata, content_type, plan)
            if any(offer.label == other.label for other in self._offers):
                raise DeclarationError(f"{offer.label} is declared twice")
            self._offers.append(offer)
            return function

        return decorate

    def lifespan(self, function: F) -> F:
        """Open something once, when the worker starts, for all that ``Depends`` on the decorated function.

        What it yields is the value; what stands after the ``yield`` runs when the worker has stopped. Async or plain
        (then in a thread). Several are opened in the order in which they are declared, before the worker registers,
        and closed in reverse; each may depend on those before it. If one fails, the worker does not start.

        Raises:
            DeclarationError: at decoration, for a parameter that nothing could fill, or a second declaration.

        """
        provider = read_lifespan(function, self._lifespans)
        if function in self._lifespans:
            raise DeclarationError(f"{name_of(function)} is declared as a lifespan twice")
        for offer in self._offers:
            if any(function == provider.key for provider in offer.plan):
                raise DeclarationError(f"declare the lifespan {name_of(function)} above {offer.label}, which needs it")
        self._lifespans[function] = provider
        return function

    @property
    def dependencies(self) -> set[Function]:
        """Every function that something here depends on, lifespans included."""
        return {*self._lifespans, *(provider.key for offer in self._offers for provider in offer.plan)}

    def planned(self, overrides: Overrides) -> tuple[Plan, tuple[Offer, ...]]:
        """``(lifespans, offers)`` with other functions in the place of some.

        Raises:
            DeclarationError: a replacement needs something that cannot be provided.

        """
        lifespans: dict[Function, Provider] = {}
        for key in self._lifespans:
            lifespans[key] = read_lifespan(overrides.get(key, key), lifespans, key)
        offers = (
            offer._replace(plan=plan_dispatch(offer.handler.needs.values(), lifespans, overrides))
            for offer in self._offers
        )
        return tuple(lifespans.values()), tuple(offers)

    def bid(self, capability: str, bid: float | Bid | Mapping[str, float]) -> None:
        """Bid anew for one of its capabilities; every heartbeat tells it, from the next one on.

        Raises:
            DeclarationError: it does not offer that, or ``bid`` is none.

        """
        if all(offer.capability.id != capability for offer in self._offers):
            raise DeclarationError(f"{self.name} does not offer {capability}, so it cannot bid for it")
        try:
            self._bids[capability] = msgspec.convert(bid, NonNegative | Bid)
        except msgspec.ValidationError as error:
            raise DeclarationError(f"{capability}: a bid is a number or terms such as budget_tokens: {error}") from None

    def manifest(self, worker_id: str | None = None, instance: str | None = None) -> Manifest:
        """What this worker registers; the id defaults to ``<name>-1``."""
        return Manifest(
            worker_id=WorkerId(self.default_id if worker_id is None else worker_id),
            capabilities=tuple(offer.capability for offer in self._offers),
            instance=instance,
            spiffe_id=self.spiffe_id,
        )

    @property
    def default_id(self) -> str:
        """``<name>-1``, shortened where the name leaves no room."""
        return f"{self.name[:62]}-1"

    async def serve(
        self,
        nats_url: str,
        worker_id: str | None = None,
        prefix: str = DEFAULT_PREFIX,
        stop: asyncio.Event | None = None,
        *,
        drain_timeout_s: float = DRAIN_TIMEOUT_S,
    ) -> None:
        """Register and work until ``stop`` is set, then finish what runs, for at most ``drain_timeout_s``, and leave.

        Raises:
            DeclarationError: nothing to offer, or an id or prefix that is no token.
            LifespanError: what the worker opens once could not be opened or closed.
            BusUnavailable: no NATS server at ``nats_url``.
            RegistrationRefused: a controller will not take this worker; it lists every offence.

        """
        from workers.runtime import serve  # NATS is imported by those who serve, not by those who look at a worker

        await serve(self, nats_url, worker_id, prefix, stop, drain_timeout_s)

    def run(self, nats_url: str | None = None, worker_id: str | None = None, prefix: str | None = None) -> None:
        """Serve as a process of its own until SIGTERM or Ctrl-C; a second one ends it at once.

        What is not given is read from ``CRANK_NATS_URL`` (default ``nats://127.0.0.1:4222``), ``CRANK_WORKER_ID`` and
        ``CRANK_PREFIX``. An error ends the process with code 1 and one plain message.
        """
        from workers.process import run

        run(self, nats_url, worker_id, prefix)
