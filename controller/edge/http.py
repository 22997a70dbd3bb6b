"""Owns the controller's HTTP port: liveness and readiness. Loopback unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web


class HttpPort:
    """``/healthz`` says that the process answers, ``/readyz`` that it serves requests, each with the reason if not."""

    def __init__(self, host: str, port: int, not_ready: Callable[[], str | None]) -> None:
        self._host, self._port = host, port
        self._not_ready = not_ready
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen; port 0 takes a free one, and ``url`` says where.

        Raises:
            OSError: the port is taken or the address is not this machine's.

        """
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = self._not_ready()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)
