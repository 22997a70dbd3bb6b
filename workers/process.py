"""Owns a worker as a process: environment, signals, logging, exit code. ``Worker.run`` calls it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Coroutine

from bus import BusUnavailable
from bus.addresses import NATS_URL_RULE, is_nats_url, public
from subjects.names import DEFAULT_PREFIX
from workers.errors import WorkerError
from workers.runtime import serve
from workers.worker import DRAIN_TIMEOUT_S, Worker

DEFAULT_NATS_URL = "nats://127.0.0.1:4222"


def run(worker: Worker, nats_url: str | None, worker_id: str | None, prefix: str | None) -> None:
    """See ``Worker.run``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    url = nats_url or os.environ.get("CRANK_NATS_URL") or DEFAULT_NATS_URL
    if not is_nats_url(url):
        raise SystemExit(f"{worker.name}: {public(url)!r} is not {NATS_URL_RULE}")
    ident = worker_id or os.environ.get("CRANK_WORKER_ID") or None
    try:
        left = _loop_run(
            _until_signalled(worker, url, ident, prefix or os.environ.get("CRANK_PREFIX") or DEFAULT_PREFIX)
        )
    except (WorkerError, BusUnavailable) as error:
        raise SystemExit(f"{worker.name}: {error}") from None
    if left:
        logging.getLogger("crank.worker").error("%s ends while %d handlers still run", worker.name, left)
        logging.shutdown()
        os._exit(1)  # Python would wait for their threads, for as long as they like


async def _until_signalled(worker: Worker, url: str, ident: str | None, prefix: str) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)  # the second one is for those who will not wait

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the process
            loop.add_signal_handler(number, on_signal, number)
    return await serve(worker, url, ident, prefix, stop, DRAIN_TIMEOUT_S)


def _loop_run(main: Coroutine[None, None, int]) -> int:
    if sys.platform != "win32":
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)
