"""The caller of every path: nats-py with one inbox for all replies. ``python -m bench.client URL``.

It is told over NATS what to measure, one thing at a time, and answers with the figures.
"""

from __future__ import annotations

import msgspec

from bench.load import PAYLOAD, Figures, Load, Task
from bench.paths import measure_subject
from bench.plain import Client, Msg, connect_end, run


class Caller:
    """Sends a request the moment the one before it in the same slot is answered."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._inbox = connection.new_inbox()
        self._skip = len(self._inbox) + 1
        self._load: Load | None = None
        self._number = 0
        self._keys = 0

    async def listen(self) -> None:
        """Take replies from now on."""
        await self._connection.subscribe(f"{self._inbox}.*", cb=self._on_reply)

    async def measure(self, task: Task) -> Figures:
        """Do ``task`` and count."""
        self._number += 1
        self._load = load = Load(task, self._number)
        for slot in range(task.in_flight):
            await self._send(load, slot)
        return await load.figures()

    async def _send(self, load: Load, slot: int) -> None:
        load.sent(slot)
        headers = {"Idempotency-Key": self._key(load)} if load.key else None
        await self._connection.publish(load.subject, PAYLOAD, f"{self._inbox}.{load.number}-{slot}", headers)

    def _key(self, load: Load) -> str:
        if load.key == "same":
            return f"{self._inbox}.{load.number}"
        self._keys += 1
        return f"{self._inbox}.new.{self._keys}"

    async def _on_reply(self, message: Msg) -> None:
        number, _, slot = message.subject[self._skip :].partition("-")
        load = self._load
        if load is not None and int(number) == load.number and load.answered(int(slot), message.data):
            await self._send(load, int(slot))


async def serve(connection: Client) -> None:
    """Measure what is asked for."""
    caller = Caller(connection)
    await caller.listen()

    async def on_task(message: Msg) -> None:
        figures = await caller.measure(msgspec.json.decode(message.data, type=Task))
        await connection.publish(message.reply, msgspec.json.encode(figures))

    await connection.subscribe(measure_subject("client"), cb=on_task)


if __name__ == "__main__":
    run(serve, "bench client", connect_end)
