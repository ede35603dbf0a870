"""A node is its elements, however it came to be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvnode.store.redis import list_node
from kvnode.store.redis.list_node import (
    ELEMENT_BYTES_MAX,
    END_BYTES_MAX,
    END_ELEMENTS_MAX,
    NODE_BYTES_MAX,
    NODE_ELEMENTS_MAX,
)

ELEMENT = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"x" * 400, b"y" * ELEMENT_BYTES_MAX, b"z" * (ELEMENT_BYTES_MAX + 1)]),
)
ELEMENTS = st.lists(ELEMENT, max_size=300)
SMALL = st.lists(st.binary(max_size=12), min_size=1, max_size=END_ELEMENTS_MAX)


@given(SMALL)
def test_what_is_packed_comes_out_again(elements: list[bytes]) -> None:
    node = list_node.pack(elements)
    assert list_node.unpack(node) == elements
    assert list_node.count_of(node) == len(elements)
    assert len(node) == list_node.size_of(elements)


@given(SMALL, st.binary(max_size=40))
def test_one_more_element_at_an_end_makes_the_node_of_all(
    elements: list[bytes], element: bytes
) -> None:
    node = list_node.pack(elements)
    first, last = list_node.with_first(node, element), list_node.with_last(node, element)
    assert (first is None) == (last is None) == (len(elements) == END_ELEMENTS_MAX)
    if first is not None and last is not None:
        assert first == list_node.pack([element, *elements])
        assert last == list_node.pack([*elements, element])


@given(SMALL)
def test_one_element_less_makes_the_node_of_the_others(elements: list[bytes]) -> None:
    node = list_node.pack(elements)
    rest = elements[1:]
    assert list_node.take_first(node) == (elements[0], list_node.pack(rest) if rest else b"")
    rest = elements[:-1]
    assert list_node.take_last(node) == (elements[-1], list_node.pack(rest) if rest else b"")


def test_a_large_element_stands_alone() -> None:
    for large in (b"x" * (ELEMENT_BYTES_MAX + 1), b"x" * 100_000):
        node = list_node.pack([large])
        assert node == b"\x00" + large
        assert list_node.unpack(node) == [large]
        assert list_node.count_of(node) == 1
        assert list_node.take_first(node) == list_node.take_last(node) == (large, b"")
        assert list_node.with_first(node, b"") is list_node.with_last(node, b"") is None
        small = list_node.pack([b"small"])
        assert list_node.with_first(small, large) is list_node.with_last(small, large) is None


def test_an_end_is_full_at_its_last_byte_and_its_last_element() -> None:
    node = list_node.pack([b"x" * 900, b"y" * 900])
    room = END_BYTES_MAX - len(node) - list_node.LENGTH_BYTES
    assert len(list_node.with_last(node, b"z" * room) or b"") == END_BYTES_MAX
    assert list_node.with_last(node, b"z" * (room + 1)) is None
    assert list_node.with_first(list_node.pack([b""] * END_ELEMENTS_MAX), b"") is None


@given(ELEMENTS)
def test_chunks_are_nodes_of_all_elements_in_their_order(elements: list[bytes]) -> None:
    chunks = list_node.chunks(elements)
    assert [element for chunk in chunks for element in chunk] == elements
    assert all(chunk and list_node.fits(chunk) for chunk in chunks)


def test_a_node_that_overflows_is_cut_in_the_middle() -> None:
    left, right = list_node.chunks([b"x" * 60] * 16)
    assert len(left) == len(right) == 8


@given(ELEMENTS)
def test_what_spills_are_full_nodes_and_the_rest_may_stay_at_an_end(
    elements: list[bytes],
) -> None:
    nodes, rest = list_node.spill(elements)
    assert [element for node in [*nodes, rest] for element in node] == elements
    following = [node[0] for node in [*nodes, rest][1:] if node]
    for node, more in zip(nodes, following, strict=False):
        assert list_node.fits(node)
        full = len(node) == NODE_ELEMENTS_MAX or not list_node.fits([*node, more])
        assert full
    assert len(rest) <= END_ELEMENTS_MAX
    assert len(rest) <= 1 or list_node.size_of(rest) <= END_BYTES_MAX
    assert len(rest) <= 1 or max(map(len, rest)) <= ELEMENT_BYTES_MAX


def test_four_full_rows_fill_a_page_of_lmdb() -> None:
    page_bytes, page_header, row_header, pointer = 4096, 16, 8, 2
    key_bytes = 1 + 8 + 1 + 8
    row = row_header + key_bytes + NODE_BYTES_MAX + pointer
    assert 4 * row == page_bytes - page_header
