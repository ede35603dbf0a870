"""Many seeds, on all cores, and what came of them.

Exit codes: 0 nothing found, 1 a violation, 3 void (a kind of event that should have happened never
did) or undecided beyond one key in a thousand.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields
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
    "foreign_refused": 0.2,
    "old_copies_refused": 0.05,
    "unknown": 2.0,
}
"""Per seed, on average over many: a swarm with less than this has become idle."""

SEEDS_FOR_FLOORS = 200
"""Fewer seeds may be unlucky."""

KEYS_PER_RUN = 6
VIOLATION = 1
VOID = 3


def main(arguments: list[str]) -> int:
    """Run what the command line asks for."""
    options = _parse(arguments)
    setting = Setting(options.nodes, options.ops)
    if options.seed is not None:
        show = print if options.trace else None
        report = Run(options.seed, setting, show).run()
        print(f"trace {report.trace:08x}")
        reports: Iterable[Report] = [report]
    else:
        first, last = (int(part) for part in options.seeds.split(".."))
        reports = _run_all(range(first, last + 1), setting, options.jobs)
    return _summarise(reports, setting, time.monotonic())


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


def _summarise(reports: Iterable[Report], setting: Setting, began: float) -> int:
    total = Tally()
    runs = undecided = failed = 0
    virtual = 0.0
    for report in reports:
        runs += 1
        undecided += report.undecided
        virtual += report.seconds
        for part in fields(Tally):
            count = getattr(total, part.name) + getattr(report.tally, part.name)
            setattr(total, part.name, count)
        if report.violations:
            failed += 1
            print(f"seed {report.seed}: {report.plan}")
            print("\n".join(f"  {text}" for text in report.violations[:5]))
            print(f"  again: {replay(report.seed, setting)}")
    seconds = time.monotonic() - began
    print(
        f"{runs} seeds, {failed} with violations, {undecided} undecided keys; {virtual:.0f} "
        f"virtual seconds in {seconds:.1f} s, {runs / max(seconds, 0.001):.2f} seeds/s"
    )
    idle = _print_tally(total, runs)
    if failed:
        return VIOLATION
    return VOID if idle or undecided > runs * KEYS_PER_RUN / 1000 else 0


def _print_tally(total: Tally, runs: int) -> bool:
    """Print what happened and how much should have; True if something did not."""
    idle = False
    for part in fields(Tally):
        count, floor = getattr(total, part.name), FLOORS.get(part.name, 0.0) * runs
        is_idle = count < floor and runs >= SEEDS_FOR_FLOORS
        idle = idle or is_idle
        print(f"  {part.name:<15} {count:>8}  floor {floor:.0f}{'  TOO FEW' if is_idle else ''}")
    return idle


def replay(seed: int, setting: Setting) -> str:
    """The command that does the same run again."""
    return (
        f"python -m tests.sim --seed {seed} --nodes {setting.nodes} "
        f"--ops {setting.operations} --trace"
    )
