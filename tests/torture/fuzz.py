"""`python -m tests.torture.fuzz`: spoilt bytes for everything that decodes the log.

Mutated segments go through `decode_segment_header` and `scan`, mutated sectors through
`decode_state`. Nothing may raise, and what is accepted must have been written:

* each record that the scan accepts has a header whose crc, magic, salt and own offset are right, a
  payload that fits the chain and a whole pad; all of this is read here once more, on its own;
* records lie one behind the other, and the log ends behind the last;
* it is never cut below its witness, and *clean* means that nothing but zeros follows;
* of every thousand inputs one is read twice (same answer), with all Python allocations traced and
  all calls counted: both are bounded by a multiple of the input's size. Steps are counted, not
  timed: a busy machine is no failure.

Inputs come in blocks; a failure names its block, and `--block` runs that alone. Exit code 0:
nothing found; 1: a failure; 3: too few inputs reached one of the verdicts.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from struct import Struct
from typing import Any

from tests.torture.mutate import Base, make_base, mutate, mutate_state
from wal.crc import BACKEND, extend
from wal.format import RecordHeader, SegmentHeader, decode_segment_header
from wal.scan import Scan, Verdict, scan
from wal.state import StateCopy, decode_state, encode_state

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK_INPUTS = 1000
"""Inputs per block; the first of each is measured."""
STATE_EVERY = 8
"""One input in so many is a state sector."""
POOL = 40
"""Base segments per block of blocks: made anew so often that their shapes vary."""
POOL_BLOCKS = 25

CALLS_PER_BYTE, CALLS_MIN = 4.0, 100
MEMORY_PER_BYTE, MEMORY_MIN_BYTES = 8.0, 8 * 1024
"""The bounds of one input: a multiple of its size, and what even an empty one may cost.

Four calls per byte is what a salt of zero costs in a file of zeros (no writer makes one): a header
is looked for at every byte.
"""

VERDICT_SHARE_MIN = 0.001
"""A run in which some verdict is rarer than this proves nothing about it."""

STUCK_SECONDS = 600.0
"""A block takes well under a second; after this long without any the run is given up."""

_RECORD = Struct("<IIIIQIIIIQ")
_MAGIC = 0x5AC3_96E7


class Wrong(Exception):
    """A rule is broken."""


@dataclass(slots=True)
class Tally:
    """What a run of inputs came to.

    Attributes:
        verdicts: (first mutation, verdict), where "no header" and "raised" count as verdicts.
        states: decoded or not.
        records: accepted and checked.
        calls_per_byte: the most that was measured beyond the allowance of an empty input.
        memory_per_byte: as above, of the peak.
        failures: where, and what.
    """

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    records: int = 0
    measured: int = 0
    calls_per_byte: float = 0.0
    memory_per_byte: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take over the figures of another run."""
        self.verdicts += other.verdicts
        self.states += other.states
        self.records += other.records
        self.measured += other.measured
        self.calls_per_byte = max(self.calls_per_byte, other.calls_per_byte)
        self.memory_per_byte = max(self.memory_per_byte, other.memory_per_byte)
        self.failures += other.failures

    @property
    def inputs(self) -> int:
        """How many there were."""
        return self.verdicts.total() + self.states.total()

    def rare(self) -> list[str]:
        """Verdicts that were too rare to prove anything."""
        seen: Counter[str] = Counter()
        for (_, verdict), count in self.verdicts.items():
            seen[verdict] += count
        needed = VERDICT_SHARE_MIN * self.verdicts.total()
        return [verdict.value for verdict in Verdict if seen[verdict.value] < needed]


def read(data: bytes, base: Base) -> tuple[SegmentHeader, Scan | None]:
    """Decode a segment as the log does; without a readable header, scan it with the good one too.

    Returns:
        The header that was used, and the scan; None if no header could be read and the bytes
        were scanned with the base's, to no other end than that nothing is raised.
    """
    header = decode_segment_header(data)
    known = base.header if header is None else header
    found = scan(data, known, chain=known.previous_chain, last_index=known.first_index - 1)
    check(data, known, found)
    return known, None if header is None else found


