"""Prove that the chaos run can fail: every broken build must be caught.

    python -m tests.chaos.broken --seed 7

Each build gets a few short runs with different seeds until one finds a violation. Exit code 0: all
were caught. 1: one got away, and the chaos run is blind to it.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.chaos import campaign, smoke
from tests.chaos.broken_builds import BROKEN

SECONDS = 15.0
TRIES_MAX = 4


def caught(name: str, seed: int, seconds: float = SECONDS) -> str | None:
    """Run one broken build until it is found out; the first violation, or None."""
    for attempt in range(TRIES_MAX):
        outcome = campaign.run(smoke.order(seconds, seed + attempt, broken=name))
        if outcome.judgement.violations:
            return outcome.judgement.violations[0]
    return None


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.broken", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--build", choices=sorted(BROKEN), action="append")
    arguments = parser.parse_args()
    escaped = []
    for name in arguments.build or sorted(BROKEN):
        print(f"broken build {name}, seed {arguments.seed}")
        finding = caught(name, arguments.seed)
        print(f"  caught: {finding.splitlines()[0]}" if finding else "  NOT caught")
        if finding is None:
            escaped.append(name)
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
