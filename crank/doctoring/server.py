"""Owns reaching the NATS server: who listens at which address, why nobody can sign in, its version, size and distance.

It signs in as everything else of Crank does. ``examination`` calls it, and goes on with the connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from bus import Bus, BusUnavailable
from bus.addresses import public
from bus.connection import says_not_admitted
from bus.greeting import Greeting, NotGreeted, greet
from controller.payload import payload_room, too_small
from crank.doctoring.findings import Finding, ok, problem, warning

CHECK = "NATS"
# A server that is there answers in milliseconds; this is how long everybody else waits for one as well.
_PATIENCE_S = 2.0
# Messages that expire by themselves (Nats-TTL), which the registry needs.
_OLDEST = (2, 11)


class Reached(NamedTuple):
    """The connection, or None, and what was found on the way."""

    bus: Bus | None
    findings: list[Finding]


async def reach(url: str, on_error: Callable[[str], None]) -> Reached:
    """Look at each address of ``url``, and sign in at one; ``on_error`` goes to the connection."""
    addresses = [part.strip() for part in url.split(",")]
    greetings = dict(zip(addresses, await asyncio.gather(*map(_greeting, addresses)), strict=True))
    missing = {address: said for address, said in greetings.items() if isinstance(said, NotGreeted)}
    findings = [_nobody(address, said, alone=len(missing) == len(addresses)) for address, said in missing.items()]
    if len(missing) == len(addresses):
        return Reached(None, findings)
    heard: list[str] = []

    def hear(error: str) -> None:
        on_error(error)
        # Of several attempts one says why, and the next perhaps only that it was cut off.
        if not heard or says_not_admitted(error):
            heard[:] = [error]

    there = [address for address in addresses if address not in missing]
    try:
        bus = await Bus.connect(",".join(there), name="crank-doctor", timeout_s=_PATIENCE_S, on_error=hear)
    except BusUnavailable as error:
        known = next((said for said in greetings.values() if isinstance(said, Greeting)), Greeting())
        said = (heard[0] if heard else str(error).partition(": ")[2]).removeprefix("nats: ")
        return Reached(None, [*findings, _refused(there[0], known, said)])
    return Reached(bus, [*findings, *_in_the_clear(bus, there)])


async def _greeting(address: str) -> Greeting | NotGreeted | None:
    """None where it cannot be asked for: over a WebSocket nobody speaks before the client."""
    if urlsplit(address).scheme in ("ws", "wss"):
        return None
    try:
        return await greet(address, _PATIENCE_S)
    except NotGreeted as error:
        return error


def _nobody(address: str, said: NotGreeted, *, alone: bool) -> Finding:
    if alone:
        mend = "start one with `crank up`, or name yours with --nats or CRANK_NATS_URL"
        if "says nothing" in str(said):
            mend = "is it the right port? A stopped process, or handshake_first in its tls block, looks like this too"
        return problem(CHECK, f"no NATS server answers at {public(address)}: {said}", mend)
    mend = "start it again, or take it out of the addresses"
    return warning(CHECK, f"no NATS server answers at {public(address)}: {said}; another one does", mend)


def _refused(address: str, greeting: Greeting, said: str) -> Finding:
    """The server is there, and nobody can sign in."""
    where = public(address)
    if says_not_admitted(said):
        if urlsplit(address).username is None:
            mend = "name a user in --nats or CRANK_NATS_URL: nats://USER:PASSWORD@HOST:PORT, or nats://TOKEN@HOST:PORT"
            return problem(CHECK, f"the server at {where} asks who is there, and no user is named", mend)
        mend = "correct the user and password in --nats or CRANK_NATS_URL, or in the server's configuration"
        if greeting.nonce:
            mend += "; an NKey or JWT is something that Crank cannot sign in with"
        return problem(CHECK, f"the server at {where} refuses this user or password", mend)
    if greeting.tls_verify:
        mend = "turn `verify` off in its tls block: Crank has no certificate to show yet"
        return problem(CHECK, f"the server at {where} wants a client's certificate: {said}", mend)
    if greeting.tls_required or urlsplit(address).scheme == "wss":
        mend = (
            "name the certificate of its issuer in SSL_CERT_FILE, for every part of Crank; and is the host in the "
            "address one that its certificate names?"
        )
        return problem(CHECK, f"the server at {where} wants TLS, and that fails: {said}", mend)
    mend = "is it the right address? If so, the log of nats-server says more"
    return problem(CHECK, f"no NATS server can be signed in to at {where}: {said}", mend)


def _in_the_clear(bus: Bus, addresses: list[str]) -> list[Finding]:
    if any(urlsplit(address).scheme == "tls" for address in addresses) and not bus.greeting.tls_required:
        said = f"the address says tls, and the server at {bus.url} has none: everything is sent in the clear"
        return [warning(CHECK, said, "give nats-server a tls block, or write nats:// to say that this is meant")]
    return []


async def distance_s(bus: Bus) -> float:
    """The shortest of three round trips.

    Raises:
        BusUnavailable: the server stopped answering.

    """
    trips = []
    for _ in range(3):
        begun = time.perf_counter()
        await bus.flush(_PATIENCE_S)
        trips.append(time.perf_counter() - begun)
    return min(trips)


def judge_version(greeting: Greeting, url: str, trip_s: float) -> Finding:
    """Whether the server is new enough."""
    said = f"nats-server {greeting.version or 'of no version'} at {url}, {trip_s * 1000:.1f} ms away"
    if greeting.series is None or greeting.series < _OLDEST:
        return problem(
            CHECK,
            f"{said}, is too old: the registry needs messages that expire by themselves (Nats-TTL)",
            f"install nats-server {_OLDEST[0]}.{_OLDEST[1]} or newer",
        )
    return ok(CHECK, said)


def judge_payload(bus: Bus, max_body_bytes: int) -> Finding:
    """Whether requests fit; ``max_body_bytes`` is the setting."""
    check = "max_payload"
    if (wrong := too_small(bus)) is not None:
        return problem(check, *wrong)
    limit, room = bus.max_payload_bytes, payload_room(bus)
    if room < max_body_bytes:
        return warning(
            check,
            f"{limit} bytes leave {room} for a payload beside the headers; the setting max_body_bytes allows "
            f"{max_body_bytes}, which does not count",
            f"set max_payload in nats-server's configuration to {limit - room + max_body_bytes} or more, such as 2MB",
        )
    return ok(check, f"{limit} bytes, enough for requests of {max_body_bytes}")
