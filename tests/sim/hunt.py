"""`python -m tests.sim.hunt`: does the stock swarm find every planted bug, and how often?

Each bug runs under the same seeds as everybody else's campaign. Exit code 1 if one is not found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context

from tests.sim.bugs import BUGS
from tests.sim.run import Run, Setting

SENTENCE_CHARACTERS_MAX = 90


@dataclass(frozen=True, slots=True)
class Catch:
    """What became of one bug."""

    name: str
    found_in: int
    seeds: int
    first_seed: int
    words: str


def main(arguments: Sequence[str]) -> int:
    """Hunt all bugs, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.hunt", description=__doc__)
    parser.add_argument("names", nargs="*", help="bugs to hunt (all)")
    parser.add_argument("--seeds", type=int, default=20, help="at least so many each (20)")
    parser.add_argument("--seeds-max", type=int, default=400, help="give up after so many (400)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    options = parser.parse_args(arguments)
    known = [bug.name for bug in BUGS]
    if unknown := set(options.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    work = [(name, options.seeds, options.seeds_max) for name in options.names or known]
    missed = 0
    with get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for catch in pool.imap(hunt, work):
            missed += not catch.found_in
            found = f"{catch.found_in} of {catch.seeds} seeds"
            first = f"seed {catch.first_seed}: {catch.words}" if catch.found_in else "NOT FOUND"
            print(f"{catch.name:<26} {found:<18} {first}", flush=True)
    print(f"{len(work) - missed} of {len(work)} planted bugs found")
    return 1 if missed else 0


def hunt(work: tuple[str, int, int]) -> Catch:
    """Run seeds with one bug: so many as agreed, and then until it is found."""
    name, seeds_min, seeds_max = work
    bug = next(bug for bug in BUGS if bug.name == name)
    found = first = seeds = 0
    words = ""
    with bug.planted():
        while seeds < seeds_min or (not found and seeds < seeds_max):
            seeds += 1
            violations = Run(seeds, Setting()).run().violations
            if violations:
                found += 1
                if not words:
                    first, words = seeds, violations[0].splitlines()[0][:SENTENCE_CHARACTERS_MAX]
    return Catch(name, found, seeds, first, words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
