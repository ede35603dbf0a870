"""Metrics: declared names, bound readers, and a list for people that is never out of date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kvnode.obs.gc_pauses import GcPauses
from kvnode.obs.histogram import LOOP_BUCKETS_SECONDS, SecondsHistogram
from kvnode.obs.metrics import DECLARATIONS, FSYNC_BUCKETS_SECONDS, Metrics

METRICS_MD = Path(__file__).resolve().parents[3] / "METRICS.md"

PROMISED = {
    "kvnode_has_leader",
    "kvnode_leader_changes_seen_total",
    "kvnode_proposals_committed_total",
    "kvnode_proposals_applied_total",
    "kvnode_proposals_pending_total",
    "kvnode_proposals_failed_total",
    "kvnode_wal_fsync_seconds",
    "kvnode_wal_repairs_total",
    "kvnode_raft_steps_dropped_total",
    "kvnode_loop_lag_seconds",
    "kvnode_exits_total",
}
"""Names that dashboards of others rely on: change one only with a CHANGELOG entry."""


def listed() -> dict[str, tuple[str, str, str]]:
    """The table rows of METRICS.md: name to (kind, labels, meaning)."""
    row = re.compile(r"\| `(kvnode_\w+)` \| (\w+) \| (.*?) \| (.*) \|\n")
    rows = row.findall(METRICS_MD.read_text())
    assert len({name for name, *_ in rows}) == len(rows), "a metric is listed twice"
    return {name: (kind, labels, meaning) for name, kind, labels, meaning in rows}


def samples(metrics: Metrics) -> dict[str, float]:
    """What a scraper understands of a rendering: series to value."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        s.name + "".join(f"{{{k}={v}}}" for k, v in sorted(s.labels.items())): s.value
        for family in families
        for s in family.samples
    }


def test_the_list_for_people_and_the_code_hold_the_same_metrics() -> None:
    assert sorted(listed()) == Metrics().names()
    for declaration in DECLARATIONS:
        labels = ", ".join(f"`{label}`" for label in declaration.labels)
        assert listed()[declaration.name] == (declaration.kind, labels, declaration.help)


def test_the_promised_names_are_there() -> None:
    assert set(Metrics().names()) >= PROMISED


def test_every_metric_carries_our_prefix_and_counters_say_that_they_are() -> None:
    for declaration in DECLARATIONS:
        assert declaration.name.startswith("kvnode_")
        if declaration.kind == "counter":
            assert declaration.name.endswith("_total")


def test_a_metric_is_read_when_it_is_scraped() -> None:
    metrics, term = Metrics(), [1]
    metrics.bind("kvnode_term", lambda: term[0])
    term[0] = 7
    assert samples(metrics)["kvnode_term"] == 7


def test_a_labelled_metric_has_one_series_per_label() -> None:
    metrics = Metrics()
    metrics.bind("kvnode_exits_total", lambda: {("65",): 1, ("2",): 3})
    found = samples(metrics)
    assert found["kvnode_exits_total{code=2}"] == 3
    assert found["kvnode_exits_total{code=65}"] == 1


def test_the_name_of_the_pending_proposals_survives_although_it_is_a_gauge() -> None:
    metrics = Metrics()
    metrics.bind("kvnode_proposals_pending_total", lambda: 2)
    assert samples(metrics)["kvnode_proposals_pending_total"] == 2


def test_what_nobody_reads_is_left_out_and_can_be_found() -> None:
    metrics = Metrics()
    metrics.bind("kvnode_term", lambda: 1)
    assert "kvnode_has_leader" not in samples(metrics)
    assert "kvnode_term" not in metrics.unbound()
    assert "kvnode_has_leader" in metrics.unbound()


def test_an_undeclared_name_cannot_be_bound() -> None:
    with pytest.raises(KeyError):
        Metrics().bind("kvnode_unheard_of", lambda: 1)


def test_a_reader_that_fails_is_not_hidden() -> None:
    metrics = Metrics()
    metrics.bind("kvnode_term", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        metrics.render()


def test_two_nodes_in_one_process_share_no_metrics() -> None:
    one, two = Metrics(), Metrics()
    one.wal_fsync_seconds.observe(0.001)
    assert samples(one)["kvnode_wal_fsync_seconds_count"] == 1
    assert samples(two)["kvnode_wal_fsync_seconds_count"] == 0


def test_sync_times_are_counted_up_to_each_bound() -> None:
    metrics = Metrics()
    for seconds in (0.00005, 0.001, 0.0011, 60.0):
        metrics.wal_fsync_seconds.observe(seconds)
    found = samples(metrics)
    assert found["kvnode_wal_fsync_seconds_bucket{le=0.0001}"] == 1
    assert found["kvnode_wal_fsync_seconds_bucket{le=0.001}"] == 2, "a bound belongs to its bucket"
    assert found["kvnode_wal_fsync_seconds_bucket{le=2.5}"] == 3
    assert found["kvnode_wal_fsync_seconds_bucket{le=+Inf}"] == 4
    assert found["kvnode_wal_fsync_seconds_sum"] == pytest.approx(60.00215)
    assert sorted(FSYNC_BUCKETS_SECONDS) == list(FSYNC_BUCKETS_SECONDS)


def test_collections_of_garbage_are_counted_while_asked() -> None:
    import gc

    pauses = GcPauses()
    pauses.start()
    gc.collect()
    pauses.stop()
    counted = pauses.pauses.count
    assert counted >= 1
    assert pauses.pauses.sum >= pauses.pauses.longest > 0
    gc.collect()
    assert pauses.pauses.count == counted


def test_a_labelled_histogram_has_buckets_per_label_and_those_that_come_later() -> None:
    metrics = Metrics()
    kinds: dict[tuple[str, ...], SecondsHistogram] = {}
    kinds["apply",] = SecondsHistogram(LOOP_BUCKETS_SECONDS)
    metrics.bind_histogram("kvnode_slice_seconds", kinds)
    kinds["reads",] = SecondsHistogram(LOOP_BUCKETS_SECONDS)
    kinds["apply",].observe(0.003)
    found = samples(metrics)
    assert found["kvnode_slice_seconds_bucket{kind=apply}{le=0.002}"] == 0
    assert found["kvnode_slice_seconds_bucket{kind=apply}{le=0.005}"] == 1
    assert found["kvnode_slice_seconds_count{kind=reads}"] == 0
    with pytest.raises(KeyError):
        metrics.bind_histogram("kvnode_unheard_of", kinds)
