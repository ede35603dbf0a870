"""Prove that the chaos run can fail: every broken build must be caught.

    python -m tests.chaos.broken --seed 7

Each build gets a few short runs, under the faults and workloads where it shows, with different
seeds until one finds a violation. Exit code 0: all were caught. 1: one got away, and the chaos run
is blind to it.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.chaos import campaign
from tests.chaos.broken_builds import BROKEN
from tests.chaos.running import Order

SECONDS = 15.0
TRIES_MAX = 4
NODES = 3


def order(name: str, seed: int, seconds: float) -> Order:
    """What brings a broken build to light."""
    build = BROKEN[name]
    return Order(
        seconds,
        seed,
        NODES,
        faults=build.faults,
        workloads=build.workloads,
        disks=("forgetful",) * NODES,
        pair_odds=0.0,
        broken=name,
    )


def caught(name: str, seed: int, seconds: float = SECONDS) -> str | None:
    """Run one broken build until it is found out; the first violation, or None."""
    for attempt in range(TRIES_MAX):
        violations = campaign.run(order(name, seed + attempt, seconds)).judgement.violations
        if violations:
            return violations[0]
    return None


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.broken", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each run")
    parser.add_argument("--build", choices=sorted(BROKEN), action="append")
    arguments = parser.parse_args()
    findings: dict[str, str | None] = {}
    for name in arguments.build or list(BROKEN):
        print(f"broken build {name}: {BROKEN[name].sentence}")
        findings[name] = caught(name, arguments.seed, arguments.seconds)
    for name, finding in findings.items():
        print(f"{name:26} {finding.splitlines()[0][:100] if finding else 'NOT CAUGHT'}")
    return 0 if all(findings.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
