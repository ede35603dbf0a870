"""Power losses: any subset of what was not synced is there afterwards, in any order.

A case is a few lives of one log. Each opens it, does random things until the power goes, perhaps
loses power again while it recovers, and must find all that was acknowledged. Three kinds of disk:

* honest: a lost sector keeps its old bytes or reads as zeros. The log is never refused.
* noisy: a lost sector may hold anything. Noise in a record is not to be told from rot, so that a
  refusal is right; these are counted.
* lying: some syncs return without having synced. What a surviving witness (a later record, a later
  segment, a state file) says was durable is there, or the log is refused. What no witness speaks of
  may be gone: counted, too.

In half of the cases whoever opens the log answers a loss with `RECOVER`, as a node of a cluster
does: whatever is cut then, the recovering flag is set, however often the power goes meanwhile; and
only while it is set the log may end below its floors.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

from tests.support.disk import MemoryDisk, Power, StormyDisk
from tests.torture.history import Broken, History, Script
from tests.torture.oracle import floor_of, witnessed
from tests.torture.tally import Tally
from tests.unit.wal.wal_harness import Model, open_log
from wal import Corruption, Decision, DiskFailed, Loss, Options, Unrepairable, Wal

KINDS = ("honest", "honest", "noisy", "lying")
LIVES_MAX = 4
STEPS = 40
CALLS_MAX = 80
"""The power goes within so many calls."""
OPTIONS = (Options(segment_bytes=4096), Options(segment_bytes=8192, sector_bytes=1024))
CASES = 100_000
"""What the long form plays."""


def plan(cases: int | None, seed: int) -> range:
    """Each case has a seed of its own."""
    return range(seed, seed + (CASES if cases is None else cases))


def floors(cases: int) -> dict[str, int]:
    """Counts below these mean that hardly anything happened."""
    return {
        "repaired": cases // 20,
        "crashes with un-synced sectors": cases,
        "crashes during recovery": cases // 3,
        "sectors lost: zeros": cases // 3,
        "sectors lost: noise": cases // 20,
        "noisy: refused": cases // 200,
        "lying: refused": cases // 50,
        "lying: syncs": cases // 5,
        "recovering": cases // 50,
        "recovering below a floor": cases // 2000,
    }


def run(seeds: range) -> Tally:
    """Play the cases of these seeds."""
    tally = Tally()
    for seed in seeds:
        case = Case(seed, tally)
        try:
            case.play()
        except Exception as error:  # noqa: BLE001 - anything else is a finding as well
            tally.broken(f"crash --seed {seed} --cases 1 ({case.kind}): {error!r}")
        tally.add("cases")
        case.count()
    return tally


def summary(tally: Tally) -> list[str]:
    """The shares that a reader wants."""
    counts = tally.counts
    lines = []
    for kind in sorted(set(KINDS)):
        opens = counts[f"{kind}: opened"] + counts[f"{kind}: refused"]
        share = counts[f"{kind}: refused"] / max(opens, 1)
        lines.append(f"- {kind} disks: {opens} recoveries, {share:.2%} refused")
    gone = counts["lying: acknowledged records gone, no witness left"]
    lines.append(
        f"- lying disks: {gone} acknowledged records gone that no witness spoke of any more"
    )
    return lines


class Case:
    """The lives of one log."""

    def __init__(self, seed: int, tally: Tally) -> None:
        self.random = random = Random(seed)
        self.seed = seed
        self.tally = tally
        self.kind = random.choice(KINDS)
        self.options = random.choice(OPTIONS)
        self.disk = StormyDisk(
            Power(
                kept=random.choice((0.1, 0.5, 0.9)),
                lost=("old", "zeros", "noise") if self.kind == "noisy" else ("old", "zeros"),
                any_order=random.random() < 0.5,
                any_length=random.random() < 0.5,
                any_names=random.random() < 0.5,
            ),
            Random(seed + 1),
        )
        self.disk.short_writes = random.choice((0, 0, 0, 700))
        self.history = History(self.options)
        self.script = Script(random, self.history, self.disk)
        self.clustered = random.random() < 0.5
        self.opens = 0
        self.least = 0
        self.asked = False
        self.written: dict[Path, bytes] = {}

    def play(self) -> None:
        """All lives, until one is refused."""
        for _ in range(self.random.randint(1, LIVES_MAX)):
            self.live()
            self.tally.add("crashes")
            if not self.recover():
                break

    def live(self) -> None:
        """Open the log and use it until the power goes."""
        disk = self.disk
        if self.kind == "lying":
            disk.lying = self.random.choice((0.02, 0.2, 1.0))
        disk.fail_at = len(disk.calls) + self.random.randint(1, CALLS_MAX)
        disk.failing = True
        with suppress(DiskFailed):
            self.script.run(self.open()[0], STEPS)
        self.written = disk.image()
        self.crash()
        if self.clustered:
            # What must end in recovering: a copy of the disk tells, and stays as it is.
            copy = MemoryDisk.from_image(disk.image())
            with suppress(Corruption, DiskFailed):
                open_log(copy, self.options, on_loss=self.refuse)

    def crash(self) -> None:
        """The power goes; find out what must be there all the same."""
        disk, history = self.disk, self.history
        unsynced = any(data for inode in disk.names.values() for _, data in inode.pending)
        self.tally.add("crashes with un-synced sectors", unsynced)
        disk.crash(self.random)
        least = history.acknowledged
        if self.kind == "lying":
            image = disk.image()
            witness = witnessed(history, self.written, image)
            floor = floor_of(image)
            least = history.count_upto(witness if self.clustered else max(witness, floor))
        self.least = max(self.least, least)

    def recover(self) -> bool:
        """Open after a crash, with more crashes meanwhile; False if the log is refused."""
        disk, tally = self.disk, self.tally
        before: dict[Path, bytes] = {}
        try:
            while self.random.random() < 0.3:
                before = disk.image()
                disk.fail_at = len(disk.calls) + self.random.randint(1, 14)
                disk.failing = True
                with suppress(DiskFailed):
                    self.open()
                tally.add("crashes during recovery")
                self.crash()
            disk.lying = 0.0
            before = disk.image()
            wal, found = self.open()
        except Corruption as refusal:
            if self.kind == "honest":
                raise Broken(f"refused: {refusal}") from refusal
            if disk.image() != before and not isinstance(refusal, Unrepairable):
                raise Broken(f"refused, but something was changed: {refusal}") from refusal
            tally.add(f"{self.kind}: refused")
            return False
        tally.add(f"{self.kind}: opened")
        tally.add("repaired", wal.last_repair is not None)
        self.settle(wal, found)
        return True

    def settle(self, wal: Wal, found: Model) -> None:
        """Check what was found, and go on from there."""
        history, state = self.history, wal.state
        count = history.check(wal, found, self.least)
        below = wal.synced < state.synced or wal.last_index < state.commit
        if not state.recovering and (below or self.asked):
            raise Broken(f"ends at {wal.synced}, below {state}, and is not recovering")
        self.tally.add("recovering", state.recovering)
        self.tally.add("recovering below a floor", below)
        if self.asked:
            history.states += [asked._replace(recovering=True) for asked in history.states]
        if count < history.acknowledged:
            self.tally.add(
                "lying: acknowledged records gone, no witness left", history.acknowledged - count
            )
        if self.kind != "lying":
            history.check_state(state)
        history.settle(wal, count)
        self.least = 0
        self.asked = False
        if wal.first_index > wal.snapshot_index + 1:
            # The node marks its snapshot anew, before anything else.
            index = max(wal.last_index, history.releasable, state.commit, 1)
            self.script.write(wal, [("install", index, b"marked anew")])
            self.tally.add("marked anew")
        # What the disk holds now was synced while opening; a lying disk may still lose it.
        self.disk.settle()

    def open(self) -> tuple[Wal, Model]:
        """Open; every segment that is made gets another salt."""
        self.opens += 1
        seed = self.seed * 1000 + self.opens
        if self.clustered:
            return open_log(self.disk, self.options, seed=seed, on_loss=self.recovering)
        return open_log(self.disk, self.options, seed=seed)

    def recovering(self, loss: Loss) -> Decision:
        """What a node of a cluster decides."""
        self.asked = True
        return Decision.RECOVER

    def refuse(self, loss: Loss) -> Decision:
        """Only look."""
        self.asked = True
        raise Corruption(loss.describe(), loss.path)

    def count(self) -> None:
        """Add up what the disk did."""
        for what, sectors in self.disk.sectors.items():
            self.tally.add(f"sectors lost: {what}" if what != "kept" else "sectors kept", sectors)
        self.tally.add("lying: syncs", self.disk.lies)
