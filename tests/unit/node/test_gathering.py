"""Which batches share an entry: in the order in which they came, as far as they fit."""

from __future__ import annotations

import pytest

from kvnode.limits import (
    BATCH_BYTES_MAX,
    BATCH_COMMANDS_MAX,
    BATCH_ROWS_MAX,
    GATHERED_COMMANDS_MIN,
)
from kvnode.node.gathering import Gathering
from kvnode.store import ops
from kvnode.store.batch import MalformedEntry, Part, encode_ops


def part(node_id: int, sequence: int, commands: int = 1, *arguments: bytes) -> Part:
    op = [ops.DEL, 0, *(arguments or [b"k"])]
    return Part(node_id, 1, sequence, encode_ops([op] * commands))


def gathered(*parts: Part) -> Gathering:
    gathering = Gathering()
    for one in parts:
        gathering.add(one)
    return gathering


def drained(gathering: Gathering) -> list[list[tuple[int, int]]]:
    """(node, sequence) of the batches of each entry."""
    entries = []
    while gathering:
        entries.append([(one.node_id, one.sequence) for one in gathering.take().parts])
    return entries


def test_what_fits_goes_together_in_the_order_in_which_it_came() -> None:
    parts = [part(2, 5), part(1, 9), part(2, 6), part(3, 1), part(1, 10)]
    assert drained(gathered(*parts)) == [[(2, 5), (1, 9), (2, 6), (3, 1), (1, 10)]]


HALF = BATCH_COMMANDS_MAX // 2
MANY = [b""] * (BATCH_ROWS_MAX // 2 + 3)
LARGE = b"x" * (BATCH_BYTES_MAX // 2 - 16)


@pytest.mark.parametrize(
    "filling",
    [(HALF, b"k"), (1, *MANY), (1, LARGE)],
    ids=["commands", "rows", "bytes"],
)
def test_an_entry_is_bounded_and_the_rest_goes_into_the_next(filling: tuple[int, bytes]) -> None:
    commands, *arguments = filling
    parts = [part(node, 1, commands, *arguments) for node in (1, 2, 3, 4, 5)]
    assert drained(gathered(*parts)) == [[(1, 1), (2, 1)], [(3, 1), (4, 1)], [(5, 1)]]


def test_nothing_overtakes_a_batch_that_did_not_fit() -> None:
    parts = [part(1, 1, HALF), part(2, 1, HALF + 1), part(3, 1)]
    assert drained(gathered(*parts)) == [[(1, 1)], [(2, 1), (3, 1)]]


def test_a_batch_beyond_the_bounds_has_an_entry_of_its_own() -> None:
    parts = [part(1, 1), part(2, 1, 1, LARGE * 3), part(3, 1)]
    assert drained(gathered(*parts)) == [[(1, 1)], [(2, 1)], [(3, 1)]]


def test_a_batch_that_is_sent_again_meanwhile_is_there_once() -> None:
    gathering = gathered(part(1, 1), part(1, 2), part(1, 1))
    assert drained(gathering) == [[(1, 1), (1, 2)]]


@pytest.mark.parametrize(
    "nonsense", [b"nonsense", b"\x91\x07", b"\x91\x90", b"\x92\x91\x03\x91\x0a"]
)
def test_what_is_no_list_of_operations_is_not_taken(nonsense: bytes) -> None:
    gathering = gathered(part(1, 1))
    with pytest.raises(MalformedEntry):
        gathering.add(Part(2, 1, 1, nonsense))
    assert drained(gathering) == [[(1, 1)]]


def test_what_is_forgotten_is_gone() -> None:
    gathering = gathered(part(1, 1))
    gathering.clear()
    assert drained(gathering) == []


# --- when -----------------------------------------------------------------------------------------

COMMIT = 10
MUCH = GATHERED_COMMANDS_MIN


def waiting_behind(entries: list[list[Part]], *parts: Part) -> Gathering:
    """Some entries were proposed from `COMMIT` + 1 on, and then some batches came."""
    gathering = Gathering()
    for index, entry in enumerate(entries, COMMIT + 1):
        for one in entry:
            gathering.add(one)
        gathering.proposed(gathering.take(), index, COMMIT)
    for one in parts:
        gathering.add(one)
    return gathering


def test_what_gathered_leaves_at_once_when_nothing_is_under_way() -> None:
    assert not gathered().is_due(COMMIT)
    assert gathered(part(1, 1)).is_due(COMMIT)
    assert gathered(part(1, 1), part(2, 1)).is_due(COMMIT)


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        ([[part(2, 1, MUCH)]], [part(1, 1)]),
        ([[part(1, 1, MUCH)]], [part(1, 2), part(2, 1)]),
        ([[part(1, 1, MUCH), part(2, 1)]], [part(1, 2)]),
        ([[part(1, 1)], [part(2, 1)]], [part(1, 2, MUCH)]),
    ],
)
def test_while_an_entry_is_under_way_batches_of_several_nodes_wait_for_its_commit(
    entries: list[list[Part]], parts: list[Part]
) -> None:
    gathering = waiting_behind(entries, *parts)
    last = COMMIT + len(entries)
    assert not any(gathering.is_due(commit) for commit in range(COMMIT, last))
    assert gathering.is_due(last)


def test_a_node_that_is_alone_waits_for_nobody() -> None:
    entries = [[part(1, 1, MUCH)], [part(1, 2, MUCH)]]
    assert waiting_behind(entries, part(1, 3), part(1, 4)).is_due(COMMIT)


def test_where_there_is_little_to_do_nobody_waits() -> None:
    entries = [[part(2, 1, MUCH - 3)]]
    assert waiting_behind(entries, part(1, 1), part(3, 1)).is_due(COMMIT)
    assert not waiting_behind(entries, part(1, 1), part(3, 1, 2)).is_due(COMMIT)


@pytest.mark.parametrize(
    "filling",
    [(HALF, b"k"), (1, *MANY), (1, LARGE + b"x" * 16)],
    ids=["commands", "rows", "bytes"],
)
def test_what_fills_an_entry_waits_for_nobody(filling: tuple[int, bytes]) -> None:
    commands, *arguments = filling
    gathering = waiting_behind([[part(3, 1, MUCH)]], part(1, 1, commands, *arguments))
    assert not gathering.is_due(COMMIT)
    gathering.add(part(2, 1, commands, *arguments))
    assert gathering.is_due(COMMIT)


def test_with_what_is_forgotten_nothing_is_under_way() -> None:
    gathering = waiting_behind([[part(3, 1, MUCH)]], part(1, 1))
    gathering.clear()
    gathering.add(part(1, 1))
    assert gathering.is_due(COMMIT)
