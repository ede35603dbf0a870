"""Do the bytes in flight explain the memory, and what does it cost to count them?

    python -m scripts.bench.accounting [--memory 512] [--seconds 8] [--mapped]
        [--before TREE] [--rounds 5]

One node in a memory cgroup is attacked, first by 200 clients that pipeline values of 1 MB, then by
1,000 that ask for replies of 4 MB and read none. Ten times a second the node's /status tells its
anonymous memory and the bytes in flight by kind. What is compared is growth since before the
attack, in the larger half of the samples. glibc keeps a part of what was freed and tells how much;
`--mapped` makes it give every large block back (at twice the processor time for large values).

With `--before`, the same node from another tree answers SETs of 256 clients by turns with this one.
Compared is the processor time per SET: on a busy machine throughput says more about the others.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.bench.measure import REPOSITORY, cpu_seconds, redis_benchmark
from scripts.local_cluster import LocalCluster, LocalNode
from tests.overload.attacks import prepare
from tests.support.cgroup import MemoryCgroup

MIB = 1024 * 1024
ATTACKS = ("large-values", "slow-readers")
SAMPLE_SECONDS = 0.1
GROWTH_BYTES_MIN = 8 * MIB
"""Below this a ratio says nothing."""
CLIENTS = 256
SETS_PER_ROUND = 10_000


# --- memory -------------------------------------------------------------------------------------


def explain(name: str, memory_bytes: int, seconds: float, *, mapped: bool) -> None:
    """Attack one node and tell how much of its growth the counters have."""
    with tempfile.TemporaryDirectory(prefix="kvnode-accounting-") as directory:
        environment = {
            "KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB": "auto",
            "PYTHONPATH": str(REPOSITORY),
        } | ({"MALLOC_MMAP_THRESHOLD_": str(256 * 1024)} if mapped else {})
        cluster = LocalCluster(Path(directory), 1, environment=environment)
        (node,) = cluster.nodes
        cgroup = MemoryCgroup.make(f"kvnode-accounting-{node.ports.client}", memory_bytes)
        node.arguments = cgroup.command(node.arguments)
        try:
            cluster.start()
            cluster.wait_leader()
            prepare(name, node.ports.client)
            time.sleep(1.0)
            before = _memory(node)
            _tell(name, before, _attack(node, name, seconds))
        finally:
            cluster.stop()
            cluster.close()
            cgroup.remove()


def _memory(node: LocalNode) -> dict[str, Any]:
    status = node.get_json("/status", 10.0)
    assert status is not None, node.log_tail()
    memory: dict[str, Any] = status["memory"]
    return memory


def _attack(node: LocalNode, name: str, seconds: float) -> list[dict[str, Any]]:
    port = str(node.ports.client)
    command = [sys.executable, "-m", "tests.overload.attacks", name, port, str(seconds)]
    samples = []
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as attackers:
        while attackers.poll() is None and node.alive():
            samples.append(_memory(node))
            time.sleep(SAMPLE_SECONDS)
        if not node.alive():
            print(f"the node left:\n{node.log_tail()}")
            attackers.terminate()
        assert attackers.stdout is not None
        print(f"attackers got {attackers.stdout.read().decode().strip()}")
    return samples


def _tell(name: str, before: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    base = before["rss_anon_bytes"]
    grown = sorted(
        (
            sample["rss_anon_bytes"] - base,
            _in_flight(sample) - _in_flight(before),
            sample["allocator_free_bytes"] - before["allocator_free_bytes"],
            at,
        )
        for at, sample in enumerate(samples)
    )
    grown = [each for each in grown[len(grown) // 2 :] if each[0] >= GROWTH_BYTES_MIN]
    print(f"{name}: {base / MIB:.0f} MiB before, {len(samples)} samples")
    if not grown:
        print(f"  never {GROWTH_BYTES_MIN // MIB} MiB more: there is nothing to explain")
        return
    shares = [counted / growth for growth, counted, _, _ in grown]
    explained = [(counted + free) / growth for growth, counted, free, _ in grown]
    growth, counted, free, at = grown[-1]
    kinds = {k: round(v / MIB, 1) for k, v in samples[at]["in_flight"].items() if v >= MIB // 10}
    print(
        f"  at the peak {growth / MIB:.0f} MiB more, {counted / MIB:.0f} of them counted: {kinds}; "
        f"{free / MIB:.0f} free in the allocator\n"
        f"  in flight / grown: {_spread(shares)}\n"
        f"  in flight and free / grown: {_spread(explained)}"
    )


def _in_flight(memory: dict[str, Any]) -> int:
    return sum(memory["in_flight"].values())


def _spread(shares: list[float]) -> str:
    return f"median {statistics.median(shares):.2f}, {min(shares):.2f} to {max(shares):.2f}"


# --- cost ---------------------------------------------------------------------------------------


def compare(before: Path, rounds: int) -> None:
    """SETs of 256 clients, by turns on this tree and another; processor time per SET."""
    with tempfile.TemporaryDirectory(prefix="kvnode-accounting-") as directory:
        clusters = {
            name: LocalCluster(Path(directory) / name, 1, environment={"PYTHONPATH": str(tree)})
            for name, tree in (("before", before), ("now", REPOSITORY))
        }
        try:
            for cluster in clusters.values():
                cluster.start()
                cluster.wait_leader()
            costs: dict[str, list[float]] = {name: [] for name in clusters}
            for number in range(rounds + 1):
                for name, cluster in clusters.items():
                    cost = _cost_us(cluster.nodes[0])
                    if number:  # the first one warms up
                        costs[name].append(cost)
        finally:
            for cluster in clusters.values():
                cluster.stop()
                cluster.close()
    ratios = [now / then for now, then in zip(costs["now"], costs["before"], strict=True)]
    print(
        f"SET of {CLIENTS} clients, processor time of the node: "
        f"before {statistics.median(costs['before']):.1f} us, "
        f"now {statistics.median(costs['now']):.1f} us; "
        f"now / before: median {statistics.median(ratios):.3f}, "
        f"{min(ratios):.3f} to {max(ratios):.3f}"
    )


def _cost_us(node: LocalNode) -> float:
    began = cpu_seconds([node.pid])
    redis_benchmark(node.ports.client, "set", CLIENTS, SETS_PER_ROUND)
    return (cpu_seconds([node.pid]) - began) / SETS_PER_ROUND * 1e6


def main() -> None:
    """Read the flags, measure, tell."""
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.accounting", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--memory", type=int, default=512, help="MiB of the node's cgroup")
    parser.add_argument("--seconds", type=float, default=8.0, help="of one attack; 0: none")
    parser.add_argument("--mapped", action="store_true", help="an allocator that keeps nothing")
    parser.add_argument("--before", type=Path, help="a tree to compare the cost of SET with")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name in ATTACKS if options.seconds else ():
        explain(name, options.memory * MIB, options.seconds, mapped=options.mapped)
    if options.before is not None:
        compare(options.before.resolve(), options.rounds)


if __name__ == "__main__":
    main()
