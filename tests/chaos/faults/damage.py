"""Damage to the files of a node that is down: what a bad disk, or a bad day, does to them.

Only bytes that the node had told somebody about are touched: what is below the position that its
state files call durable. So nothing here may be taken for a torn tail.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from wal.format import parse_segment_name
from wal.state import State, decode_state

SECTOR_BYTES = 512
SEGMENT_HEADER_BYTES = 512
PADDING = frozenset((0x00, 0xA5))
"""Bytes that fill gaps: nobody misses them."""
STATE_FILES = ("state-a", "state-b")


class NothingToDamage(Exception):
    """The files hold nothing of that kind yet."""


def state_of(data: Path) -> State:
    """What the newer of the state files says.

    Raises:
        NothingToDamage: there is none that can be read.
    """
    copies = [decode_state(path.read_bytes()) for path in _present(data, STATE_FILES)]
    good = [copy for copy in copies if copy is not None]
    if not good:
        raise NothingToDamage("no state file")
    return max(good, key=lambda copy: copy.generation).state


def closed_segments(data: Path) -> list[Path]:
    """Segments of the log behind which there is another that has records; the oldest first."""
    state = state_of(data)
    return [
        path for sequence, path in segments(data) if state.oldest <= sequence < state.synced.segment
    ]


def segments(data: Path) -> list[tuple[int, Path]]:
    """Segments of the log with their sequence numbers."""
    named = ((parse_segment_name(path.name), path) for path in (data / "wal").iterdir())
    return sorted((name[0], path) for name, path in named if name is not None)


def flip(path: Path, rng: random.Random, start: int = 0, end: int | None = None) -> str:
    """Flip one bit of a byte that means something; what was done.

    Raises:
        NothingToDamage: there is no such byte between `start` and `end`.
    """
    content = bytearray(path.read_bytes())
    places = [at for at in range(start, end or len(content)) if content[at] not in PADDING]
    if not places:
        raise NothingToDamage(f"{path.name} is empty there")
    at = rng.choice(places)
    content[at] ^= 1 << rng.randrange(8)
    _put(path, bytes(content))
    return f"a bit of {path.name} flipped at {at}"


def truncate(path: Path, rng: random.Random) -> str:
    """Cut a file off somewhere behind its first sector; what was done."""
    size = path.stat().st_size
    if size <= SECTOR_BYTES:
        raise NothingToDamage(f"{path.name} is short")
    keep = rng.randrange(SECTOR_BYTES, size)
    with path.open("r+b") as file:
        file.truncate(keep)
    return f"{path.name} cut from {size} to {keep} bytes"


def zero_sector(path: Path, rng: random.Random, start: int = 0, end: int | None = None) -> str:
    """Fill a sector with zeros that were not there; what was done.

    Raises:
        NothingToDamage: there is no such sector that begins between `start` and `end`.
    """
    content = bytearray(path.read_bytes())
    places = [
        at
        for at in range(start, end or len(content), SECTOR_BYTES)
        if any(content[at : at + SECTOR_BYTES])
    ]
    if not places:
        raise NothingToDamage(f"{path.name} is empty there")
    at = rng.choice(places)
    content[at : at + SECTOR_BYTES] = bytes(len(content[at : at + SECTOR_BYTES]))
    _put(path, bytes(content))
    return f"a sector of {path.name} zeroed at {at}"


def spoil_closed_segment(data: Path, rng: random.Random) -> str:
    """A bit, a sector or the end of a segment that is closed."""
    closed = closed_segments(data)
    if not closed:
        raise NothingToDamage("no segment is closed yet")
    spoil = rng.choice([flip, zero_sector, truncate])
    return spoil(rng.choice(closed), rng)


def spoil_below_witness(data: Path, rng: random.Random) -> str:
    """A bit or a sector of the open segment, below the position that is known to be durable."""
    synced = state_of(data).synced
    path = dict(segments(data)).get(synced.segment)
    if path is None or synced.offset <= SEGMENT_HEADER_BYTES:
        raise NothingToDamage("the open segment has no record")
    return rng.choice([flip, zero_sector])(path, rng, SEGMENT_HEADER_BYTES, synced.offset)


def cut_below_witness(data: Path, rng: random.Random) -> str:
    """The end of the open segment is lost, and with it what was known to be durable."""
    synced = state_of(data).synced
    path = dict(segments(data)).get(synced.segment)
    if path is None or synced.offset <= 2 * SEGMENT_HEADER_BYTES:
        raise NothingToDamage("the open segment has no record")
    keep = rng.randrange(SEGMENT_HEADER_BYTES, synced.offset)
    with path.open("r+b") as file:
        file.truncate(keep)
    return f"{path.name} cut at {keep}, durable up to {synced.offset}"


def spoil_snapshot(data: Path, rng: random.Random) -> str:
    """The newest of two snapshots; and the engine goes, so that somebody has to read it."""
    files = sorted((data / "snap").glob("*.snap"), key=lambda path: path.name)
    if len(files) < 2:
        raise NothingToDamage("there are no two snapshots")
    done = rng.choice([flip, zero_sector, truncate])(files[-1], rng)
    shutil.rmtree(data / "engine", ignore_errors=True)
    return done


def spoil_state_file(data: Path, rng: random.Random) -> str:
    """One of the two."""
    path = rng.choice(_present(data, STATE_FILES))
    return rng.choice([flip, zero_sector])(path, rng)


def spoil_both_state_files(data: Path, rng: random.Random) -> str:
    """Both: term and vote are lost."""
    return " and ".join(flip(path, rng) for path in _present(data, STATE_FILES))


def _present(data: Path, names: tuple[str, ...]) -> list[Path]:
    return [data / name for name in names if (data / name).exists()]


def _put(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)
