"""A list's node: several elements in one row, so that a row's own cost is shared.

    node = count:u8 lengths data    a length:u16 of each element, then the elements themselves
         | 00 element               one that is too large to share a row

Lengths stand apart from the data, so an element is put on or taken off either end by cutting and
joining bytes, whatever lies between.

A node holds up to `NODE_BYTES_MAX` bytes: four such rows fill a page of LMDB. A node at an end of
its list may have twice that before half of it is sealed off as a node of its own (`list_rows`).
"""

from __future__ import annotations

from itertools import accumulate
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

NODE_BYTES_MAX: Final = 992
"""(4096 − 16) / 4 bytes, without LMDB's 10 of overhead and the 18 of the row's key."""

NODE_ELEMENTS_MAX: Final = 64

END_BYTES_MAX: Final = 2 * NODE_BYTES_MAX
END_ELEMENTS_MAX: Final = 2 * NODE_ELEMENTS_MAX
"""At most 255: a count is one byte."""

LENGTH_BYTES: Final = 2
ELEMENT_BYTES_MAX: Final = NODE_BYTES_MAX - 1 - LENGTH_BYTES
"""A larger element has a row to itself."""

_LENGTHS: Final = tuple(Struct(f">{count}H") for count in range(END_ELEMENTS_MAX + 1))
_pack_length = _LENGTHS[1].pack
_unpack_length = _LENGTHS[1].unpack_from


def pack(elements: Sequence[bytes]) -> bytes:
    """The row of elements that fit one (`fits`, `fits_end`)."""
    count = len(elements)
    if count == 1 and len(elements[0]) > ELEMENT_BYTES_MAX:
        return b"\x00" + elements[0]
    lengths = _LENGTHS[count].pack(*map(len, elements))
    return b"".join((bytes((count,)), lengths, *elements))


def unpack(node: bytes) -> list[bytes]:
    """The elements of a row."""
    count = node[0]
    if not count:
        return [node[1:]]
    elements: list[bytes] = []
    start = 1 + count * LENGTH_BYTES
    for length in _LENGTHS[count].unpack_from(node, 1):
        stop = start + length
        elements.append(node[start:stop])
        start = stop
    return elements


def count_of(node: bytes) -> int:
    """How many elements a row has: its weight."""
    return node[0] or 1


def size_of(elements: Sequence[bytes]) -> int:
    """Bytes of their row."""
    return 1 + LENGTH_BYTES * len(elements) + sum(map(len, elements))


def fits(elements: Sequence[bytes]) -> bool:
    """Whether elements may be one node."""
    count = len(elements)
    return count == 1 or (count <= NODE_ELEMENTS_MAX and size_of(elements) <= NODE_BYTES_MAX)


def chunks(elements: list[bytes]) -> list[list[bytes]]:
    """Cut elements in the middle of their bytes until each part may be a node; none for none."""
    if not elements:
        return []
    if fits(elements):
        return [elements]
    half = size_of(elements) // 2
    sizes = accumulate(len(element) + LENGTH_BYTES for element in elements)
    middle = next(count for count, size in enumerate(sizes, start=1) if size >= half)
    middle = min(middle, len(elements) - 1)
    return chunks(elements[:middle]) + chunks(elements[middle:])


def spill(elements: list[bytes]) -> tuple[list[list[bytes]], list[bytes]]:
    """Full nodes off the front, and the rest, which may stay at the end of a list."""
    nodes: list[list[bytes]] = []
    start = 0
    while not _fits_end(elements, start):
        stop = _fill(elements, start)
        nodes.append(elements[start:stop])
        start = stop
    return nodes, elements[start:]


def _fits_end(elements: list[bytes], start: int) -> bool:
    count = len(elements) - start
    if count <= 1:
        return True
    if count > END_ELEMENTS_MAX:
        return False
    rest = elements[start:]
    return size_of(rest) <= END_BYTES_MAX and max(map(len, rest)) <= ELEMENT_BYTES_MAX


def _fill(elements: list[bytes], start: int) -> int:
    """Where the largest node ends that begins at `start`."""
    room = NODE_BYTES_MAX - 1
    stop = start
    last = min(len(elements), start + NODE_ELEMENTS_MAX)
    while stop < last and room >= (size := len(elements[stop]) + LENGTH_BYTES):
        room -= size
        stop += 1
    return max(stop, start + 1)


# --- one element at an end ------------------------------------------------------------------------


def with_first(node: bytes, element: bytes) -> bytes | None:
    """An end's row with one more element in front; None if it does not fit."""
    count = node[0]
    if not _takes(node, element):
        return None
    data_at = 1 + count * LENGTH_BYTES
    lengths = _pack_length(len(element)) + node[1:data_at]
    return b"".join((bytes((count + 1,)), lengths, element, node[data_at:]))


def with_last(node: bytes, element: bytes) -> bytes | None:
    """An end's row with one more element behind; None if it does not fit."""
    count = node[0]
    if not _takes(node, element):
        return None
    data_at = 1 + count * LENGTH_BYTES
    lengths = node[1:data_at] + _pack_length(len(element))
    return b"".join((bytes((count + 1,)), lengths, node[data_at:], element))


def _takes(node: bytes, element: bytes) -> bool:
    return (
        0 < node[0] < END_ELEMENTS_MAX
        and len(element) <= ELEMENT_BYTES_MAX
        and len(node) + LENGTH_BYTES + len(element) <= END_BYTES_MAX
    )


def take_first(node: bytes) -> tuple[bytes, bytes]:
    """The first element, and the row without it; empty if that was all."""
    count = node[0]
    if count <= 1:
        return node[1 + count * LENGTH_BYTES :], b""
    data_at = 1 + count * LENGTH_BYTES
    rest_at = data_at + _unpack_length(node, 1)[0]
    lengths = node[1 + LENGTH_BYTES : data_at]
    return node[data_at:rest_at], bytes((count - 1,)) + lengths + node[rest_at:]


def take_last(node: bytes) -> tuple[bytes, bytes]:
    """The last element, and the row without it; empty if that was all."""
    count = node[0]
    if count <= 1:
        return node[1 + count * LENGTH_BYTES :], b""
    data_at = 1 + count * LENGTH_BYTES
    rest_at = len(node) - _unpack_length(node, data_at - LENGTH_BYTES)[0]
    lengths = node[1 : data_at - LENGTH_BYTES]
    return node[rest_at:], bytes((count - 1,)) + lengths + node[data_at:rest_at]
