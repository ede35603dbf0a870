"""`python -m tests.rolling`: rolls in a row under load; `under_load` says what is judged."""

from __future__ import annotations

import argparse
import random
import sys

from tests.rolling import under_load
from tests.rolling.load import CLIENTS
from tests.rolling.under_load import BROKEN, PAUSE_SECONDS_MAX, Stage, Verdict
from tests.support.docker import Containers, engine_problem, image


def main() -> int:
    """Read the flags, roll, tell; 0 when all held, 1 when something did not."""
    parser = argparse.ArgumentParser(
        description=under_load.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rolls", type=int, default=10)
    parser.add_argument("--broken", choices=BROKEN, help="then one roll with a broken image")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a variable of the script"
    )
    parser.add_argument("--seed", type=int, default=random.getrandbits(32))
    options = parser.parse_args()
    if problem := engine_problem():
        print(f"no containers here: {problem}", file=sys.stderr)
        return 1
    print(f"seed {options.seed}")
    variables = {"STABLE_SECONDS": "5"} | dict(text.split("=", 1) for text in options.set)
    containers = Containers(image())
    verdicts: list[Verdict] = []

    def tell(name: str, verdict: Verdict) -> None:
        verdicts.append(verdict)
        print(f"{name}: {verdict}", flush=True)

    try:
        stage = Stage(containers, options.seed, options.clients, **variables)
        with stage.load.running():
            for number in range(1, options.rolls + 1):
                tell(f"roll {number}", stage.roll())
            if options.broken:
                tell(f"broken ({options.broken})", stage.roll_broken(options.broken))
    finally:
        containers.close()
    failed = sum(bool(verdict.wrong) or not verdict.is_quick for verdict in verdicts)
    print(
        f"{len(verdicts)} rolls, {failed} not as they should be; worst pause elsewhere "
        f"{max(verdict.elsewhere.pause for verdict in verdicts):.2f} s of {PAUSE_SECONDS_MAX:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
