"""From a seed to sequences: single commands by weight, and the shapes that chance never finds."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final

from tests.differential.commands import (
    ATOMS,
    COMMANDS,
    DATABASES,
    JUNK,
    NEVER_MANGLED,
    NUMBER_KEYS,
    NUMBERS,
    PATTERNS,
    RENDERS,
    SECONDS,
    TEXT_KEYS,
    TEXTS,
    UNKNOWN,
)
from tests.differential.sequence import FIRST, SECOND, Send, Sequence, Settle, Unit, Walk

COMMANDS_MIN, COMMANDS_MAX = 20, 30
"""Commands in a sequence; its last shape may add a few."""
MANGLED_SHARE: Final = 0.06
SECOND_SHARE: Final = 0.15
JOINED_SHARE: Final = 0.6
RESP3_SHARE: Final = 0.5

SHORT_LIFE_MS: Final = b"1"
WATCHED_LIFE_MS: Final = b"300"
"""Long enough that a WATCH in the same write always sees the key alive."""

_CLOSES_TRANSACTION: Final = {b"exec", b"discard", b"reset", b"quit"}


class Generator:
    """Sequences of the commands that both servers know.

    Args:
        seed: together with the number of a sequence it decides everything about it.
        names: commands that may be used, as in `COMMANDS`.
    """

    def __init__(self, seed: int, names: Collection[str]) -> None:
        self.seed = seed
        self.names = [name for name in COMMANDS if name in names]
        self._weights = [COMMANDS[name].weight for name in self.names]
        self._choices = [*self.names, ""]
        self._weights.append(UNKNOWN.weight)

    def sequence(self, number: int) -> Sequence:
        """The sequence of this number."""
        rng = random.Random(f"{self.seed}:{number}")
        units = self._furnish(rng)
        wanted = rng.randint(COMMANDS_MIN, COMMANDS_MAX)
        while sum(isinstance(step, Send) for unit in units for step in unit) < wanted:
            units += self._shape(rng)
        protocols = [3 if rng.random() < RESP3_SHARE else 2 for _ in (FIRST, SECOND)]
        return Sequence((protocols[FIRST], protocols[SECOND]), tuple(units))

    def _furnish(self, rng: random.Random) -> list[Unit]:
        """Mostly there is something to begin with: half of it with a lifetime."""
        if rng.random() < 0.2:
            return []
        lines = [(b"SET", key, rng.choice(NUMBERS)) for key in NUMBER_KEYS]
        lines += [(b"SET", key, rng.choice(TEXTS)) for key in TEXT_KEYS]
        mortal = rng.sample(NUMBER_KEYS + TEXT_KEYS, 2)
        lines += [(b"EXPIRE", key, rng.choice(SECONDS)) for key in mortal]
        return [(Send(line, joined=True),) for line in lines]

    def _shape(self, rng: random.Random) -> list[Unit]:
        dice = rng.random()
        if dice < 0.08:
            return self._transaction(rng)
        if dice < 0.10 and "randomkey" in self.names:
            # In one write, so that the keys are those that RANDOMKEY chose from (`rules.py`).
            connection = self._connection(rng)
            return [
                (
                    Send((b"RANDOMKEY",), connection),
                    Send((b"KEYS", b"*"), connection, joined=True),
                )
            ]
        if dice < 0.11:
            return [(self._walk(rng),)]
        if dice < 0.117:
            return [self._unanswered(rng)]
        if dice < 0.12:
            return [self._short_life(rng)]
        if dice < 0.1203:
            return [self._expires_while_watched(rng)]
        if dice < 0.124:
            return [(step,) for step in self._swept_while_watched(rng)]
        joined = rng.random() < JOINED_SHARE
        return [(Send(self._arguments(rng), self._connection(rng), joined),)]

    def _connection(self, rng: random.Random) -> int:
        return SECOND if rng.random() < SECOND_SHARE else FIRST

    def _arguments(self, rng: random.Random, name: str | None = None) -> tuple[bytes, ...]:
        if name is None:
            name = rng.choices(self._choices, self._weights)[0]
        arguments = RENDERS[name](rng)
        if rng.random() < MANGLED_SHARE and name not in NEVER_MANGLED:
            mangle(rng, arguments)
        if rng.random() < 0.1:
            arguments[0] = arguments[0].lower()
        return tuple(arguments)

    def _transaction(self, rng: random.Random) -> list[Unit]:
        """WATCH, perhaps interference, MULTI, commands, perhaps interference, EXEC or DISCARD."""
        steps: list[Send] = []
        if rng.random() < 0.6:
            keys = tuple(ATOMS["key"](rng) for _ in range(rng.randint(1, 2)))
            steps.append(Send((b"WATCH", *keys)))
            if rng.random() < 0.5:
                steps.append(self._interference(rng, keys[0]))
        steps.append(Send((b"MULTI",)))
        for _ in range(rng.randint(0, 5)):
            steps.append(Send(self._arguments(rng, self._queueable(rng)), joined=True))
            if rng.random() < 0.1:
                steps.append(self._interference(rng, ATOMS["key"](rng)))
        steps.append(Send((b"EXEC" if rng.random() < 0.9 else b"DISCARD",), joined=True))
        return [(step,) for step in steps]

    def _queueable(self, rng: random.Random) -> str:
        """A command that does not end the transaction: those come by themselves often enough."""
        while True:
            name = rng.choices(self._choices, self._weights)[0]
            if name.encode() not in (*_CLOSES_TRANSACTION, b"multi", b"watch", b"hello"):
                return name

    def _interference(self, rng: random.Random, key: bytes) -> Send:
        lines = ((b"SET", key, b"1"), (b"DEL", key), (b"EXPIRE", key, b"10000"), (b"GET", key))
        return Send(rng.choice(lines), SECOND)

    def _walk(self, rng: random.Random) -> Walk:
        options: tuple[bytes, ...] = (b"COUNT", rng.choice((b"1", b"2", b"5", b"100")))
        if rng.random() < 0.5:
            options += (b"MATCH", rng.choice(PATTERNS))
        return Walk(rng.choice(DATABASES), options)

    def _unanswered(self, rng: random.Random) -> Unit:
        """CLIENT REPLY SKIP or OFF … ON around commands, outside of any transaction.

        An answer comes last, so that all has been done when the sequence goes on.
        """
        if "client|reply" not in self.names:
            return (Send((b"RESET",)),)
        writes = [
            (b"INCR", ATOMS["nkey"](rng)),
            (b"SET", ATOMS["key"](rng), b"unanswered"),
            (b"GET",),
        ]
        rng.shuffle(writes)
        if rng.random() < 0.5:
            head = (Send((b"CLIENT", b"REPLY", b"SKIP"), silent=True, joined=True),)
            return (
                Send((b"RESET",)),
                *head,
                Send(writes[0], silent=True, joined=True),
                Send((b"PING",), joined=True),
            )
        return (
            Send((b"RESET",)),
            Send((b"CLIENT", b"REPLY", b"OFF"), silent=True, joined=True),
            *(Send(write, silent=True, joined=True) for write in writes),
            Send((b"CLIENT", b"REPLY", b"ON"), joined=True),
        )

    def _short_life(self, rng: random.Random) -> Unit:
        """A key that expires at once, or whose end has passed: outside of any transaction."""
        key = ATOMS["key"](rng)
        ends = rng.choice(((b"PX", SHORT_LIFE_MS), (b"EXAT", b"1000000000"), (b"PXAT", b"1")))
        return (Send((b"RESET",)), Send((b"SET", key, b"short", *ends), joined=True), Settle(key))

    def _expires_while_watched(self, rng: random.Random) -> Unit:
        key = ATOMS["key"](rng)
        return (
            Send((b"RESET",)),
            Send((b"SET", key, b"short", b"PX", WATCHED_LIFE_MS), joined=True),
            Send((b"WATCH", key), joined=True),
            Settle(key),
            Send((b"MULTI",)),
            Send((b"GET", key), joined=True),
            Send((b"EXEC",), joined=True),
        )

    def _swept_while_watched(self, rng: random.Random) -> Unit:
        """FLUSH and SWAPDB between a WATCH, mostly of an absent key, and its EXEC."""
        watched = ATOMS["newkey"](rng)
        between: list[tuple[bytes, ...]] = []
        for _ in range(rng.randint(1, 4)):
            key = watched if rng.random() < 0.1 else ATOMS["key"](rng)
            writes = ((b"SET", key, b"1"), (b"DEL", key), (b"SELECT", rng.choice((b"0", b"1"))))
            sweeps = ((b"FLUSHDB",), (b"FLUSHALL",), (b"SWAPDB", b"0", b"1"))
            between.append(rng.choice(writes if rng.random() < 0.6 else sweeps))
        return (
            Send((b"RESET",)),
            Send((b"WATCH", watched), joined=True),
            *(Send(line, joined=True) for line in between),
            Send((b"MULTI",)),
            Send((b"GET", watched), joined=True),
            Send((b"EXEC",), joined=True),
        )


def mangle(rng: random.Random, arguments: list[bytes]) -> None:
    """Make a command wrong, or at least odd; its name stays."""
    if len(arguments) == 1 or (dice := rng.random()) < 0.3:
        arguments.append(rng.choice(JUNK))
    elif dice < 0.6:
        del arguments[rng.randrange(1, len(arguments))]
    elif dice < 0.7:
        at = rng.randrange(1, len(arguments))
        arguments.insert(at, arguments[at])
    else:
        arguments[rng.randrange(1, len(arguments))] = rng.choice(JUNK)
