"""Kill nodes under load for a minute, then check every promise: the chaos run, with kills only.

    python -m tests.chaos.smoke --seconds 60 --seed 7

Three real processes on a disk that forgets un-synced bytes at the kill; clients of all workloads on
each; the leader, a follower, or all of them are killed with SIGKILL. See `python -m tests.chaos`.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.chaos.broken_builds import BROKEN
from tests.chaos.campaign import run
from tests.chaos.running import Order

FAULTS = {"kill": 1.0, "power-loss": 2.0, "power-loss-all": 1.0}


def order(seconds: float, seed: int, nodes: int = 3, broken: str = "") -> Order:
    """What to run: kills, one after the other."""
    return Order(
        seconds,
        seed,
        nodes,
        faults=FAULTS,
        disks=("forgetful",) * nodes,
        pair_odds=0.0,
        broken=broken,
    )


def main() -> int:
    """Command line; the exit code is the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.smoke", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to kill")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--nodes", type=int, default=3, choices=[3, 5])
    parser.add_argument("--broken", choices=sorted(BROKEN), default="")
    return run(order(**vars(parser.parse_args()))).judgement.exit_code


if __name__ == "__main__":
    sys.exit(main())
