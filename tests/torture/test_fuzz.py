"""The short form of the fuzzer, and proof that its rules can be broken."""

from __future__ import annotations

import time
from dataclasses import replace
from random import Random

import pytest

from tests.torture import fuzz
from tests.torture.fuzz import BLOCK_INPUTS, Tally, Wrong, check, check_state, run_block
from tests.torture.mutate import NAMES, Base, make_base
from wal.format import Identity
from wal.scan import Damage, Scan, Verdict, scan
from wal.state import State, StateCopy, decode_state, encode_state

BLOCKS = 6


def good_segment() -> tuple[Base, Scan]:
    """A base of several records, and its scan."""
    random = Random(20261120)
    while True:
        base = make_base(random)
        header = base.header
        if len(base.groups) > 2 and len(base.records) > 4:
            chain, last = header.previous_chain, header.first_index - 1
            return base, scan(base.data, header, chain=chain, last_index=last)


def test_spoilt_bytes_are_judged_and_never_raise() -> None:
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    tally = Tally()
    for block in range(BLOCKS):
        tally.add(run_block(seed, block))
    assert tally.failures == []
    assert tally.inputs == BLOCKS * BLOCK_INPUTS
    assert tally.measured == BLOCKS
    # Void unless each mutation was tried, and each verdict was met.
    assert {mutation for mutation, _ in tally.verdicts} == set(NAMES)
    assert tally.rare() == []
    assert min(tally.states["read"], tally.states["refused"]) > 100


def test_a_block_is_the_same_whenever_it_is_tried() -> None:
    def outcome(seed: int) -> tuple[object, ...]:
        tally = run_block(seed, 3, 200)  # peaks of memory are not compared: they vary
        return tally.verdicts, tally.states, tally.records

    assert outcome(7) == outcome(7)
    assert outcome(7) != outcome(8)


def test_base_segments_are_clean() -> None:
    random = Random(20261120)
    for _ in range(200):
        base = make_base(random)
        header = base.header
        chain, last = header.previous_chain, header.first_index - 1
        found = scan(base.data, header, chain=chain, last_index=last)
        assert found.verdict is Verdict.CLEAN
        assert found.end == base.end
        assert [record.offset for record in found.records] == list(base.records)


def test_what_the_scanner_got_wrong_is_noticed() -> None:
    base, found = good_segment()
    check(base.data, base.header, found)
    damage = Damage(0, "damage")
    at = found.records[1].payload_start
    other_payload = base.data[:at] + b"?" + base.data[at + 1 :]
    other_header = base.data[: at - 8] + b"?" + base.data[at - 7 :]
    other_pad = base.data[: found.end - 1] + b"?" + base.data[found.end :]
    behind = base.data[:-1] + b"?"
    wrong: list[tuple[bytes, Scan]] = [
        (other_payload, found),
        (other_header, found),
        (other_pad, found),
        (behind, found),
        (base.data[: found.end], found),
        (base.data[: found.end - 9], found),
        (base.data, replace(found, records=found.records[:-1])),
        (base.data, replace(found, records=found.records[1:])),
        (base.data, replace(found, end=found.end + 512)),
        (base.data, replace(found, chain=found.chain ^ 1)),
        (base.data, replace(found, damage=damage)),
        (base.data, replace(found, verdict=Verdict.TORN)),
        (base.data, replace(found, verdict=Verdict.TORN, damage=damage, witness=found.end + 1)),
        (base.data, replace(found, verdict="clean")),  # type: ignore[arg-type]
    ]
    for number, (data, claimed) in enumerate(wrong):
        try:
            check(data, base.header, claimed)
        except Wrong:
            continue
        pytest.fail(f"mistake {number} was not noticed")


def test_a_state_that_was_never_written_is_noticed() -> None:
    data = encode_state(State(term=3, vote=1), Identity(1, 2), 5)
    copy = decode_state(data)
    assert copy is not None
    check_state(data, copy)
    wrong: list[tuple[bytes, StateCopy]] = [
        (data[:40] + bytes([data[40] ^ 1]) + data[41:], copy),
        (data, replace(copy, generation=copy.generation ^ 1)),
    ]
    for sector, claimed in wrong:
        with pytest.raises(Wrong):
            check_state(sector, claimed)


def test_work_beyond_the_bounds_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    base, _ = good_segment()
    fuzz.measured(Tally(), base.data, base)
    for bound in ("CALLS_PER_BYTE", "MEMORY_PER_BYTE"):
        with monkeypatch.context() as patch:
            patch.setattr(fuzz, bound, -1.0)
            with pytest.raises(Wrong):
                fuzz.measured(Tally(), base.data, base)


def test_an_answer_that_changes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    base, _ = good_segment()
    ends = iter((1, 2))

    def fickle(*data: object, **more: object) -> Scan:
        return replace(scan(*data, **more), end=next(ends))  # type: ignore[arg-type]

    monkeypatch.setattr(fuzz, "scan", fickle)
    with pytest.raises(Wrong, match="two readings differ"):
        fuzz.measured(Tally(), base.data, base)


def test_a_failure_names_its_block_and_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*data: object, **more: object) -> Scan:
        raise IndexError("out of range")

    monkeypatch.setattr(fuzz, "scan", broken)
    tally = run_block(5, 9)
    assert tally.failures == ["seed 5 block 9 input 0: IndexError('out of range')"]
