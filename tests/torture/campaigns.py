"""What the torture campaigns have in common: how they are cut into parts, run and judged."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from tests.torture import crash, fail, flip, truncate
from tests.torture.tally import Tally

PROGRESS_SECONDS = 10.0
PART_CASES = 250


@dataclass(frozen=True, slots=True)
class Campaign:
    """One kind of damage.

    Attributes:
        name: what it is called on the command line.
        plan: plan(cases, seed) tells which numbers `run` gets; all there are if cases is None.
        run: plays some of them. A module-level function: it is sent to other processes.
        floors: floors(cases) tells which counts are too low to prove anything.
        summary: figures and tables for a reader.
    """

    name: str
    plan: Callable[[int | None, int], range]
    run: Callable[[range], Tally]
    floors: Callable[[int], dict[str, int]]
    summary: Callable[[Tally], list[str]]


CAMPAIGNS = (
    Campaign("truncate", truncate.plan, truncate.run, truncate.floors, truncate.summary),
    Campaign("flip", flip.plan, flip.run, flip.floors, flip.summary),
    Campaign("crash", crash.plan, crash.run, crash.floors, crash.summary),
    Campaign("fail", fail.plan, fail.run, fail.floors, fail.summary),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a campaign.

    Attributes:
        cases: how many were played; fewer than planned if the run was interrupted.
        seconds: by the clock.
        void: reasons why the run proves nothing.
    """

    campaign: Campaign
    cases: int
    planned: int
    seed: int
    seconds: float
    tally: Tally
    void: list[str]

    def lines(self) -> Iterator[str]:
        """The figures; last the counts that no table and no measure of its own shows."""
        whole = "" if self.cases == self.planned else f" of {self.planned}, interrupted"
        yield f"{self.cases} cases{whole}, seed {self.seed}, {self.seconds:.0f} s"
        yield ""
        yield from self.campaign.summary(self.tally)
        yield ""
        counts = sorted(self.tally.counts.items())
        shown = [pair for pair in counts if not pair[0].startswith(("|", "most "))]
        yield "; ".join(f"{name} {count}" for name, count in shown)
        for reason in self.void:
            yield f"VOID: {reason}"
        for finding in self.tally.findings:
            yield f"BROKEN: {finding}"


def play(
    campaign: Campaign,
    cases: int | None,
    seed: int,
    *,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Run a campaign, on several processors if asked."""
    plan = campaign.plan(cases, seed)
    parts = [plan[at : at + PART_CASES] for at in range(0, len(plan), PART_CASES)]
    tally = Tally()
    began = told = time.monotonic()
    cases = 0
    with suppress(KeyboardInterrupt):
        for size, part in _played(campaign, parts, jobs):
            tally.merge(part)
            cases += size
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                broken = tally.counts["broken"]
                tell(f"{campaign.name}: {cases} of {len(plan)} cases, {broken} broken")
    seconds = time.monotonic() - began
    void = tally.short_of(campaign.floors(cases))
    return Outcome(campaign, cases, len(plan), seed, seconds, tally, void)


def _played(campaign: Campaign, parts: list[range], jobs: int) -> Iterator[tuple[int, Tally]]:
    """The parts' sizes and what they counted, in any order."""
    if jobs == 1:
        yield from ((len(part), campaign.run(part)) for part in parts)
        return
    with multiprocessing.get_context("fork").Pool(jobs, _leave_signals) as pool:
        yield from pool.imap_unordered(partial(_sized, campaign), parts)


def _sized(campaign: Campaign, part: range) -> tuple[int, Tally]:
    return len(part), campaign.run(part)


def _leave_signals() -> None:
    """Only the parent is interrupted, and ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
