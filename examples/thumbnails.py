"""Two workers that draw the same thumbnails: one slow and cheap, one quick and dear. See docs/objectives.md."""

import asyncio

from crank import Worker


def painter(worker_id: str, seconds: float, tokens: float) -> Worker:
    worker = Worker(worker_id, cost_tokens_per_invocation=tokens)

    @worker.capability("draw:thumbnail", idempotent=True, max_concurrency=8)
    async def draw(order: dict[str, str]) -> dict[str, str]:
        await asyncio.sleep(seconds)
        return {"thumbnail": f"{order['picture']} in small", "by": worker_id}

    return worker


cheap = painter("cheap", seconds=0.03, tokens=1)
quick = painter("quick", seconds=0.005, tokens=10)