def check(data: bytes, header: SegmentHeader, found: Scan) -> None:
    """Hold a scan against the bytes. Raises `Wrong`."""
    expect(isinstance(found.verdict, Verdict), f"verdict {found.verdict!r}")
    end, chain = header.sector_bytes, header.previous_chain
    for record in found.records:
        end, chain = check_record(data, header, record, end, chain)
    expect(found.end == end, f"the log ends at {found.end}, its last record at {end}")
    expect(found.chain == chain, "another chain value than that of the last record")
    expect(not found.records or end <= len(data), f"end {end} in a file of {len(data)} bytes")
    expect((found.damage is None) == (found.verdict is Verdict.CLEAN), "damage without need")
    if found.verdict is not Verdict.CORRUPT:
        expect(found.witness <= end, f"cut at {end}, below the witness {found.witness}")
    if found.verdict is Verdict.CLEAN:
        expect(not any(data[end:]), "clean, but something follows")
        expect(len(data) == header.segment_bytes, "clean, but not of full size")


def check_record(
    data: bytes, header: SegmentHeader, record: RecordHeader, end: int, chain: int
) -> tuple[int, int]:
    """Read an accepted record once more; return where it ends and the chain value there."""
    at = record.offset
    expect(at >= end and not any(data[end:at]), f"record at {at}, the one before ends at {end}")
    raw = data[at : at + 48]
    expect(len(raw) == 48, f"record at {at}: no room for its header")
    crc, magic, kind, length, index, _, stored, own, _, salt = _RECORD.unpack(raw)
    expect(crc == extend(0, raw[4:]), f"record at {at}: header crc does not match")
    expect((magic, own, salt) == (_MAGIC, at, header.salt), f"record at {at}: not written here")
    expect((kind, length, index) == record[:3], f"record at {at}: fields differ")
    payload = data[at + 48 : at + 48 + length]
    expect(stored == extend(chain, payload), f"record at {at}: payload crc does not match")
    behind = at + 48 + length + 8 - length % 8
    expect(data[at + 48 + length : behind] == b"\xa5" * (8 - length % 8), f"record at {at}: pad")
    return behind, stored


def check_state(data: bytes, copy: StateCopy | None) -> None:
    """Hold a decoded state against its bytes. Raises `Wrong`."""
    if copy is None:
        return
    (crc,) = Struct("<I").unpack_from(data, 88)
    expect(crc == extend(0, data[:88]), "state crc does not match")
    if copy.version == 1 and data[12:16] in (bytes(4), b"\1\0\0\0"):
        again = encode_state(copy.state, copy.identity, copy.generation)
        expect(again == data[:512], "a state that does not encode to its bytes")


def expect(holds: object, text: str) -> None:
    """Raise `Wrong` with the text unless it holds."""
    if not holds:
        raise Wrong(text)


# --- one input ------------------------------------------------------------------------------------


def measured(tally: Tally, data: bytes, base: Base) -> None:
    """Read one input twice, with its calls counted and its memory traced."""
    header = decode_segment_header(data) or base.header
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def once() -> Scan:
        return scan(data, header, chain=header.previous_chain, last_index=header.first_index - 1)

    sys.setprofile(count)
    try:
        first = once()
    finally:
        sys.setprofile(None)
    tracemalloc.start()
    try:
        second = once()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    expect(first == second, "two readings differ")
    size = max(len(data), 1)
    tally.measured += 1
    tally.calls_per_byte = max(tally.calls_per_byte, (calls - CALLS_MIN) / size)
    tally.memory_per_byte = max(tally.memory_per_byte, (peak - MEMORY_MIN_BYTES) / size)
    expect(calls <= CALLS_MIN + CALLS_PER_BYTE * size, f"{calls} calls for {size} bytes")
    expect(peak <= MEMORY_MIN_BYTES + MEMORY_PER_BYTE * size, f"{peak} bytes for {size}")


def one_segment(random: Random, pool: list[Base], tally: Tally, *, measure: bool) -> None:
    """Spoil one segment and read it."""
    base = random.choice(pool)
    data, mutation = mutate(random, base, pool)
    try:
        _, found = read(data, base)
        if measure:
            measured(tally, data, base)
    except BaseException:
        tally.verdicts[mutation, "raised"] += 1
        raise
    if found is None:
        tally.verdicts[mutation, "no header"] += 1
    else:
        tally.verdicts[mutation, found.verdict.value] += 1
        tally.records += len(found.records)


def one_state(random: Random, tally: Tally) -> None:
    """Spoil one state sector and read it."""
    data = mutate_state(random)
    copy = decode_state(data)
    check_state(data, copy)
    tally.states["refused" if copy is None else "read"] += 1


# --- many inputs ----------------------------------------------------------------------------------


