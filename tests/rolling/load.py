"""Sixteen ordinary clients, spread over the nodes, which keep a roll honest.

Each is a `redis.Redis` as redis-py makes it: its own retries, its own timeouts, a connection pool.
A client stays with its node, whatever becomes of that, and calls again and again, with a short
pause between. It notes when each call began and ended and what it was told, and it checks at once
what it can know by itself:

- INCR on a counter of its own: the answer is one more than the last one. Less: an acknowledged one
  was lost. More than what calls that failed explain: one was counted twice.
- APPEND of something unique to a list of its own: the answer is the length that it must have now.
- SET of a value under a new key; every one is read back after the roll.
- GET of what a client of another node has just set: it must be there, as reads are linearizable.

After a roll the clients pause (`Load.pause`), and `Load.read_back` asks the nodes for everything.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import redis

from tests.support.docker import CLIENT_PORT, PASSWORD

CLIENTS = 16
THINK_SECONDS = 0.02
"""About what a client does between two calls."""
APPENDS_PER_KEY = 500
PART_BYTES = 10
SEPARATOR = b";"
READ_BACK_KEYS = 500
PAUSE_SECONDS_MAX = 60.0
"""Longer than a call takes with all its retries."""


Work = Callable[[], tuple[int, int]]


class Call(NamedTuple):
    """One call of one client; times are the wall clock's, in seconds.

    Attributes:
        error: why it failed; "" if it was answered.
        lost: acknowledged operations that its answer showed to be gone.
        twice: operations that its answer showed to be done twice.
    """

    node: str
    what: str
    begun: float
    ended: float
    error: str = ""
    lost: int = 0
    twice: int = 0

    @property
    def seconds(self) -> float:
        """How long the client waited."""
        return self.ended - self.begun


class Setting(NamedTuple):
    """What a client has set last."""

    key: str
    value: bytes


class Tally:
    """What a number must be that one client alone makes grow, by the same step each time."""

    def __init__(self, step: int) -> None:
        self._step = step
        self.known, self.in_doubt = 0, 0

    def asks(self) -> None:
        """Another step is asked for; until the answer is there nobody knows whether it is done."""
        self.in_doubt += 1

    def answered(self, number: int) -> tuple[int, int]:
        """The number after the step; returns how many steps are lost, and how many are too many."""
        least = self.known + self._step
        most = self.known + self._step * self.in_doubt
        self.known, self.in_doubt = number, 0
        return max(least - number, 0) // self._step, max(number - most, 0) // self._step

    def found(self, number: int) -> tuple[int, int]:
        """The same when the number was only read."""
        most = self.known + self._step * self.in_doubt
        return max(self.known - number, 0) // self._step, max(number - most, 0) // self._step


@dataclass
class Parts:
    """What one client has appended to a string: in it once if it was told so, else at most once."""

    done: list[bytes] = field(default_factory=list)
    in_doubt: list[bytes] = field(default_factory=list)

    def found(self, content: bytes) -> tuple[int, int]:
        """Returns how many appended parts are lost, and how many are there too often."""
        there = Counter(content.split(SEPARATOR)[:-1])
        lost = sum(part not in there for part in self.done)
        known = {*self.done, *self.in_doubt}
        twice = sum(count - (part in known) for part, count in there.items())
        return lost, twice


class Client(threading.Thread):
    """One client at one node.

    Attributes:
        acknowledged: what it has set, by key.
        count: of its counter.
        lists: what it has appended, by key.
        newest: the last of that, for others to read.
        calls: what came of its calls since somebody took them.
    """

    def __init__(self, load: Load, number: int, node: str, address: str) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self.number, self.node = number, node
        self.redis = redis.Redis(host=address, port=CLIENT_PORT, password=PASSWORD)
        self.acknowledged: dict[str, bytes] = {}
        self.newest: Setting | None = None
        self.calls: list[Call] = []
        self.is_idle = threading.Event()
        self._load = load
        self._random = random.Random(load.seed * CLIENTS + number)
        self._made = 0
        self.count = Tally(1)
        self.lists: dict[str, Parts] = {}
        self._length = Tally(PART_BYTES)

    def run(self) -> None:
        """Call until the load ends."""
        works = [self._set, self._increment, self._append, self._read]
        while not self._load.is_over.is_set():
            if not self._load.may_call.is_set():
                self.is_idle.set()
                self._load.may_call.wait(0.1)
                continue
            self.is_idle.clear()
            self._note(self._random.choice(works))
            time.sleep(self._random.uniform(0, 2 * THINK_SECONDS))
        self.redis.close()

    def _note(self, work: Work) -> None:
        begun = time.time()
        error, lost, twice = "", 0, 0
        try:
            lost, twice = work()
        except (redis.RedisError, OSError) as why:
            error = f"{type(why).__name__}: {why}"
        what = work.__name__.lstrip("_")
        self.calls.append(Call(self.node, what, begun, time.time(), error, lost, twice))

    # Each returns how many acknowledged operations it found lost, and how many done twice.

    def _set(self) -> tuple[int, int]:
        self._made += 1
        key = f"set:{self.number}:{self._made}"
        value = f"{key}:{self._random.getrandbits(64):x}".encode()
        self.redis.set(key, value)
        self.acknowledged[key] = value
        self.newest = Setting(key, value)
        return 0, 0

    def _increment(self) -> tuple[int, int]:
        self.count.asks()
        return self.count.answered(int(self.redis.incr(f"count:{self.number}")))

    def _append(self) -> tuple[int, int]:
        self._made += 1
        part = b"%0*d" % (PART_BYTES - len(SEPARATOR), self._made)
        key = f"list:{self.number}:{self._made // APPENDS_PER_KEY}"
        if key not in self.lists:
            self.lists[key], self._length = Parts(), Tally(PART_BYTES)
        parts = self.lists[key]
        parts.in_doubt.append(part)
        self._length.asks()
        length = int(self.redis.append(key, part + SEPARATOR))
        parts.done.append(parts.in_doubt.pop())
        return self._length.answered(length)

    def _read(self) -> tuple[int, int]:
        other = self._load.neighbour_of(self)
        if (newest := other.newest) is None:
            return 0, 0
        return int(self.redis.get(newest.key) != newest.value), 0


class Load:
    """All clients together.

    Attributes:
        seed: of what they do.
    """

    def __init__(self, addresses: Mapping[str, str], seed: int, clients: int = CLIENTS) -> None:
        """Client i stays at node i modulo the number of nodes, by name."""
        self.seed = seed
        self.may_call, self.is_over = threading.Event(), threading.Event()
        places = list(addresses.items())
        self._addresses = addresses
        self.clients = [
            Client(self, number, *places[number % len(places)]) for number in range(clients)
        ]

    def neighbour_of(self, client: Client) -> Client:
        """A client of another node."""
        others = self.clients[client.number + 1 :] + self.clients
        return next(other for other in others if other.node != client.node)

    @contextmanager
    def running(self) -> Iterator[None]:
        """They live, though they pause at first."""
        for client in self.clients:
            client.start()
        try:
            yield
        finally:
            self.is_over.set()
            for client in self.clients:
                client.join(PAUSE_SECONDS_MAX)

    def begin(self) -> None:
        """Let them call."""
        self.may_call.set()

    def pause(self) -> list[Call]:
        """Wait until the calls under way are answered; returns those since the last pause."""
        self.may_call.clear()
        for client in self.clients:
            client.is_idle.clear()
            assert client.is_idle.wait(PAUSE_SECONDS_MAX), f"{client.name} hangs"
        calls = [call for client in self.clients for call in client.calls]
        for client in self.clients:
            client.calls = []
        return calls

    def read_back(self) -> tuple[int, int]:
        """While they pause: how many acknowledged operations are lost, and how many done twice.

        Everything that a client has written is read through another node.
        """
        lost = twice = 0
        for client in self.clients:
            reader = self.neighbour_of(client).redis
            keys = list(client.acknowledged)
            for start in range(0, len(keys), READ_BACK_KEYS):
                some = keys[start : start + READ_BACK_KEYS]
                values = reader.mget(some)
                lost += sum(
                    client.acknowledged[key] != value
                    for key, value in zip(some, values, strict=True)
                )
            found = [client.count.found(int(reader.get(f"count:{client.number}") or 0))]
            found += [
                parts.found(cast(bytes, reader.get(key) or b""))
                for key, parts in client.lists.items()
            ]
            lost += sum(one for one, _ in found)
            twice += sum(one for _, one in found)
        return lost, twice
