"""`python -m tests.torture`: damage to the log, case by case, until something acknowledged is gone.

Exit code 0: every promise held; 1: one was broken; 3: the run proves nothing, since too little
happened in it.
"""

from __future__ import annotations

import argparse
import re
import signal
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
    parser.add_argument("--record", type=Path, help="note the figures in this file")
    options = parser.parse_args()
    # Whoever stops a run gets what it has counted so far.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    outcomes = []
    for campaign in CAMPAIGNS:
        if options.campaign in ("all", campaign.name):
            print(f"{campaign.name}: seed {options.seed}", flush=True)
            outcome = play(campaign, options.cases, options.seed, jobs=options.jobs, tell=tell)
            print("\n".join(outcome.lines()), flush=True)
            outcomes.append(outcome)
    if options.record:
        old = options.record.read_text() if options.record.exists() else ""
        options.record.write_text(record(old, outcomes))
    if any(outcome.tally.counts["broken"] for outcome in outcomes):
        return 1
    return 3 if any(outcome.void for outcome in outcomes) else 0


def tell(line: str) -> None:
    """Show progress."""
    print(line, file=sys.stderr, flush=True)


def record(old: str, outcomes: list[Outcome]) -> str:
    """The text of RECORD.md: sections of the campaigns that ran, and the old ones of the others."""
    found = re.split(r"^## (\w+)\n", old, flags=re.MULTILINE)
    sections = dict(zip(found[1::2], found[2::2], strict=True))
    for outcome in outcomes:
        sections[outcome.campaign.name] = "\n".join(["", *section(outcome), ""])
    names = [campaign.name for campaign in CAMPAIGNS if campaign.name in sections]
    title = "# The last long runs of `python -m tests.torture`"
    return "\n\n".join([title, *(f"## {name}\n{sections[name].rstrip()}" for name in names)]) + "\n"


def section(outcome: Outcome) -> Iterator[str]:
    """What a campaign did, and how to do it again."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    command = f"{outcome.campaign.name} --cases {outcome.planned} --seed {outcome.seed}"
    yield f"- Run: `python -m tests.torture {command}`"
    yield f"- Commit: `{commit.stdout.strip()}`"
    yield f"- Broken promises: {outcome.tally.counts['broken']}"
    yield ""
    yield from outcome.lines()


if __name__ == "__main__":
    sys.exit(main())
