"""From a seed to sequences: single commands by weight, and the shapes that chance never finds."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final

from tests.differential.commands import COMMANDS, NEVER_MANGLED, Cast
from tests.differential.families import FAMILIES
from tests.differential.sequence import (
    FIRST,
    SECOND,
    Held,
    Release,
    Send,
    Sequence,
    Settle,
    Unit,
    Walk,
)
from tests.differential.words import DATABASES, JUNK, PATTERNS, SECONDS

COMMANDS_MIN, COMMANDS_MAX = 20, 30
"""Commands in a sequence; its last shape may add a few."""
MANGLED_SHARE: Final = 0.06
SECOND_SHARE: Final = 0.15
JOINED_SHARE: Final = 0.6
RESP3_SHARE: Final = 0.5
LARGE_SHARE: Final = 0.03
"""Sequences with keys of many elements."""
WAIT_SHARE: Final = 0.06
"""Shapes about a client that waits, where a family has such commands."""
ALONE_SHARE: Final = 0.5
"""Sequences about one family; the others are about two or more."""
FAMILIES_MIXED_MAX: Final = 4

SHORT_LIFE_MS: Final = b"1"
WATCHED_LIFE_MS: Final = b"300"
"""Long enough that a WATCH in the same write always sees the key alive."""

_CLOSES_TRANSACTION: Final = {b"exec", b"discard", b"reset", b"quit"}


class Generator:
    """Sequences of the commands that both servers know.

    A sequence is about one family, or about a few: those with more to try come more often.

    Args:
        seed: together with the number of a sequence it decides everything about it.
        names: commands that may be used, as in `COMMANDS`.
        families: what sequences are about; all of them unless told.
    """

    def __init__(
        self, seed: int, names: Collection[str], families: Collection[str] = tuple(FAMILIES)
    ) -> None:
        self.seed = seed
        usable = {name for name in COMMANDS if name in names}
        self._families = [
            FAMILIES[name] for name in families if usable & FAMILIES[name].commands.keys()
        ]
        left_out = {
            name
            for family in FAMILIES.values()
            if family not in self._families
            for name in family.commands
        }
        self.names = [name for name in COMMANDS if name in usable - left_out]
        self._casts: dict[tuple[str, ...], Cast] = {}

    def sequence(self, number: int) -> Sequence:
        """The sequence of this number."""
        rng = random.Random(f"{self.seed}:{number}")
        author = _Author(rng, self._cast(rng), frozenset(self.names))
        protocols = [3 if rng.random() < RESP3_SHARE else 2 for _ in (FIRST, SECOND)]
        return Sequence((protocols[FIRST], protocols[SECOND]), tuple(author.units()))

    def _cast(self, rng: random.Random) -> Cast:
        wanted = 1 if rng.random() < ALONE_SHARE else rng.randint(2, FAMILIES_MIXED_MAX)
        weights = [family.weight for family in self._families]
        chosen = {family.name for family in rng.choices(self._families, weights, k=wanted)}
        members = tuple(family for family in self._families if family.name in chosen)
        names = tuple(family.name for family in members)
        if names not in self._casts:
            self._casts[names] = Cast(members, self.names)
        return self._casts[names]


class _Author:
    """Writes one sequence."""

    def __init__(self, rng: random.Random, cast: Cast, names: frozenset[str]) -> None:
        self._rng = rng
        self._cast = cast
        self._names = names

    def units(self) -> list[Unit]:
        units = self._furnish()
        wanted = len(units) + self._rng.randint(COMMANDS_MIN, COMMANDS_MAX)
        while sum(isinstance(step, Send) for unit in units for step in unit) < wanted:
            units += self._shape()
        return units

    def _atom(self, name: str) -> bytes:
        return self._cast.atoms[name](self._rng)

    def _furnish(self) -> list[Unit]:
        """Mostly there is something to begin with: half of it with a lifetime."""
        if self._rng.random() < 0.2:
            return []
        lines = self._cast.furniture(self._rng)
        if self._rng.random() < LARGE_SHARE:
            lines += [line for family in self._cast.families for line in family.large]
        mortal = self._rng.sample(self._cast.keys, max(len(self._cast.keys) // 2, 1))
        lines += [(b"EXPIRE", key, self._rng.choice(SECONDS)) for key in mortal]
        return [(Send(line, joined=True),) for line in lines]

    def _shape(self) -> list[Unit]:
        dice = self._rng.random()
        if dice < 0.08:
            return self._transaction()
        if dice < 0.10 and "randomkey" in self._names:
            # In one write, so that the keys are those that RANDOMKEY chose from (`rules.py`).
            connection = self._connection()
            return [
                (
                    Send((b"RANDOMKEY",), connection),
                    Send((b"KEYS", b"*"), connection, joined=True),
                )
            ]
        if dice < 0.11:
            return [(self._walk(),)]
        if self._cast.waits and self._rng.random() < WAIT_SHARE:
            return [self._wait()]
        if dice < 0.117:
            return [self._unanswered()]
        if dice < 0.12:
            return [self._short_life()]
        if dice < 0.1203:
            return [self._expires_while_watched()]
        if dice < 0.124:
            return [(step,) for step in self._swept_while_watched()]
        joined = self._rng.random() < JOINED_SHARE
        return [self._unit(self._cast.choose(self._rng), self._connection(), joined=joined)]

    def _unit(self, name: str, connection: int, *, joined: bool) -> Unit:
        """A command, with the lines that go with it in one write."""
        first, *others = self._cast.unit(self._arguments(name))
        head = Send(first, connection, joined)
        return (head, *(Send(line, connection, joined=True) for line in others))

    def _connection(self) -> int:
        return SECOND if self._rng.random() < SECOND_SHARE else FIRST

    def _arguments(self, name: str) -> tuple[bytes, ...]:
        arguments = self._cast.render(name, self._rng)
        if self._rng.random() < MANGLED_SHARE and name not in NEVER_MANGLED:
            mangle(self._rng, arguments)
        if self._rng.random() < 0.1:
            arguments[0] = arguments[0].lower()
        return tuple(arguments)

    def _transaction(self) -> list[Unit]:
        """WATCH, perhaps interference, MULTI, commands, perhaps interference, EXEC or DISCARD."""
        units: list[Unit] = []
        if self._rng.random() < 0.6:
            keys = tuple(self._atom("key") for _ in range(self._rng.randint(1, 2)))
            units.append((Send((b"WATCH", *keys)),))
            if self._rng.random() < 0.5:
                units.append(self._interference(keys[0]))
        units.append((Send((b"MULTI",)),))
        for _ in range(self._rng.randint(0, 5)):
            units.append(self._unit(self._queueable(), FIRST, joined=True))
            if self._rng.random() < 0.1:
                units.append(self._interference(self._atom("key")))
        end = b"EXEC" if self._rng.random() < 0.9 else b"DISCARD"
        return [*units, (Send((end,), joined=True),)]

    def _queueable(self) -> str:
        """A command that does not end the transaction: those come by themselves often enough."""
        while True:
            name = self._cast.choose(self._rng)
            if name.encode() not in (*_CLOSES_TRANSACTION, b"multi", b"watch", b"hello"):
                return name

    def _interference(self, key: bytes) -> Unit:
        """Something between, on the other connection: to this key, or of the family's commands."""
        lines = ((b"SET", key, b"1"), (b"DEL", key), (b"EXPIRE", key, b"10000"), (b"GET", key))
        if self._rng.random() < 0.5:
            return (Send(self._rng.choice(lines), SECOND),)
        return self._unit(self._queueable(), SECOND, joined=False)

    def _wait(self) -> Unit:
        """A client waits for a key, outside of any transaction, and another one goes on."""
        form = self._rng.choice(self._cast.waits)
        (held,) = self._cast.lines([form.held], self._rng)
        times = self._rng.randint(0, 3)
        meanwhile = [self._rng.choice(form.meanwhile) for _ in range(times)]
        step = Held(held)
        return (
            Send((b"RESET",)),
            Send((b"HELLO", self._rng.choice((b"2", b"3"))), joined=True),
            Send((b"RESET",), SECOND),
            step,
            *(
                Send(line, SECOND, joined=self._rng.random() < JOINED_SHARE)
                for line in self._cast.lines((*meanwhile, *form.last), self._rng)
            ),
            Release(step),
        )

    def _walk(self) -> Walk:
        options: tuple[bytes, ...] = (b"COUNT", self._rng.choice((b"1", b"2", b"5", b"100")))
        if self._rng.random() < 0.5:
            options += (b"MATCH", self._rng.choice(PATTERNS))
        forms = [form for form in self._cast.walks if form.command.decode().lower() in self._names]
        if forms and self._rng.random() < 0.7:
            form = self._rng.choice(forms)
            command = (form.command, self._rng.choice(form.keys))
            return Walk(self._rng.choice((0, 0, *DATABASES)), options, command, form.width)
        return Walk(self._rng.choice(DATABASES), options)

    def _unanswered(self) -> Unit:
        """CLIENT REPLY SKIP or OFF … ON around commands, outside of any transaction.

        An answer comes last, so that all has been done when the sequence goes on.
        """
        if "client|reply" not in self._names:
            return (Send((b"RESET",)),)
        writes = [
            (b"INCR", self._atom("nkey")),
            (b"SET", self._atom("key"), b"unanswered"),
            (b"GET",),
        ]
        self._rng.shuffle(writes)
        if self._rng.random() < 0.5:
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

    def _short_life(self) -> Unit:
        """A key that expires at once, or whose end has passed: outside of any transaction."""
        key = self._atom("key")
        ends = self._rng.choice(((b"PX", SHORT_LIFE_MS), (b"EXAT", b"1000000000"), (b"PXAT", b"1")))
        return (Send((b"RESET",)), Send((b"SET", key, b"short", *ends), joined=True), Settle(key))

    def _expires_while_watched(self) -> Unit:
        key = self._atom("key")
        return (
            Send((b"RESET",)),
            Send((b"SET", key, b"short", b"PX", WATCHED_LIFE_MS), joined=True),
            Send((b"WATCH", key), joined=True),
            Settle(key),
            Send((b"MULTI",)),
            Send((b"GET", key), joined=True),
            Send((b"EXEC",), joined=True),
        )

    def _swept_while_watched(self) -> Unit:
        """FLUSH and SWAPDB between a WATCH, mostly of an absent key, and its EXEC."""
        watched = self._atom("newkey")
        between: list[tuple[bytes, ...]] = []
        for _ in range(self._rng.randint(1, 4)):
            key = watched if self._rng.random() < 0.1 else self._atom("key")
            database = self._rng.choice((b"0", b"1"))
            writes = ((b"SET", key, b"1"), (b"DEL", key), (b"SELECT", database))
            sweeps = ((b"FLUSHDB",), (b"FLUSHALL",), (b"SWAPDB", b"0", b"1"))
            between.append(self._rng.choice(writes if self._rng.random() < 0.6 else sweeps))
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
