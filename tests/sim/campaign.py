"""Many seeds, on all cores, and what came of them.

Exit codes: 0 nothing found, 1 a violation, 3 void (a kind of event that should have happened never
did) or undecided beyond one key in a thousand.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from multiprocessing import get_context

from tests.sim.machine import Tally
from tests.sim.run import Report, Run, Setting

FLOORS = {
    "elections": 2.0,
    "lost_sectors": 0.05,
    "installed": 0.05,
    "taken": 0.5,
    "repairs": 0.02,
    "recoveries": 0.1,
    "refused_starts": 0.02,
    "resent": 2.0,
    "grouped": 10.0,
    "foreign_refused": 0.2,
    "old_copies_refused": 0.05,
    "unknown": 2.0,
    "joined": 0.3,
    "promoted": 0.25,
    "removed": 0.2,
    "replaced": 0.05,
    "levels_raised": 0.03,
    "notes_lost": 0.05,
    "changes_refused": 0.3,
    "drained": 0.3,
}
"""Per seed, on average over many: a swarm with less than this has become idle."""

SEEDS_FOR_FLOORS = 200
"""Fewer seeds may be unlucky."""

SEEDS_PER_BLOCK = 1000
"""A campaign tells so often how it goes."""

KEYS_PER_RUN = 6
VIOLATION = 1
VOID = 3


def main(arguments: list[str]) -> int:
    """Run what the command line asks for."""
    options = _parse(arguments)
    setting, began = Setting(options.nodes, options.ops), time.monotonic()
    if options.seed is not None:
        show = print if options.trace else None
        report = Run(options.seed, setting, show).run()
        print(f"trace {report.trace:08x}")
        reports: Iterable[Report] = [report]
    else:
        first, last = (int(part) for part in options.seeds.split(".."))
        reports = _run_all(range(first, last + 1), setting, options.jobs)
    return _summarise(reports, setting, began)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="one run")
    which.add_argument("--seeds", help="runs A..B, both included")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--nodes", type=int, default=3, help="nodes (3)")
    parser.add_argument("--ops", type=int, default=500, help="operations of the clients (500)")
    parser.add_argument("--trace", action="store_true", help="with --seed: a line per event")
    return parser.parse_args(arguments)


def _run_one(work: tuple[int, Setting]) -> Report:
    seed, setting = work
    return Run(seed, setting).run()


def _run_all(seeds: range, setting: Setting, jobs: int) -> Iterator[Report]:
    work = [(seed, setting) for seed in seeds]
    if jobs == 1:
        yield from map(_run_one, work)
        return
    with get_context("spawn").Pool(jobs, maxtasksperchild=100) as pool:
        yield from pool.imap(_run_one, work)


@dataclass(slots=True)
class Summary:
    """What came of some seeds."""

    tally: Tally = field(default_factory=Tally)
    runs: int = 0
    failed: int = 0
    undecided: int = 0
    virtual_seconds: float = 0.0

    def add(self, report: Report) -> None:
        """One more."""
        self.runs += 1
        self.failed += bool(report.violations)
        self.undecided += report.undecided
        self.virtual_seconds += report.seconds
        for part in fields(Tally):
            count = getattr(self.tally, part.name) + getattr(report.tally, part.name)
            setattr(self.tally, part.name, count)

    def events(self) -> list[tuple[str, int, int]]:
        """(kind of event, how often it happened, how often it should have at least)."""
        return [
            (part.name, getattr(self.tally, part.name), round(FLOORS.get(part.name, 0) * self.runs))
            for part in fields(Tally)
        ]

    def is_void(self) -> bool:
        """Something did not happen, or too much was not decided."""
        is_idle = any(count < floor for _, count, floor in self.events())
        return (is_idle and self.runs >= SEEDS_FOR_FLOORS) or (
            self.undecided > self.runs * KEYS_PER_RUN / 1000
        )

    def __str__(self) -> str:
        return (
            f"{self.runs} seeds, {self.failed} with violations, {self.undecided} undecided keys; "
            f"{self.virtual_seconds:.0f} virtual seconds"
        )


def _summarise(reports: Iterable[Report], setting: Setting, began: float) -> int:
    total, block = Summary(), Summary()
    for report in reports:
        total.add(report)
        block.add(report)
        if report.violations:
            print(f"seed {report.seed}: {report.plan}")
            print("\n".join(f"  {text}" for text in report.violations[:5]))
            print(f"  again: {replay(report.seed, setting)}", flush=True)
        if block.runs == SEEDS_PER_BLOCK:
            print(_progress(report.seed, block), flush=True)
            block = Summary()
    seconds = time.monotonic() - began
    print(f"{total} in {seconds:.1f} s, {total.runs / max(seconds, 0.001):.2f} seeds/s")
    for name, count, floor in total.events():
        is_idle = count < floor and total.runs >= SEEDS_FOR_FLOORS
        print(f"  {name:<18} {count:>8}  floor {floor}{'  TOO FEW' if is_idle else ''}")
    if total.failed:
        return VIOLATION
    return VOID if total.is_void() else 0


def _progress(seed: int, block: Summary) -> str:
    """One line: what happened in the block that ends with this seed, and how much should have."""
    counts = ", ".join(
        f"{name} {count}/{floor}{' TOO FEW' * (count < floor)}" if floor else f"{name} {count}"
        for name, count, floor in block.events()
    )
    return f"to seed {seed}: {block}: {counts}"


def replay(seed: int, setting: Setting) -> str:
    """The command that does the same run again."""
    return (
        f"python -m tests.sim --seed {seed} --nodes {setting.nodes} "
        f"--ops {setting.operations} --trace"
    )
