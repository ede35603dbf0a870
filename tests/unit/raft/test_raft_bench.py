"""The bench of the core runs, and commits what it proposes."""

from __future__ import annotations

from scripts.bench import raft as bench


def test_the_bench_measures_every_cell() -> None:
    figures = bench.measure(entries=20, rounds=1)
    cells = figures["cells"]
    assert isinstance(cells, list)
    assert len(cells) == len(bench.GROUPS) * len(bench.PAYLOADS_BYTES) * len(bench.PASSES_OF)
