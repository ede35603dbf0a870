"""Labels between labels: there is always one, in order, and few have to move."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, insort
from collections.abc import Callable

import pytest

from kvnode.store.redis import list_labels
from kvnode.store.redis.list_labels import LABELS, MIDDLE, STEP, between, spread


class Labels:
    """What a list does with its labels, without the list."""

    def __init__(self, *labels: int) -> None:
        self.taken = list(labels)
        self.moved = 0

    def taken_in(self, first: int, end: int) -> list[int]:
        return self.taken[bisect_left(self.taken, first) : bisect_left(self.taken, end)]

    def insert(self, place: int) -> None:
        """Make the label that will be at this place."""
        label = between(*self.around(place))
        if label is None:
            old, new = spread(self.taken[max(place - 1, 0)], self.taken_in)
            at = bisect_left(self.taken, old[0])
            self.taken[at : at + len(old)] = new
            self.moved += len(old)
            label = between(*self.around(place))
            assert label is not None
        assert 0 <= label < LABELS
        insort(self.taken, label)
        assert self.taken[place] == label

    def around(self, place: int) -> tuple[int | None, int | None]:
        left = self.taken[place - 1] if place else None
        return left, self.taken[place] if place < len(self.taken) else None

    def check(self) -> None:
        assert self.taken == sorted(set(self.taken))


def test_labels_begin_in_the_middle_and_step_outwards() -> None:
    assert between(None, None) == MIDDLE
    assert between(MIDDLE, None) == MIDDLE + STEP
    assert between(None, MIDDLE) == MIDDLE - STEP
    assert between(4, 8) == 6


@pytest.mark.parametrize(
    ("left", "right"), [(5, 6), (LABELS - 1, None), (None, 0), (LABELS - 2, LABELS - 1)]
)
def test_where_no_number_is_left_there_is_no_label(left: int | None, right: int | None) -> None:
    assert between(left, right) is None


@pytest.mark.parametrize(("left", "right"), [(LABELS - 2, None), (None, 1), (5, 7)])
def test_the_last_number_is_taken(left: int | None, right: int | None) -> None:
    label = between(left, right)
    assert label is not None
    assert (-1 if left is None else left) < label
    assert label < (LABELS if right is None else right)


ADVERSARIES: dict[str, Callable[[int, random.Random], int]] = {
    "first": lambda count, _: 0,
    "last": lambda count, _: count,
    "before the same": lambda count, _: max(count - 100, 0),
    "behind the same": lambda count, _: min(100, count),
    "around the middle": lambda count, rng: count // 2 + rng.randint(0, 1) if count else 0,
    "anywhere": lambda count, rng: rng.randint(0, count),
}


@pytest.mark.parametrize("name", ADVERSARIES)
@pytest.mark.parametrize("step", [1, STEP])
def test_moves_are_few_wherever_nodes_are_put(
    name: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room to begin with (a step of 1) too: at most some log2(n) per node."""
    monkeypatch.setattr(list_labels, "STEP", step)
    rng = random.Random(7)
    labels = Labels()
    total = 5000
    for count in range(total):
        labels.insert(ADVERSARIES[name](count, rng))
    labels.check()
    assert labels.moved <= 4 * total * math.log2(total)


@pytest.mark.parametrize("start", [0, 1, LABELS - 1])
def test_room_is_found_at_the_ends_of_the_numbers(start: int) -> None:
    labels = Labels(start)
    for place in range(300):
        labels.insert(place if start else 0)
    labels.check()