def pool_of(seed: int, block: int) -> list[Base]:
    """The base segments of a block."""
    random = Random(f"{seed} pool {block // POOL_BLOCKS}")
    return [make_base(random) for _ in range(POOL)]


def run_block(seed: int, block: int, inputs: int = BLOCK_INPUTS) -> Tally:
    """Try one block of inputs."""
    random, pool, tally = Random(f"{seed} block {block}"), pool_of(seed, block), Tally()
    for number in range(inputs):
        try:
            if number % STATE_EVERY == STATE_EVERY - 1:
                one_state(random, tally)
            else:
                one_segment(random, pool, tally, measure=number == 0)
        except Exception as error:  # noqa: BLE001  # any exception is what we look for
            tally.failures.append(f"seed {seed} block {block} input {number}: {error!r}")
            break
    return tally


def _run_block(job: tuple[int, int]) -> Tally:
    return run_block(*job)


def run(seed: int, blocks: Iterable[int], jobs: int) -> Iterator[Tally]:
    """Try blocks in several processes; one tally per block, in any order."""
    work = ((seed, block) for block in blocks)
    if jobs == 1:
        yield from map(_run_block, work)
        return
    # Fresh interpreters: nothing of this process is part of what is measured.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        tallies: Any = pool.imap_unordered(_run_block, work)
        while True:
            try:
                yield tallies.next(STUCK_SECONDS)
            except StopIteration:
                return


# --- the command ----------------------------------------------------------------------------------


def table(tally: Tally) -> list[str]:
    """Verdicts by mutation, as lines of Markdown."""
    columns = [*(verdict.value for verdict in Verdict), "no header"]
    lines = [f"| First mutation | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for mutation in sorted({mutation for mutation, _ in tally.verdicts}):
        counts = [f"{tally.verdicts[mutation, column]:,}" for column in columns]
        lines.append(f"| {mutation} | {' | '.join(counts)} |")
    return lines


def report(tally: Tally, command: str, seed: int, seconds: float) -> str:
    """The record of a run."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=REPOSITORY, capture_output=True, check=False
    )
    work = (
        f"at most {CALLS_MIN} calls and {tally.calls_per_byte:.2f} per byte (bound "
        f"{CALLS_PER_BYTE}), {MEMORY_MIN_BYTES // 1024} KiB and {tally.memory_per_byte:.2f} bytes "
        f"per byte (bound {MEMORY_PER_BYTE})"
    )
    lines = [
        "# The last long run of the fuzzer",
        "",
        f"- Run: `{command}`",
        f"- Commit: `{commit.stdout.decode().strip() or 'unknown'}`",
        f"- Seed: {seed}",
        f"- Inputs: {tally.inputs:,} in {seconds:.0f} s ({BACKEND})",
        f"- Failures: {len(tally.failures)}",
        f"- Records accepted, each read once more on its own: {tally.records:,}",
        f"- States: {tally.states['read']:,} read, {tally.states['refused']:,} refused",
        f"- Measured: {tally.measured:,} inputs, read twice; {work}",
        "",
        "Up to three mutations per input; it is counted under the first.",
        "",
        *table(tally),
    ]
    return "\n".join(lines) + "\n"


def progress(began: float, tally: Tally, told: float) -> float:
    """Say every half minute how far the run is; return when that was last."""
    now = time.monotonic()
    if now - told < 30:
        return told
    print(f"{tally.inputs:,} inputs in {now - began:.0f} s", file=sys.stderr, flush=True)
    return now


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so long")
    parser.add_argument("--block", type=int, help="try this block alone")
    parser.add_argument("--record", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    blocks = range(-(-arguments.inputs // BLOCK_INPUTS))
    if arguments.block is not None:
        blocks = range(arguments.block, arguments.block + 1)
    began = told = time.monotonic()
    tally = Tally()
    for part in run(arguments.seed, blocks, min(arguments.jobs, len(blocks))):
        tally.add(part)
        for failure in part.failures:
            print(failure, flush=True)
        told = progress(began, tally, told)
        if time.monotonic() - began > arguments.seconds:
            break
    command = f"python -m tests.torture.fuzz --inputs {arguments.inputs} --seed {arguments.seed}"
    text = report(tally, command, arguments.seed, time.monotonic() - began)
    print(text)
    if tally.failures:
        return 1
    if arguments.record is not None:
        arguments.record.write_text(text)
    return 3 if arguments.block is None and tally.rare() else 0


if __name__ == "__main__":
    sys.exit(main())
