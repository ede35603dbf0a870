"""`python -m tests.overload` replays the first incident; see `incident`."""

from __future__ import annotations

import argparse
import sys

from tests.overload import incident
from tests.overload.attacks import ATTACKS
from tests.overload.incident import MIB, ORDINARY, Stage


def main() -> int:
    """Read the flags, attack, tell; 0 when all held, 1 when something did not."""
    parser = argparse.ArgumentParser(description=incident.__doc__)
    parser.add_argument("--attack", choices=[*ATTACKS, "all"], default="all")
    parser.add_argument("--memory", type=int, default=512, help="MiB of each node's cgroup")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--ordinary", action="store_true", help="an ordinary load instead")
    parser.add_argument("--everywhere", action="store_true", help="attack all nodes at once")
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    options = parser.parse_args()
    failed = 0
    names = list(ATTACKS) if options.attack == "all" else [options.attack]
    for name in [ORDINARY] if options.ordinary else names:
        stage = Stage(options.memory * MIB)
        outcome = None
        try:
            stage.start()
            outcome = incident.attack(stage, name, options.seconds, everywhere=options.everywhere)
            print(outcome.line(), flush=True)
        finally:
            is_wrong = outcome is None or bool(outcome.wrong)
            failed += is_wrong
            stage.close(keep=is_wrong or options.keep)
            if is_wrong:
                print(f"    logs and data: {stage.directory}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
