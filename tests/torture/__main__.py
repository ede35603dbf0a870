"""`python -m tests.torture`: damage to the log, case by case, until something acknowledged is gone.

Exit code 0: every promise held; 1: one was broken; 3: the run proves nothing, since too little
happened in it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.torture.campaigns import CAMPAIGNS, Outcome, play

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    names = [campaign.name for campaign in CAMPAIGNS]
    parser.add_argument("campaign", nargs="?", choices=[*names, "all"], default="all")
    parser.add_argument("--cases", type=int, help="so many of each; all, or 100000 random ones")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--record", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    outcomes = []
    for campaign in CAMPAIGNS:
        if options.campaign in ("all", campaign.name):
            print(f"{campaign.name}: seed {options.seed}", flush=True)
            outcome = play(campaign, options.cases, options.seed, jobs=options.jobs, tell=tell)
            print("\n".join(outcome.lines()), flush=True)
            outcomes.append(outcome)
    if options.record:
        options.record.write_text("\n".join(record(outcomes)) + "\n")
    if any(outcome.tally.counts["broken"] for outcome in outcomes):
        return 1
    return 3 if any(outcome.void for outcome in outcomes) else 0


def tell(line: str) -> None:
    """Show progress."""
    print(line, file=sys.stderr, flush=True)


def record(outcomes: list[Outcome]) -> Iterator[str]:
    """The text of RECORD.md."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    broken = sum(outcome.tally.counts["broken"] for outcome in outcomes)
    yield "# The last long run"
    yield ""
    yield f"- Run: `python -m tests.torture {' '.join(sys.argv[1:])}`"
    yield f"- Commit: `{commit.stdout.strip()}`"
    yield f"- Duration: {sum(outcome.seconds for outcome in outcomes):.0f} s"
    yield f"- Broken promises: {broken}"
    for outcome in outcomes:
        yield ""
        yield f"## {outcome.campaign.name}"
        yield ""
        yield from outcome.lines()


if __name__ == "__main__":
    sys.exit(main())
