"""A router that decides nothing: what Python over NATS can do at best. ``python -m bench.passthrough URL``.

Plain nats-py with callbacks, one wildcard subscription for all answers, headers passed as they are.
"""

from __future__ import annotations

from bench.plain import Client, Msg, connect, run


async def route(connection: Client) -> None:
    """Forward every request to its worker, and every answer to its caller."""
    callers: dict[str, str] = {}
    inbox = connection.new_inbox()
    serial = 0

    async def on_request(message: Msg) -> None:
        nonlocal serial
        serial += 1
        reply = f"{inbox}.{serial}"
        callers[reply] = message.reply
        subject = "pt.worker" + message.subject[len("pt.request") :]
        await connection.publish(subject, message.data, reply, message.headers)

    async def on_answer(message: Msg) -> None:
        caller = callers.pop(message.subject, None)
        if caller is not None:
            await connection.publish(caller, message.data, headers=message.headers)

    await connection.subscribe(f"{inbox}.*", cb=on_answer)
    await connection.subscribe("pt.request.*.*", queue="routers", cb=on_request)


if __name__ == "__main__":
    run(route, "bench pass-through", connect)
