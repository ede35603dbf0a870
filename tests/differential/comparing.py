"""How replies are compared where bytes say too much: the forms that rules are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from tests.differential.resp import Reply


class Answer(NamedTuple):
    """One command and its reply; what EXEC ran is listed as if it had been answered by itself."""

    arguments: tuple[bytes, ...]
    reply: Reply


Same = Callable[[list[Answer], list[Answer], int], bool]
"""Compares what redis-server and kvnode answered at one place of the conversation."""

Alike = Callable[[Reply, Reply], bool]
"""Compares two replies."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How to compare the replies of some commands.

    Attributes:
        names: commands, as in `COMMANDS`.
        why: what may differ and why that is right.
        same: the comparison.
    """

    names: tuple[str, ...]
    why: str
    same: Same


Matches = Callable[[str, tuple[bytes, ...], str, str], bool]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A difference that is accepted.

    Attributes:
        why: what differs, for people.
        matches: tells it by the command's name, its arguments, and the two replies as text.
        lasting: the servers go on in different states, so nothing behind it can be compared.
        after: commands in lower case that must be part of the sequence; none: any will do.
        times: how many of these commands the sequence must have at least.
    """

    why: str
    matches: Matches
    lasting: bool = False
    after: frozenset[bytes] = frozenset()
    times: int = 1


Canon: TypeAlias = Callable[[Reply], object]
"""A reply without what no server promises, such as the order of a set."""


# --- replies --------------------------------------------------------------------------------------


def shape(reply: Reply, depth: int = 1) -> object:
    """The types of a reply without its values, down to some depth."""
    if depth and reply.elements:
        return reply.kind, tuple(shape(element, depth - 1) for element in reply.elements)
    return reply.kind, reply.value is None


def same_kind(redis: Reply, kvnode: Reply) -> bool:
    """Only the type is the same, or both are null."""
    return shape(redis, 0) == shape(kvnode, 0)


def same_shape(redis: Reply, kvnode: Reply) -> bool:
    """Type, length and the types of the elements are the same."""
    return shape(redis) == shape(kvnode)


def as_is(reply: Reply) -> object:
    """Everything counts."""
    return reply


def as_set(reply: Reply) -> object:
    """Any order, but every element as often."""
    return reply.kind, reply.value is None, frozenset(Counter(reply.elements).items())


def as_pairs(reply: Reply) -> object:
    """A map, or an array of keys and values in turn: any order of the pairs."""
    elements = reply.elements
    pairs = Counter(zip(elements[::2], elements[1::2], strict=False))
    return reply.kind, len(elements), reply.value is None, frozenset(pairs.items())


def same_as(canon: Canon) -> Alike:
    """Compare what is left when `canon` took away what may differ."""
    return lambda redis, kvnode: canon(redis) == canon(kvnode)


same_set: Final = same_as(as_set)
same_pairs: Final = same_as(as_pairs)


# --- places ---------------------------------------------------------------------------------------


def pairwise(alike: Alike) -> Same:
    """Compare the two replies and nothing around them."""
    return lambda redis, kvnode, at: alike(redis[at].reply, kvnode[at].reply)


def is_cursor(reply: Reply) -> bool:
    """A cursor is a number of 64 bits, as text."""
    return reply.kind == b"$" and reply.text.isdigit() and int(reply.text) < 1 << 64


PAGE_ELEMENTS: Final = 1_000
"""`COUNT 1000` asks for a page that holds everything, unless there is more."""


def same_page(cursor_at: int, canon: Canon = as_set) -> Same:
    """Pages of a SCAN: one that must hold everything is compared, of others only the shape.

    Args:
        cursor_at: which argument is the cursor.
        canon: what counts of the page.
    """

    def same(redis: list[Answer], kvnode: list[Answer], at: int) -> bool:
        one, other = redis[at], kvnode[at]
        if shape(one.reply) != shape(other.reply) or len(one.reply.elements) != 2:
            return False
        if not all(is_cursor(answer.reply.elements[0]) for answer in (one, other)):
            return False
        if b"1000" not in one.arguments or one.arguments[cursor_at] != b"0":
            return True
        cursors = one.reply.elements[0].text, other.reply.elements[0].text
        pages = one.reply.elements[1], other.reply.elements[1]
        if cursors[0] != b"0" or len(pages[0].elements) > PAGE_ELEMENTS:
            return True  # there is more than fits on a page
        return cursors[1] == b"0" and canon(pages[0]) == canon(pages[1])

    return same


def drawn_from(listing: bytes, *arguments: bytes, width: int = 1) -> Same:
    """Random elements: as many on both sides, of the same types, and all from the collection.

    The collection is known if the command behind it, in the same write, is `listing` of its key
    (`Family.companions`). Elements of pairs are nested or flat, as the reply has them.

    Args:
        listing: the command that lists the collection, in upper case.
        arguments: what it has behind the key.
        width: elements of the listing that belong together, e.g. 2 for a field and its value.
    """

    def same(redis: list[Answer], kvnode: list[Answer], at: int) -> bool:
        if shape(redis[at].reply, 2) != shape(kvnode[at].reply, 2):
            return False
        return all(
            _is_drawn(answers, at, (listing, *arguments), width) for answers in (redis, kvnode)
        )

    return same


def _is_drawn(answers: list[Answer], at: int, listing: tuple[bytes, ...], width: int) -> bool:
    line, drawn = answers[at]
    if at + 1 == len(answers) or answers[at + 1].arguments != (listing[0], line[1], *listing[1:]):
        return True
    if drawn.value is None or drawn.value == ():
        return True
    whole = _groups(answers[at + 1].reply, width)
    heads = {group[0] for group in whole}
    if not drawn.elements:
        return drawn in heads
    if width > 1 and b"WITH" in b" ".join(line[2:]).upper():
        return _groups(drawn, width) <= whole
    return heads.issuperset(drawn.elements)


def _groups(reply: Reply, width: int) -> set[tuple[Reply, ...]]:
    """The elements of a list that belong together, nested or not."""
    flat = [part for element in reply.elements for part in (element.elements or (element,))]
    return set(zip(*(iter(flat),) * width, strict=True))
