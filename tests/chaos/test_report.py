"""The report shows what happened; a violation comes with the few operations that it is made of."""

from __future__ import annotations

import random
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.chaos import charts
from tests.chaos.checks.judgement import Judgement
from tests.chaos.checks.registers import READ, WRITE, check_register, refuted
from tests.chaos.checks.smallest import smallest
from tests.chaos.digest import digest, pauses_ms, quantile, spread
from tests.chaos.record import Disturbance, Entry, Incident, Leadership, Record
from tests.chaos.report import Chronicle, publish, render
from tests.support.history import Outcome
from tests.support.linearizability import Verdict

SECOND = 1_000_000_000


def write(node: str, begin: float, end: float, outcome: Outcome = Outcome.DONE) -> Entry:
    return Entry(
        *("registers", 0, node, "write", "k"),
        int(begin * SECOND),
        "v",
        None,
        outcome,
        int(end * SECOND),
    )


def stormy() -> Record:
    """Ten seconds with two kills of the leader."""
    record = Record(entries=[write("n2", n / 10, n / 10 + 0.05) for n in range(100)])
    record.entries.append(write("n1", 2.1, 3, Outcome.UNKNOWN))
    for since in (2, 6):
        kill = Disturbance("kill", "processes", ["n1"], since * SECOND, kills=True)
        kill.healed_ns = kill.until_ns = (since + 2) * SECOND
        kill.was_leader, kill.evidence, kill.excused = True, "killed <n1>", ["n1"]
        record.disturbances.append(kill)
    record.leaders = [Leadership(0, "n1", 1), Leadership(3 * SECOND, "n2", 2)]
    record.incidents = [Incident(0, "n1", 2 * SECOND, 3 * SECOND, "connection lost")]
    return record


class Page(HTMLParser):
    """Checks that every tag is closed, and that nothing comes from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_says_what_happened_and_needs_nothing_from_elsewhere() -> None:
    record, judgement = stormy(), Judgement()
    chronicle = Chronicle(
        {"seed": 7}, "python -m tests.chaos --seed 7", [digest(record, judgement)]
    )
    page = Page(render(chronicle, judgement))
    assert page.open == []
    assert page.links == []
    for words in (
        "Nothing found",
        "python -m tests.chaos --seed 7",
        "kill",
        "killed <n1>",
        "n2 leads",
        "registers 100",
    ):
        assert words in page.words


def test_a_violation_comes_first_with_its_operations(tmp_path: Path) -> None:
    judgement = Judgement()
    judgement.violate("k: not linearizable", [write("n1", 1, 2)])
    chronicle = Chronicle(digests=[digest(stormy(), judgement)])
    log = tmp_path / "n1.log"
    log.write_text("last words")
    page = publish(tmp_path / "report", chronicle, judgement, [log])
    words = Page(page.read_text()).words
    assert "1 violations" in words
    assert "client 0 at n1" in words
    assert (tmp_path / "report" / "n1.log").read_text() == "last words"
    story = (tmp_path / "report" / "window-1.txt").read_text()
    assert story.startswith("k: not linearizable")
    assert story.index("client 0 at n2") < story.index("-- kill on n1 begins (killed <n1>)")
    assert "is healed" not in story


def test_an_empty_run_makes_a_page_too() -> None:
    empty = Chronicle(digests=[digest(Record(), Judgement())])
    assert Page(render(empty, Judgement(void=["too calm"]))).words.count("too calm") == 1


def test_pauses_are_from_the_kill_to_a_write_that_began_after_it() -> None:
    record = stormy()
    assert pauses_ms(record) == [pytest.approx(50), pytest.approx(50)]
    record.entries = [one for one in record.entries if not 2 <= one.invoked_ns / SECOND < 3.5]
    assert pauses_ms(record) == [pytest.approx(1550), pytest.approx(50)]
    stop = Disturbance("stop", "processes", ["n3"], 3 * SECOND, 4 * SECOND, 4 * SECOND)
    assert len(pauses_ms(Record(record.entries, [], [*record.disturbances, stop]))) == 1
    record.disturbances[0].targets.append("n2")
    assert len(pauses_ms(record)) == 1


def test_latencies_are_those_of_what_was_acknowledged() -> None:
    bins = digest(stormy(), Judgement()).bins
    assert sum(one.done for one in bins) == 100
    assert sum(one.unknown for one in bins) == 1
    assert {round(one.max_ms) for one in bins} == {50}


def test_quantiles() -> None:
    assert quantile([], 0.5) == 0
    assert [quantile([1, 2, 3, 4], share) for share in (0.0, 0.5, 0.75, 1.0)] == [1, 2, 3, 4]
    assert spread([1.0, 2.0, 3.0]) == "3; p50 2, p99 3, max 3 ms"


def test_a_curve_that_is_thinned_keeps_its_peaks() -> None:
    points = [(n, 1.0) for n in range(10 * charts.POINTS_MAX)]
    points[777] = (777, 99.0)
    shown = charts.thinned(points)
    assert len(shown) <= charts.POINTS_MAX
    assert max(value for _, value in shown) == 99
    assert [charts.nice(value) for value in (0.9, 1, 1.2, 3, 7, 480)] == [1, 1, 2, 5, 10, 500]


def test_of_a_long_history_the_few_operations_that_contradict_each_other_are_left() -> None:
    rng = random.Random(11)
    entries: list[Entry] = []
    values = [f"{number}" for number in range(200)]
    for number, value in enumerate(values):
        at = 10 * number
        entries.append(Entry("r", 0, "n1", WRITE, "k", at, value, None, Outcome.DONE, at + 5))
        for _ in range(rng.randint(0, 3)):
            begin = at + rng.randint(5, 8)
            entries.append(
                Entry("r", 1, "n2", READ, "k", begin, None, value, Outcome.DONE, begin + 1)
            )
    judgement = Judgement()
    check_register("k", entries, judgement)
    assert judgement.violations == []
    stale = Entry("r", 1, "n2", READ, "k", 1509, None, values[120], Outcome.DONE, 1510)
    check_register("k", [*entries, stale], judgement)
    (window,) = judgement.windows
    assert stale in window.entries
    assert len(window.entries) <= 4
    assert refuted(window.entries, None).verdict is Verdict.VIOLATION


def test_what_is_left_out_never_makes_a_good_history_bad() -> None:
    """A write whose value somebody saw stays as long as that one does."""
    wrote = Entry("r", 0, "n1", WRITE, "k", 1, "a", None, Outcome.DONE, 2)
    saw = Entry("r", 1, "n1", READ, "k", 3, None, "a", Outcome.DONE, 4)
    stale = Entry("r", 1, "n1", READ, "k", 5, None, None, Outcome.DONE, 6)
    assert smallest([wrote, saw, stale], lambda part: stale in part and len(part) > 1) == [
        wrote,
        stale,
    ]
    assert smallest([wrote, saw], lambda part: saw in part) == [wrote, saw]
