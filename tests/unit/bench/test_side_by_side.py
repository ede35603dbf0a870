"""The rules of a fair comparison: turns, ratios within a round, and who is left out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts.bench import side_by_side
from scripts.bench.measure import BenchFailed, MachineTime
from scripts.bench.peers import Answer, Peer, Unavailable, prepare
from scripts.bench.side_by_side import Bystanders, Cell, Run, ratio, requests_for, text, verdicts

FACTS: dict[str, Any] = {
    "machine": {
        "cpu": "a processor",
        "cores": 2,
        "kernel": "6",
        "python": "3",
        "load_1m": 0.0,
        "file_system": "ext4",
        "fdatasync": {"median_us": 80.0, "p99_us": 100.0},
    },
    "leader_changes": "",
    "bystanders": {"others": 0.0, "stolen": 0.0},
}


class Fake(Peer):
    """Answers what it is told to, without a process."""

    def __init__(
        self,
        directory: Path,
        name: str,
        speeds: Sequence[float] = (),
        log: list[str] | None = None,
        installed: bool = True,
    ) -> None:
        super().__init__(directory / name)
        self.name = name
        self.promise = "nothing"
        self.stopped = False
        self._speeds = iter(speeds)
        self._log = [] if log is None else log
        self._installed = installed

    def start(self) -> None:
        if not self._installed:
            raise Unavailable("it is not installed")

    def ask(self, command: str, clients: int, requests: int) -> Answer:
        self._log.append(f"{self.name} {command}")
        speed = next(self._speeds, None)
        if speed is None:
            raise BenchFailed("it fell over")
        return Answer(speed, 1.0, 2.0)

    def stop(self) -> None:
        self.stopped = True


def both(*speeds: float) -> list[float]:
    """Speeds for SET, and the same for GET; the first pair is the warm-up's."""
    return [speed for speed in (1.0, *speeds) for _ in ("SET", "GET")]


def run_of(peers: Sequence[Peer], rounds: int) -> Run:
    run = Run(peers, [256], 0.1)
    run.start()
    run.take_rounds(rounds, time.monotonic())
    return run


def test_systems_take_turns_within_each_round(tmp_path: Path) -> None:
    log: list[str] = []
    peers = [Fake(tmp_path, name, both(5, 5), log) for name in ("kvnode", "etcd")]
    run_of(peers, 2)
    assert log == ["kvnode SET", "kvnode GET", "etcd SET", "etcd GET"] * 3


def test_a_ratio_is_the_median_of_the_ratios_within_rounds(tmp_path: Path) -> None:
    """A slow minute hits both; medians of each side would pair a good round with a bad one."""
    ours, theirs = [10.0, 30.0, 20.0], [10.0, 10.0, 20.0]
    run = run_of([Fake(tmp_path, "kvnode", both(*ours)), Fake(tmp_path, "etcd", both(*theirs))], 3)
    assert statistics.median(ours) / statistics.median(theirs) == 2.0
    assert ratio(run, Cell(256, "SET", "etcd")) == 1.0


def test_the_warm_up_is_not_measured(tmp_path: Path) -> None:
    run = run_of([Fake(tmp_path, "kvnode", both(7))], 1)
    assert run.measured[Cell(256, "SET", "kvnode")].ops_per_s == [7]


def test_who_is_not_installed_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    run = run_of([Fake(tmp_path, "kvnode", both(7)), Fake(tmp_path, "etcd", installed=False)], 1)
    assert run.left_out == ["etcd is left out: it is not installed"]
    assert "etcd is left out: it is not installed" in text(run, FACTS)
    assert verdicts(run) == []


def test_who_falls_over_loses_all_its_figures_and_its_processes(tmp_path: Path) -> None:
    etcd = Fake(tmp_path, "etcd", both(7))
    run = run_of([Fake(tmp_path, "kvnode", both(7, 7)), etcd], 2)
    assert {cell.system for cell in run.measured} == {"kvnode"}
    assert run.left_out == ["etcd is left out: it fell over"]
    assert etcd.stopped


def test_without_the_first_system_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match="it fell over"):
        run_of([Fake(tmp_path, "kvnode", both()), Fake(tmp_path, "etcd", both(7))], 1)


def test_no_round_begins_after_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "RUN_SECONDS_MAX", 0.0)
    assert run_of([Fake(tmp_path, "kvnode", both(*[7] * 9))], 9).rounds == 1


@pytest.mark.parametrize(
    ("clients", "wanted", "requests"),
    [(1, 0.0, 200), (1000, 10.0, 8000), (256, 5e4, 50_000), (256, 1e12, 2_000_000)],
)
def test_requests_keep_every_client_busy_and_have_a_bound(
    clients: int, wanted: float, requests: int
) -> None:
    assert requests_for(clients, wanted) == requests


@pytest.mark.parametrize(("speed", "word"), [(22.0, "reached"), (21.9, "missed")])
def test_a_target_is_reached_or_missed_in_so_many_words(
    tmp_path: Path, speed: float, word: str
) -> None:
    run = run_of([Fake(tmp_path, "kvnode", both(speed)), Fake(tmp_path, "etcd", both(10))], 1)
    assert verdicts(run)[0].startswith("SET at 256 clients")
    assert verdicts(run)[0].endswith(word)


def test_a_disturbed_run_says_so_itself(tmp_path: Path) -> None:
    run = run_of([Fake(tmp_path, "kvnode", both(7))], 1)
    assert "do not quote it" not in text(run, FACTS)
    crowded = {**FACTS, "bystanders": {"others": 0.2, "stolen": 0.11}}
    assert "0.31 cores were taken by others" in text(run, crowded)


@pytest.mark.parametrize(("used_by_all", "disturbed"), [(15.0, False), (1e9, True)])
def test_what_we_use_ourselves_is_not_taken_for_somebody_elses(
    monkeypatch: pytest.MonkeyPatch, used_by_all: float, disturbed: bool
) -> None:
    """Of the machine's five seconds, 10 to 15, the load generators used 3 and this process 2."""
    clocks: dict[str, list[Any]] = {
        "machine_time": [MachineTime(10.0, 0.0), MachineTime(used_by_all, 0.0)],
        "client_cpu_seconds": [1.0, 4.0],
        "own_cpu_seconds": [1.0, 3.0],
    }
    for name, values in clocks.items():
        monkeypatch.setattr(side_by_side, name, iter(values).__next__)
    assert (Bystanders().cores([])["others"] > 0) == disturbed


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["kvnode-is-no-such-program"], "why: no program kvnode-is-no-such-program"),
        (["sh", "-c", "echo first >&2; echo last >&2; exit 3"], "why: last"),
        (["sh", "-c", "exit 3"], "why: status 3"),
    ],
)
def test_what_cannot_be_prepared_is_told_in_one_line(command: list[str], said: str) -> None:
    with pytest.raises(Unavailable) as failure:
        prepare(command, "why")
    assert str(failure.value) == said
