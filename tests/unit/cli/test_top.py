"""`kvnode top`: one table of what nodes say of themselves and of each other."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kvnode import cli
from kvnode.commands.output import table_lines
from kvnode.commands.top import (
    HEADER,
    Sample,
    cells,
    parse_loop_lags,
    quantile_ms,
    rows_of,
)
from tests.support.fake_admin import FakeNode

INF = float("inf")


def top(*arguments: str, **environment: str) -> Result:
    unset = {key: None for key in os.environ if key.startswith("KVNODE_")}
    return CliRunner().invoke(
        cli.program, ["top", *arguments], prog_name="kvnode", env=unset | environment
    )


def member(name: str, role: str, lag: int | None, **more: object) -> dict[str, object]:
    return {"name": name, "role": role, "lag": lag, "connected": True} | more


MEMBERS = [
    member("n1", "leader", 0, connected=None),
    member("n2", "follower", 3),
    member("n3", "follower", 1204, draining=True),
    member("n4", "learner", None, connected=False),
]


def status_of(name: str, role: str, applied: int, **more: Any) -> dict[str, Any]:
    members = MEMBERS if role == "leader" else [one | {"lag": None} for one in MEMBERS]
    return {
        "node": name,
        "role": role,
        "term": 7,
        "applied": applied,
        "ready": True,
        "clients": 16,
        "version": "0.1.0",
        "load": {"commands_per_second": 1234.5},
        "memory": {"rung": "calm", "rss_anon_bytes": 82 << 20},
        "members": members,
    } | more


def sample(at_s: float, status: dict[str, Any], **lags: float) -> Sample:
    buckets = {INF if bound == "inf" else float(bound[1:]) / 1000: n for bound, n in lags.items()}
    return Sample(f"h:{status['node'][1:]}", at_s, status, loop_lags=buckets)


def test_the_table_of_an_update() -> None:
    before = [
        sample(10.0, status_of("n1", "leader", 1000), b1=100, b5=100, inf=100),
        sample(10.0, status_of("n2", "follower", 900), b1=50, b5=50, inf=50),
        Sample("h:3", 10.0, error="refused"),
        sample(10.0, {"node": "n5", "role": "held", "fatal": {"exit_code": 65}}),
    ]
    after = [
        sample(12.0, status_of("n1", "leader", 3001), b1=199, b5=200, inf=200),
        sample(
            12.0,
            status_of("n2", "follower", 2900, draining=True, ready=False, memory={}, clients=0),
            b1=100,
            b5=149,
            inf=150,
        ),
        Sample("h:3", 12.0, error="connection refused"),
        sample(12.0, {"node": "n5", "role": "held", "fatal": {"exit_code": 65}}),
    ]
    table = table_lines([HEADER, *map(cells, rows_of(before, after))])
    # fmt: off
    assert table == [
        "NODE  ROLE      TERM  LAG   APPLIED/S  COMMANDS/S  CLIENTS  LOOP P99  MEMORY    VERSION  STATE",  # noqa: E501
        "h:3   -         -     -     -          -           -        -         -         -        silent: connection refused",  # noqa: E501
        "n1    leader    7     0     1000       1234        16       1 ms      calm 82M  0.1.0    ready",  # noqa: E501
        "n2    follower  7     3     1000       1234        0        5 ms      -         0.1.0    draining",  # noqa: E501
        "n3    follower  -     1204  -          -           -        -         -         -        draining",  # noqa: E501
        "n4    learner   -     -     -          -           -        -         -         -        not connected",  # noqa: E501
        "n5    held      -     -     -          -           -        -         -         -        held: exit 65",  # noqa: E501
    ]
    # fmt: on


def test_without_the_leader_nobody_knows_who_is_behind() -> None:
    samples = [sample(1.0, status_of("n2", "follower", 5))]
    rows = {row["node"]: row for row in rows_of(samples, samples)}
    assert list(rows) == ["n1", "n2", "n3", "n4"]
    assert {row.get("lag") for row in rows.values()} == {None}
    assert rows["n2"]["applied_per_second"] is None, "two looks at the same time tell no rate"


def test_a_node_that_lost_what_it_had_applied_between_two_looks_has_no_rate() -> None:
    before = [sample(1.0, status_of("n1", "leader", 50))]
    (row, *_) = rows_of(before, [sample(2.0, status_of("n1", "leader", 5))])
    assert (row["node"], row["applied_per_second"]) == ("n1", None)


# --- the loop's lag -----------------------------------------------------------------------------

METRICS = """# HELP kvnode_loop_lag_seconds How late
kvnode_loop_lag_seconds_bucket{le="0.001"} 98.0
kvnode_loop_lag_seconds_bucket{le="0.005"} 99.0
kvnode_loop_lag_seconds_bucket{le="+Inf"} 100.0
kvnode_loop_lag_seconds_sum 1.0
kvnode_gc_pause_seconds_bucket{le="0.001"} 7.0
"""


def test_lags_are_read_from_the_metrics_and_counted_between_two_looks() -> None:
    lags = parse_loop_lags(METRICS)
    assert lags == {0.001: 98, 0.005: 99, INF: 100}
    none = dict.fromkeys(lags, 0.0)
    assert quantile_ms(none, lags) == 5
    assert quantile_ms(none, lags | {0.001: 99}) == 1
    assert quantile_ms(none, lags | {0.001: 0, 0.005: 0}) == 5, "above the last bound"
    assert quantile_ms(lags, lags) is None
    assert quantile_ms({}, lags) is None
    assert quantile_ms(lags, {}) is None


# --- the command --------------------------------------------------------------------------------


def test_one_table_or_one_document() -> None:
    node = FakeNode((200, {}), status=status_of("n1", "leader", 9))
    try:
        arguments = ("--once", "--interval", "1ms", "--admin", node.address)
        table = top(*arguments).stdout.splitlines()
        assert [line.split()[0] for line in table] == ["NODE", "n1", "n2", "n3", "n4"]
        result = top(*arguments, "--json")
        document = json.loads(result.stdout)
        assert result.exit_code == 0
        assert document["nodes"][0]["commands_per_second"] == 1234.5
        assert document["nodes"][2]["draining"] is True
    finally:
        node.close()


def nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_nobody_there_is_69_if_it_is_asked_once() -> None:
    result = top("--once", "--interval", "1ms", "--admin", nowhere())
    assert result.exit_code == 69
    assert "silent: " in result.stdout


def test_it_goes_on_until_ctrl_c_and_that_is_no_error() -> None:
    arguments = ("top", "--json", "--interval", "10ms", "--admin", nowhere())
    with subprocess.Popen(
        [sys.executable, "-m", "kvnode.cli", *arguments], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(3):
            assert json.loads(child.stdout.readline())["nodes"]
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(30) == 0


@pytest.mark.parametrize("arguments", [["--interval", "x"], ["--admin", "x"]])
def test_wrong_usage_is_64(arguments: list[str]) -> None:
    assert top(*arguments).exit_code == 64
