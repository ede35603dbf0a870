"""The fence: what a process may reserve until it is measured again."""

from __future__ import annotations

import resource

import pytest

from kvnode.admission import fence
from kvnode.admission.fence import FENCE_SHARE_PERCENT, Fence

MIB = 1 << 20
LIMIT = 1000 * MIB
TOP = LIMIT * FENCE_SHARE_PERCENT // 100
NONE = resource.RLIM_INFINITY


class Kernel:
    """Stands for setrlimit: notes what it is told."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def __call__(self, size_bytes: int) -> None:
        self.told.append(size_bytes)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_a_process_alone_may_have_its_share_and_what_it_never_touches(kernel: Kernel) -> None:
    Fence(LIMIT, kernel).move(total_bytes=100, rss_anon_bytes=100, data_bytes=150, now_s=0)
    assert kernel.told == [TOP + 50]


def test_what_others_hold_is_not_allowed_to_it(kernel: Kernel) -> None:
    Fence(LIMIT, kernel).move(300 * MIB, 100 * MIB, 100 * MIB, 0)
    assert kernel.told == [TOP - 200 * MIB]


def test_where_others_hold_everything_nothing_more_is_allowed(kernel: Kernel) -> None:
    Fence(LIMIT, kernel).move(LIMIT, 1 * MIB, 3 * MIB, 0)
    assert kernel.told == [2 * MIB], "less than it has: all that it has stays, and nothing is added"


def test_what_was_just_reserved_is_about_to_be_touched_and_adds_nothing(kernel: Kernel) -> None:
    moved = Fence(LIMIT, kernel)
    moved.move(100 * MIB, 100 * MIB, 150 * MIB, 0.0)
    moved.move(100 * MIB, 100 * MIB, 350 * MIB, 0.1)
    moved.move(300 * MIB, 300 * MIB, 350 * MIB, 0.2)
    assert kernel.told == [TOP + 50 * MIB]


def test_a_gap_that_stays_is_allowed_after_a_second_or_two(kernel: Kernel) -> None:
    moved = Fence(LIMIT, kernel)
    moved.move(400 * MIB, 400 * MIB, 450 * MIB, 0.0)
    for tenth in range(1, 30):  # what was freed went back to the system
        moved.move(100 * MIB, 100 * MIB, 450 * MIB, tenth / 10)
    assert kernel.told == [TOP + 50 * MIB, TOP + 350 * MIB]


def test_the_kernel_is_not_told_of_trifles(kernel: Kernel) -> None:
    moved = Fence(LIMIT, kernel)
    for others in (0, 4096, MIB // 2, 2 * MIB):
        moved.move(100 * MIB + others, 100 * MIB, 100 * MIB, 0.0)
    assert kernel.told == [TOP, TOP - 2 * MIB]


def test_a_fence_is_lifted_once(kernel: Kernel) -> None:
    moved = Fence(LIMIT, kernel)
    moved.lift()
    assert kernel.told == []
    moved.move(1, 1, 1, 0.0)
    moved.lift()
    moved.lift()
    assert kernel.told == [TOP, NONE]


def test_a_hard_limit_of_the_operator_is_never_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(fence.resource, "getrlimit", lambda which: (NONE, 500))
    monkeypatch.setattr(fence.resource, "setrlimit", lambda *call: told.append(call))
    for wanted in (400, 600, NONE):
        fence.set_soft_data_limit(wanted)
    assert told == [(resource.RLIMIT_DATA, (size, 500)) for size in (400, 500, 500)]
