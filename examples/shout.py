"""A worker of one's own. Run it beside `crank up`:  crank worker shout:worker"""

from crank import Worker

worker = Worker("shout")


@worker.capability("text:shout", idempotent=True)
async def shout(text: str) -> str:
    return text.upper() + "!"
