"""The nine changes of a cluster's membership, as the log carries them.

Membership is replicated state: it changes by entries of its own kind (`kvnode.store.batch`), at the
same index on every node. Each change is a small immutable value with a permanent code. In the log
it is `[code, *arguments]` of integers and UTF-8 bytes (DESIGN.md, §3); what a change does, and when
it is refused, is in `kvnode.store.members`.

Ids are unsigned 64-bit numbers above 0 and are never used again. Names and addresses are texts,
"" for an address that nobody knows yet. A storage id is the random number of a data directory, 0
while a member has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, TypeAlias

from kvnode.limits import MEMBER_TEXT_BYTES_MAX
from kvnode.store.ops import UnknownOperation

_U64_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Founder:
    """A member of the cluster as `--cluster` bootstrapped it: a voter."""

    node_id: int
    name: str
    peer_address: str = ""
    client_address: str = ""
    storage_id: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """The bootstrapped membership becomes the registry: the first change of every cluster."""

    CODE: ClassVar[int] = 1
    level: int
    members: tuple[Founder, ...]


@dataclass(frozen=True, slots=True)
class Add:
    """A learner comes. `promote`: it becomes a voter by itself once it has caught up.

    With `replaces` it takes the place of that member, and may have its name from the beginning.
    """

    CODE: ClassVar[int] = 2
    node_id: int
    name: str
    peer_address: str = ""
    client_address: str = ""
    storage_id: int = 0
    promote: bool = True
    replaces: int = 0


@dataclass(frozen=True, slots=True)
class Promote:
    """A learner becomes a voter, in a single step."""

    CODE: ClassVar[int] = 3
    node_id: int


@dataclass(frozen=True, slots=True)
class Remove:
    """A member goes, in a single step, and its id is never used again."""

    CODE: ClassVar[int] = 4
    node_id: int


@dataclass(frozen=True, slots=True)
class Replace:
    """Learner `new` becomes a voter and voter `old` leaves: both halves count until `LeaveJoint`.

    An `old` that has no vote just goes, and `new` is promoted.
    """

    CODE: ClassVar[int] = 5
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class LeaveJoint:
    """The old half of a joint change is gone."""

    CODE: ClassVar[int] = 6


@dataclass(frozen=True, slots=True)
class Update:
    """A member's addresses moved; a storage id other than 0 binds a member that has none."""

    CODE: ClassVar[int] = 7
    node_id: int
    peer_address: str
    client_address: str
    storage_id: int = 0


@dataclass(frozen=True, slots=True)
class Force:
    """Quorum is lost for good, and an operator decided: one member goes on, under a new cluster id.

    It is the only voter; all others are gone, and fenced by the id.
    """

    CODE: ClassVar[int] = 8
    node_id: int
    cluster_id: str


@dataclass(frozen=True, slots=True)
class Raise:
    """The cluster's feature level goes up, since every member knows it."""

    CODE: ClassVar[int] = 9
    level: int


Change: TypeAlias = Found | Add | Promote | Remove | Replace | LeaveJoint | Update | Force | Raise

Row: TypeAlias = "list[Any]"
"""`[code, *arguments]`: ints and bytes, and for `Found` lists of them."""


def to_row(change: Change) -> Row:
    """A change as the log carries it.

    Raises:
        ValueError: no log may hold it; the text says why.
    """
    row = [change.CODE, *_plain(change)]
    from_row(row)  # an entry that cannot be read would stop every node
    return row


def from_row(row: Row) -> Change:
    """Read what `to_row` wrote.

    Raises:
        ValueError: it is no change; the text says why.
        UnknownOperation: a change that this program does not know.
    """
    if not row or type(row[0]) is not int:
        raise ValueError("a change of membership has no code")
    code, *arguments = row
    if code not in _CHANGES:
        raise UnknownOperation(
            f"the log holds the unknown membership change {code}: use the newer program"
        )
    kind, readers = _CHANGES[code]
    return kind(*_read(readers, arguments))


def _plain(value: Change | Founder) -> Row:
    return [_plain_field(getattr(value, field.name)) for field in fields(value)]


def _plain_field(value: object) -> object:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, tuple):
        return [_plain(founder) for founder in value]
    return int(value) if isinstance(value, bool) else value


# --- fields -------------------------------------------------------------------------------------

_Reader: TypeAlias = Callable[[Any], Any]


def _read(readers: tuple[_Reader, ...], values: Row) -> list[Any]:
    if len(values) != len(readers):
        raise ValueError(f"a change of membership has {len(values)} fields, not {len(readers)}")
    return [read(value) for read, value in zip(readers, values, strict=True)]


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _U64_MAX:
        raise ValueError(f"{value!r} is no unsigned 64-bit number")
    return value


def _positive(value: object) -> int:
    """A node id or a level: neither is ever 0."""
    if value == 0:
        raise ValueError("0 stands for nobody and for nothing")
    return _number(value)


def _flag(value: object) -> bool:
    if type(value) is not int or value not in (0, 1):
        raise ValueError(f"{value!r} is neither 0 nor 1")
    return value == 1


def _address(value: object) -> str:
    """A text, which may be empty. Nobody looks inside: addresses are checked where they come in."""
    if type(value) is not bytes or len(value) > MEMBER_TEXT_BYTES_MAX:
        raise ValueError(f"a name or address is no text of at most {MEMBER_TEXT_BYTES_MAX} bytes")
    text = value.decode()
    if not text.isprintable():
        raise ValueError(f"{text!r} cannot be printed")
    return text


def _name(value: object) -> str:
    text = _address(value)
    if not text:
        raise ValueError("a name is empty")
    return text


def _founders(value: object) -> tuple[Founder, ...]:
    if type(value) is not list or not value or not all(type(row) is list for row in value):
        raise ValueError("a cluster is founded by a list of members")
    readers = (_positive, _name, _address, _address, _number)
    return tuple(Founder(*_read(readers, row)) for row in value)


_CHANGES: Final[dict[int, tuple[type[Change], tuple[_Reader, ...]]]] = {
    Found.CODE: (Found, (_positive, _founders)),
    Add.CODE: (Add, (_positive, _name, _address, _address, _number, _flag, _number)),
    Promote.CODE: (Promote, (_positive,)),
    Remove.CODE: (Remove, (_positive,)),
    Replace.CODE: (Replace, (_positive, _positive)),
    LeaveJoint.CODE: (LeaveJoint, ()),
    Update.CODE: (Update, (_positive, _address, _address, _number)),
    Force.CODE: (Force, (_positive, _name)),
    Raise.CODE: (Raise, (_positive,)),
}
