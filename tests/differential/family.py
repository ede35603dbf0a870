"""What one family of commands gives to the machine: its rows, its keys, and how to compare.

`families` has one module per family; each ends in `FAMILY`, and is found by being there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tests.differential.comparing import Accepted, Canon, Rule
from tests.differential.words import Atom, Row

Line: TypeAlias = tuple[bytes, ...]
"""One command line."""

LARGE_ELEMENTS: Final = 1_050
"""More than kvnode stores, or shows on one page of a SCAN, at once."""

Companions: TypeAlias = Callable[[Line], list[Line]]
"""From a rendered line (perhaps a mangled one) to all lines of its unit, itself included."""


@dataclass(frozen=True, slots=True)
class Listing:
    """How everything in a key of one type is read and compared at the end of a sequence.

    Attributes:
        question: the words of the command; the key goes behind the first `lead` words.
        lead: 1, unless the command has a subcommand.
        canon: what counts of the answer (in RESP2).
    """

    question: Line
    canon: Canon
    lead: int = 1

    def line(self, key: bytes) -> list[bytes]:
        """The command for a key."""
        return [*self.question[: self.lead], key, *self.question[self.lead :]]


@dataclass(frozen=True, slots=True)
class WalkForm:
    """A SCAN within one key, played from its start to its end.

    Attributes:
        command: e.g. `b"HSCAN"`.
        keys: whose members are walked.
        width: elements of a page that belong together: 2 for fields and values.
    """

    command: bytes
    keys: tuple[bytes, ...]
    width: int = 1


@dataclass(frozen=True, slots=True)
class Waiting:
    """A command that may wait, and what another client does meanwhile. All are templates.

    Attributes:
        held: the command, which waits for at most as long as it takes.
        meanwhile: what may happen, some of it, in any order.
        last: what happens in the end, so that nothing waits for ever.
    """

    held: str
    meanwhile: tuple[str, ...]
    last: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One family of commands.

    Attributes:
        name: as `--family` takes it.
        keys: the keys that mostly hold its values. Generic commands (`key` in a template) choose
            among the keys of the families of their sequence.
        commands: its rows by name.
        furniture: templates of what most sequences begin with.
        large: lines that fill keys with `LARGE_ELEMENTS` and more, for a few sequences.
        atoms: words in lower case of its templates, beside those of `words.ATOMS`; no name may
            stand in two families.
        rules: how its replies are compared if not byte for byte.
        deliberate: differences that kvnode means.
        open: defects that are known.
        companions: by a command's name in lower case the lines that go with it in one write, e.g. a
            listing behind a random choice.
        walks: its SCAN commands.
        waits: its commands that wait for another client.
        listings: by the answer of TYPE how a key is read at the end; one family per type.
    """

    name: str
    keys: tuple[bytes, ...]
    commands: Mapping[str, Row]
    furniture: tuple[str, ...] = ()
    large: tuple[Line, ...] = ()
    atoms: Mapping[str, Atom] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    deliberate: tuple[Accepted, ...] = ()
    open: tuple[Accepted, ...] = ()
    companions: Mapping[bytes, Companions] = field(default_factory=dict)
    walks: tuple[WalkForm, ...] = ()
    waits: tuple[Waiting, ...] = ()
    listings: Mapping[bytes, Listing] = field(default_factory=dict)

    @property
    def weight(self) -> float:
        """Of all its commands: a sequence is about a family in proportion to it."""
        return sum(row.weight for row in self.commands.values())


def followed_by(listing: bytes, *arguments: bytes) -> Companions:
    """Behind the command comes `listing` of its key, so that a random choice can be judged.

    Args:
        listing: the command, in upper case.
        arguments: what stands behind the key.
    """

    def lines(line: Line) -> list[Line]:
        return [line, (listing, line[1], *arguments)] if len(line) > 1 else [line]

    return lines
