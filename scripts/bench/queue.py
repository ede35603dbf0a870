"""A queue of jobs: LPUSH by producers, BRPOP by workers, on three nodes.

Every worker asks for one job at a time and waits while there is none, as the workers of RQ or
Celery do. Producers and workers are spread over the nodes. Each job has a number; at the end every
number must have come to exactly one worker. What is told is jobs per second from the first push to
the last job, the median time from push to worker, and the processor time of the nodes.

    python -m scripts.bench.queue --seconds 10 --workers 16 --producers 8 --pipeline 1

With `--redis` the same runs against one redis-server.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import Counter
from pathlib import Path

from tests.support.cluster import Endpoints, NodeCluster, RedisStandIn

QUEUE = b"jobs"


def command(*arguments: bytes) -> bytes:
    """One request."""
    parts = b"".join([b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments])
    return b"*%d\r\n%b" % (len(arguments), parts)


class Bench:
    """The run's numbers.

    Attributes:
        pushed_at: when each job was pushed, in seconds.
        taken: how often each job came to a worker.
        delays_s: from the push to the worker.
    """

    def __init__(self, seconds: float, payload_bytes: int, backlog_jobs: int) -> None:
        self.ends_at = time.monotonic() + seconds
        self.payload = b"x" * payload_bytes
        self.backlog_jobs = backlog_jobs
        self.pushed_at: list[float] = []
        self.taken: Counter[int] = Counter()
        self.delays_s: list[float] = []
        self.last_at = 0.0

    async def produce(self, address: tuple[str, int], pipeline: int) -> None:
        """Push jobs, `pipeline` at a time, as long as the workers keep up."""
        reader, writer = await asyncio.open_connection(*address)
        while time.monotonic() < self.ends_at:
            if len(self.pushed_at) - len(self.taken) >= self.backlog_jobs:
                await asyncio.sleep(0.001)
                continue
            requests = []
            for _ in range(pipeline):
                number = len(self.pushed_at)
                self.pushed_at.append(time.monotonic())
                requests.append(command(b"LPUSH", QUEUE, b"%d:%b" % (number, self.payload)))
            writer.write(b"".join(requests))
            for _ in range(pipeline):
                reply = await reader.readline()
                assert reply.startswith(b":"), reply
        writer.close()

    async def work(self, address: tuple[str, int]) -> None:
        """Take jobs until there is none for a second."""
        reader, writer = await asyncio.open_connection(*address)
        request = command(b"BRPOP", QUEUE, b"1")
        while True:
            writer.write(request)
            head = await reader.readline()
            if head == b"*-1\r\n":
                if time.monotonic() >= self.ends_at:
                    break
                continue
            assert head == b"*2\r\n", head
            for _ in range(3):
                await reader.readline()
            number = int((await reader.readline()).partition(b":")[0])
            self.last_at = time.monotonic()
            self.taken[number] += 1
            self.delays_s.append(self.last_at - self.pushed_at[number])
        writer.close()


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / 100


def applied(cluster: Endpoints) -> int:
    """The newest log index that the first node has applied."""
    status = cluster.nodes[0].status() if isinstance(cluster, NodeCluster) else None
    return 0 if status is None else int(status["applied"])


async def until_ready(address: tuple[str, int]) -> None:
    """The feature level of a new cluster rises a moment after its start."""
    reader, writer = await asyncio.open_connection(*address)
    while True:
        writer.write(command(b"BRPOP", QUEUE, b"0.001"))
        if (await reader.readline()).startswith(b"*-1"):
            break
        await asyncio.sleep(0.05)
    writer.close()


async def run(options: argparse.Namespace, cluster: Endpoints) -> None:
    """One run; prints one line."""
    addresses = cluster.addresses()
    if options.one_node:
        addresses = addresses[:1]
    for address in addresses:
        await until_ready(address)
    pids = [node.pid for node in cluster.nodes] if isinstance(cluster, NodeCluster) else []
    bench = Bench(options.seconds, options.payload, options.backlog)
    used, entries = cpu_seconds(pids), applied(cluster)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(options.workers):
            group.create_task(bench.work(addresses[number % len(addresses)]))
        for number in range(options.producers):
            address = addresses[number % len(addresses)]
            group.create_task(bench.produce(address, options.pipeline))
    lost = len(bench.pushed_at) - len(bench.taken)
    twice = sum(times > 1 for times in bench.taken.values())
    used = cpu_seconds(pids) - used
    entries = applied(cluster) - entries
    jobs = len(bench.taken)
    print(
        f"{jobs / (bench.last_at - began):,.0f} jobs/s · median "
        f"{1000 * statistics.median(bench.delays_s):.1f} ms from push to worker · "
        f"{1e6 * used / jobs:.0f} µs of the nodes' processors and "
        f"{entries / jobs:.2f} log entries per job · "
        f"{jobs} jobs, {lost} lost, {twice} given twice"
    )


def main() -> None:
    """Read the flags, start the nodes, run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--producers", type=int, default=8)
    parser.add_argument("--pipeline", type=int, default=1, help="jobs that are pushed at a time")
    parser.add_argument("--payload", type=int, default=64, help="bytes of a job")
    parser.add_argument("--backlog", type=int, default=256, help="jobs ahead of the workers")
    parser.add_argument("--one-node", action="store_true", help="all clients at the same node")
    parser.add_argument("--redis", action="store_true", help="one redis-server instead")
    options = parser.parse_args()
    cluster: Endpoints
    if options.redis:
        cluster = RedisStandIn()
    else:
        cluster = NodeCluster(3)
        cluster.start()
    try:
        asyncio.run(run(options, cluster))
    finally:
        cluster.finish(keep=False)


if __name__ == "__main__":
    main()
