"""Break nodes in every way that this machine allows, and check every promise.

    python -m tests.chaos --seconds 60 --seed 7

Real processes behind proxies, on disks that forget what was not synced; clients of several
workloads on each of them; and a plan, made from the seed, of what goes wrong: one fault at a time,
or two that overlap. Afterwards, and after each minute of a longer run, everything that the clients
saw is checked.

Exit code 0: nothing found. 1: a violation; record, logs and data are kept. 3: undecided, or void
because the run was too calm, or a fault did not take hold. The seed makes the *plan* of a run
repeatable; real processes on a real machine are not.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import netns, stage
from tests.chaos.broken_builds import BROKEN
from tests.chaos.campaign import run
from tests.chaos.faults import FAULTS
from tests.chaos.plan import PAIR_ODDS
from tests.chaos.running import Order
from tests.chaos.workloads.choice import WORKLOADS

MEMORY_MIB = 1024
"""The limit of a node's cgroup, until it is lowered."""
PACKETS = ("packets-cut", "packets-lost")
"""Faults that need namespaces."""


def rates(text: str, disks: list[str]) -> dict[str, float]:
    """Faults by name with their rates; of those that nobody named, all that are possible here.

    Raises:
        argparse.ArgumentTypeError: there is no such fault, or it is not possible here.
    """
    if not text:
        return {name: 1.0 for name, fault in FAULTS.items() if fault.missing(disks) is None}
    chosen: dict[str, float] = {}
    for part in text.split(","):
        name, _, rate = part.partition("=")
        if name not in FAULTS:
            raise argparse.ArgumentTypeError(f"there is no fault {name!r}; see --list")
        if (reason := FAULTS[name].missing(disks)) is not None:
            raise argparse.ArgumentTypeError(f"{name} is not possible here: {reason}")
        chosen[name] = float(rate) if rate else 1.0
    return chosen


def disks_of(kind: str, seed: int, nodes: int) -> list[str]:
    """A kind of disk for each node.

    Raises:
        argparse.ArgumentTypeError: there is no such kind.
    """
    if kind != "auto":
        kinds = kind.split(",")
        if unknown := [one for one in kinds if one not in stage.KINDS]:
            raise argparse.ArgumentTypeError(f"there is no disk of the kind {unknown[0]!r}")
        return [kinds[number % len(kinds)] for number in range(nodes)]
    with tempfile.TemporaryDirectory(prefix="kvnode-chaos-") as place:
        loop = stage.can_mount(Path(place)) is None
    return stage.deal_disks(random.Random(seed), nodes, loop=loop)


def namespaces_of(wish: str) -> bool:
    """Whether nodes get network namespaces.

    Raises:
        argparse.ArgumentTypeError: they are wished for, and there can be none.
    """
    reason = None if wish == "off" else netns.missing()
    if wish == "on" and reason is not None:
        raise argparse.ArgumentTypeError(reason)
    return wish != "off" and reason is None


def list_all(disks: list[str]) -> None:
    """Tell what there is."""
    print("faults:")
    for name, fault in FAULTS.items():
        missing = fault.missing(disks)
        sentence = (type(fault).__doc__ or "").partition("\n")[0]
        print(f"  {name:22} {sentence}" + (f" NOT HERE: {missing}" if missing else ""))
    print(f"workloads: {', '.join(WORKLOADS)}")
    print(f"broken builds: {', '.join(sorted(BROKEN))}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="how long to break things")
    add("--seed", type=int, default=time.time_ns() % 1_000_000)
    add("--nodes", type=int, default=3, choices=[3, 5])
    add("--faults", default="", metavar="NAME[=RATE],…", help="default: all that can be done here")
    add("--workloads", default=",".join(WORKLOADS), metavar="NAME,…")
    add("--pairs", type=float, default=PAIR_ODDS, help="odds of two faults at a time")
    add("--disks", default="auto", metavar="KIND,…", help=f"auto, or of {', '.join(stage.KINDS)}")
    add("--netns", choices=["auto", "on", "off"], default="auto", help="a namespace for each node")
    add("--broken", choices=sorted(BROKEN), default="", help="nodes with a rule taken out")
    add("--keep-going", action="store_true", help="a violation does not end the run")
    add("--report", type=Path, metavar="DIR", help="where the report goes")
    add("--list", action="store_true", help="faults, workloads and broken builds")
    return parser


def main() -> int:
    """Command line; the exit code is the verdict."""
    arguments = parser().parse_args()
    workloads = arguments.workloads.split(",")
    try:
        has_netns = namespaces_of(arguments.netns)
        disks = disks_of(arguments.disks, arguments.seed, arguments.nodes)
        if arguments.list:
            list_all(disks)
            return 0
        faults = rates(arguments.faults, disks)
        if not has_netns:
            faults = {name: rate for name, rate in faults.items() if name not in PACKETS}
        if unknown := [name for name in workloads if name not in WORKLOADS]:
            raise argparse.ArgumentTypeError(f"there is no workload {unknown[0]!r}")
    except argparse.ArgumentTypeError as error:
        parser().error(str(error))
    order = Order(
        seconds=arguments.seconds,
        seed=arguments.seed,
        nodes=arguments.nodes,
        faults=faults,
        workloads=workloads,
        disks=disks,
        netns=has_netns,
        memory_mib=MEMORY_MIB if "less-memory" in faults else 0,
        pair_odds=arguments.pairs,
        broken=arguments.broken,
        keep_going=arguments.keep_going,
        report=arguments.report,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(order).judgement.exit_code
    except KeyboardInterrupt:
        print("interrupted: no verdict", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
