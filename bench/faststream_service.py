"""FastStream, answering by itself: an RPC peer, not a router. ``python -m bench.faststream_service URL``.

The one module that needs the package faststream; it is started only where that is installed. Written in the manner of
its documentation, but for its two log lines a message, which are off.
"""

from __future__ import annotations

from faststream.nats import NatsBroker

from bench.paths import FASTSTREAM
from bench.plain import run


class _Service:
    """A broker, with the name that every part's connection has for its end."""

    def __init__(self, broker: NatsBroker) -> None:
        self.broker = broker

    async def close(self) -> None:
        await self.broker.stop()


async def _connect(url: str, name: str) -> _Service:
    return _Service(NatsBroker(url, name=name, logger=None))


async def serve(service: _Service) -> None:
    """Send back what came."""

    async def echo(payload: dict[str, str]) -> dict[str, str]:
        return payload

    service.broker.subscriber(FASTSTREAM)(echo)
    await service.broker.start()


if __name__ == "__main__":
    run(serve, "bench faststream", _connect)
