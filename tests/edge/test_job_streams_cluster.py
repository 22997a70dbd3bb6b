"""Jobs on three servers of which the one that leads is killed: what was accepted is handed out until it is done."""

from __future__ import annotations

import asyncio

from controller.core.stored import AckJob, Appended, AppendJob, JobDelivered, PullEnded, PullJobs
from crank.natsd import NatsServer
from tests.edge.job_bench import GREET, Bench, request


async def _leader(bench: Bench) -> str:
    info = await bench.bus.jetstream.stream_info("CRANK_JOBS")
    assert info.cluster is not None
    return str(info.cluster.leader)


async def test_no_accepted_job_is_lost_with_the_leader(cluster: dict[str, NatsServer]) -> None:
    """Every append has one answer, every job that was accepted is handed out, and the stream is empty at the end."""
    bench = await Bench.on(",".join(server.url for server in cluster.values()), replicas=3)
    async with asyncio.timeout(30):
        while await bench.append("first") is not None:
            bench.jobs.check()
            await asyncio.sleep(0.2)
    leader = await _leader(bench)
    for number in range(600):
        bench.do(AppendJob(number, request(body=b"%d" % number), f"j-{number}", f"j-{number}"))
        if number == 200:
            await cluster[leader].stop(kill=True)
        if number % 10 == 0:
            await asyncio.sleep(0.01)
    told = await bench.expect(Appended, 600, timeout_s=60)
    assert sorted(event.life for event in told) == list(range(600))
    accepted = {f"j-{event.life}" for event in told if event.reason is None}
    assert len(accepted) > 100
    async with asyncio.timeout(60):
        while await bench.append("after") is not None:
            pass
    accepted |= {"first", "after"}
    came: set[str] = set()

    def take_and_pull() -> bool:
        for job in bench.of(JobDelivered):
            came.add(job.job_id)
            bench.do(AckJob(job.delivery))
        again = bool(bench.of(PullEnded))
        bench.fed.clear()
        if again:
            bench.do(PullJobs(GREET, 50))
        return accepted <= came

    bench.fed.append(PullEnded(GREET))
    await bench.until(take_and_pull, 60)
    await cluster[leader].start()
    async with asyncio.timeout(60):
        while await bench.messages("CRANK_JOBS"):  # an acknowledgement that was lost is made up for by a delivery
            take_and_pull()
            await asyncio.sleep(0.1)
    await bench.stop()
