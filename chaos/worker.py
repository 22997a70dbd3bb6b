"""The worker of a chaos run, written with the SDK as anyone would; it writes down each execution before it begins.

``CHAOS_FOLDER`` names the folder for that. ``crank worker chaos.worker:worker`` runs it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from chaos.executions import Ledger
from chaos.plan import AGAIN, FAILS_WITH, FRAMES, ONCE
from workers import Context, Depends, PermanentError, Worker

CHUNKS = 3

worker = Worker("chaos", max_concurrency=32)


class Task(msgspec.Struct):
    """What to do: take ``ms`` milliseconds, and then answer or fail."""

    operation: str
    ms: int
    fails: bool = False


class Done(msgspec.Struct):
    """What was done, and by which execution."""

    operation: str
    execution: str


@worker.lifespan
def ledger() -> Iterator[Ledger]:
    """Where this process writes down what it does."""
    yield Ledger(Path(os.environ["CHAOS_FOLDER"]))


Written = Annotated[Ledger, Depends(ledger)]


async def _execute(capability: str, task: Task, ctx: Context, ledger: Ledger) -> Done:
    ident = ledger.begin(task.operation, capability, ctx.request_id, ctx.dispatch_id, ctx.idempotency_key)
    await asyncio.sleep(task.ms / 1000)
    ledger.end(ident)
    if task.fails:
        raise PermanentError(f"{task.operation} fails, as it was asked to, in execution {ident}", code=FAILS_WITH)
    return Done(task.operation, ident)


@worker.capability(ONCE)
async def once(task: Task, ctx: Context, ledger: Written) -> Done:
    """What must not be done twice."""
    return await _execute(ONCE, task, ctx, ledger)


@worker.capability(AGAIN, idempotent=True)
async def again(task: Task, ctx: Context, ledger: Written) -> Done:
    """What may be done twice."""
    return await _execute(AGAIN, task, ctx, ledger)


@worker.capability(FRAMES, streaming=True)
async def frames(task: Task, ctx: Context, ledger: Written) -> AsyncIterator[Done]:
    """The same thing a few times, as a stream; not to be done twice either."""
    ident = ledger.begin(task.operation, FRAMES, ctx.request_id, ctx.dispatch_id, ctx.idempotency_key)
    for _ in range(CHUNKS):
        await asyncio.sleep(task.ms / 1000 / CHUNKS)
        yield Done(task.operation, ident)
    ledger.end(ident)
