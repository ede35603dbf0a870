"""What the node's time goes to: the costliest peers, commands and keys of the last minute.

An operator of a node that is slow asks who, what and where. A counter per key would cost memory
without end and every command its time, so the answer is an estimate:

* **Samples.** Of the commands of a name one of `COST_SAMPLE_COMMANDS` is counted, for all of them;
  its cost is told from its size (`estimate_ns`). What was seen to take long is measured, and always
  counted, on top: reads and commands of the front end of `COSTLY_READ_MS` or more, and the time of
  workers.
* **Sketches.** Each of the three questions has a *space-saving* sketch (Metwally, Agrawal,
  El Abbadi, "Efficient computation of frequent and top-k elements in data streams", 2005): so many
  counters; what has none takes the smallest over, with its count as the possible error. Whatever
  makes up more than 1/n of the whole is surely among n counters, and no count is too small.
* **Decay.** Counts fade with a mean life of a minute, so a count divided by it is a rate.

Told is what a count is at least (count less error): of keys that are all alike none stands out, and
none is named.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import exp
from typing import Generic, NamedTuple, TypeVar

from kvnode.limits import (
    COST_COUNTERS_KEYS_MAX,
    COST_KEY_CHARACTERS_MAX,
    COST_LIFE_SECONDS,
    COST_TOLD_KEYS_MAX,
)

Item = TypeVar("Item", bound=Hashable)

COMMAND_NS = 20_000
ARGUMENT_NS = 1_000
BYTES_NS = 2
"""Time of all threads for a command, an argument and a byte of it or of its reply: 40,000 SET a
second on two cores, HSETs of many fields, and values of a megabyte, give about these."""

SHARE_MIN = 0.001
"""Less of the whole is not worth telling."""

FORGOTTEN_NS = 1_000
"""A count that faded to less is given up."""


def estimate_ns(arguments: int, size: int) -> int:
    """Roughly the time that a command takes; `size` is that of its arguments and its reply."""
    return COMMAND_NS + arguments * ARGUMENT_NS + size * BYTES_NS


class Count(NamedTuple):
    """What a sketch knows of an item: it has cost between `least` and `most`."""

    least: float
    most: float


class Sketch(Generic[Item]):
    """The largest sums of a stream of (item, weight), in bounded memory.

    Args:
        size: how many counters.
    """

    __slots__ = ("_counts", "_errors", "_size", "total")

    def __init__(self, size: int) -> None:
        self._size = size
        self._counts: dict[Item, float] = {}
        self._errors: dict[Item, float] = {}
        self.total = 0.0
        """Of all weights, faded like the counts."""

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, item: Item, weight: float) -> None:
        """Count `weight` for `item`."""
        counts = self._counts
        self.total += weight
        if item in counts:
            counts[item] += weight
        elif len(counts) < self._size:
            counts[item] = weight
        else:
            smallest = min(counts, key=counts.__getitem__)
            error = counts.pop(smallest)
            self._errors.pop(smallest, None)
            counts[item] = error + weight
            self._errors[item] = error

    def fade(self, factor: float, forgotten: float) -> None:
        """Multiply all counts, and give those up that are smaller than `forgotten` then."""
        self.total *= factor
        self._counts = {
            item: count * factor
            for item, count in self._counts.items()
            if count * factor >= forgotten
        }
        self._errors = {
            item: error * factor for item, error in self._errors.items() if item in self._counts
        }

    def top(self, number: int) -> list[tuple[Item, Count]]:
        """The items that cost most for sure, the largest first."""
        counts = [
            (item, Count(count - self._errors.get(item, 0.0), count))
            for item, count in self._counts.items()
        ]
        counts.sort(key=lambda each: each[1], reverse=True)
        return counts[:number]


Line = dict[str, str | float]
"""Of a report: the name of an item, its rate and its share."""


class Costs:
    """The three sketches, fed with nanoseconds.

    Args:
        clock: monotonic time in seconds.
    """

    __slots__ = ("_clock", "_faded_at", "commands", "keys", "peers")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._faded_at = clock()
        self.peers: Sketch[str] = Sketch(COST_COUNTERS_KEYS_MAX)
        self.commands: Sketch[str] = Sketch(COST_COUNTERS_KEYS_MAX)
        self.keys: Sketch[tuple[int, bytes]] = Sketch(COST_COUNTERS_KEYS_MAX)

    def add(self, peer: str, command: str, db: int, key: bytes | None, nanoseconds: float) -> None:
        """Count what a command cost. Only the beginning of a key is kept."""
        self.peers.add(peer, nanoseconds)
        self.commands.add(command, nanoseconds)
        if key is not None:
            # One byte more than is told shows that something is missing.
            self.keys.add((db, key[: COST_KEY_CHARACTERS_MAX + 1]), nanoseconds)

    def fade(self) -> None:
        """Time has passed; called as often as one likes."""
        now = self._clock()
        if now < self._faded_at + 1:
            return
        factor = exp((self._faded_at - now) / COST_LIFE_SECONDS)
        self._faded_at = now
        for sketch in (self.peers, self.commands, self.keys):
            sketch.fade(factor, FORGOTTEN_NS)

    def report(self) -> dict[str, list[Line]]:
        """The costliest, for people: milliseconds of each second, and the share of the whole."""
        whole = self.peers.total
        return {
            "peers": _lines("peer", self.peers, whole, str),
            "commands": _lines("command", self.commands, whole, str),
            "keys": _lines("key", self.keys, whole, printable_key),
        }


def _lines(
    kind: str, sketch: Sketch[Item], whole: float, write: Callable[[Item], str]
) -> list[Line]:
    return [
        {
            kind: write(item),
            "ms_per_second": round(count.least / COST_LIFE_SECONDS / 1e6, 3),
            "share": round(count.least / whole, 3),
        }
        for item, count in sketch.top(COST_TOLD_KEYS_MAX)
        if count.least >= whole * SHARE_MIN
    ]


def printable_key(place: tuple[int, bytes]) -> str:
    """A database and a key as one printable word: `0:user:17`; other bytes as `\\xNN`."""
    db, key = place
    shown = "".join(
        [
            chr(byte) if 32 < byte < 127 and byte != 92 else f"\\x{byte:02x}"
            for byte in key[:COST_KEY_CHARACTERS_MAX]
        ]
    )
    return f"{db}:{shown}{'…' if len(key) > COST_KEY_CHARACTERS_MAX else ''}"
