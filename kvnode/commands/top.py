"""`kvnode top`: the nodes at a glance, again and again.

Made to watch an update or an attack with. A row is what a node says of itself; of members that were
not asked it is what those that were say of them, as far as that goes. Rates and the lag of the
loop are of the time between two looks. How far a member is behind only the leader knows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import click

from kvnode.address import Address
from kvnode.commands.admin_client import admin_addresses, admin_option, fetch, fetch_status
from kvnode.commands.output import json_option, print_json, table_lines
from kvnode.config.values import parse_duration_ms
from kvnode.errors import ExitCode, UsageError

ANSWER_SECONDS_MAX: Final = 2.0
"""A node that takes longer is shown as silent: the others' rows must not wait for it."""

QUANTILE: Final = 0.99

CLEAR: Final = "\x1b[H\x1b[2J"
"""Of a terminal: to the top left, and nothing on the screen (ECMA-48: CUP, ED)."""

HEADER: Final = (
    *("NODE", "ROLE", "TERM", "LAG", "APPLIED/S", "COMMANDS/S", "CLIENTS"),
    *("LOOP P99", "MEMORY", "VERSION", "STATE"),
)

Buckets = dict[float, float]
"""How many ticks since the start were at most so many seconds late."""


@click.command(
    epilog="\b\nExit codes: 0 shown, until Ctrl-C; 64 wrong usage; 69 nobody answered (--once)."
)
@admin_option
@click.option(
    "--interval", default="1s", metavar="DURATION", help="Between two looks [default: 1s]."
)
@click.option("--once", is_flag=True, help="Look twice, show one table, and end.")
@json_option
def top(admins: tuple[str, ...], interval: str, once: bool, as_json: bool) -> int:
    """Show nodes, roles, lag, rates and memory, again and again, until Ctrl-C.

    With --json there is one document per line, or one in all with --once.
    """
    try:
        seconds = parse_duration_ms(interval) / 1000
    except ValueError as error:
        raise UsageError(f"--interval: {error}") from error
    addresses = admin_addresses(admins)
    try:
        before = look(addresses)
        while True:
            time.sleep(seconds)
            after = look(addresses)
            _show(rows_of(before, after), is_only_one=once, as_json=as_json)
            if once:
                answers = any(sample.status for sample in after)
                return ExitCode.OK if answers else ExitCode.UNREACHABLE
            before = after
    except KeyboardInterrupt:
        return ExitCode.OK


def _show(rows: Sequence[dict[str, Any]], *, is_only_one: bool, as_json: bool) -> None:
    if as_json and is_only_one:
        print_json({"nodes": rows})
    elif as_json:
        import json

        click.echo(json.dumps({"nodes": rows}))
    else:
        # click leaves the control sequence out where nobody looks at a terminal.
        head = "" if is_only_one else CLEAR
        click.echo(head + "\n".join(table_lines([HEADER, *map(cells, rows)])))


# --- looking ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """What one node said at one time.

    Attributes:
        address: its admin port.
        at_s: when, on a clock that never goes back.
        status: its status document; empty if there is none.
        error: why there is none.
        loop_lags: of its event loop; empty while there are none.
    """

    address: str
    at_s: float
    status: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    loop_lags: Buckets = field(default_factory=dict)


def look(addresses: Sequence[Address]) -> list[Sample]:
    """Ask all nodes, at the same time."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(addresses)) as threads:
        return list(threads.map(_look_at, addresses))


def _look_at(address: Address) -> Sample:
    status = fetch_status(address, ANSWER_SECONDS_MAX)
    now = time.monotonic()
    if isinstance(status, str):
        return Sample(str(address), now, error=status)
    metrics = fetch(address, "/metrics", ANSWER_SECONDS_MAX)
    lags = {} if isinstance(metrics, str) else parse_loop_lags(metrics.decode(errors="replace"))
    return Sample(str(address), now, status, loop_lags=lags)


def parse_loop_lags(metrics: str) -> Buckets:
    """Find the buckets of the loop's lags in the Prometheus text format."""
    found = re.findall(
        r'^kvnode_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', metrics, re.MULTILINE
    )
    return {float(bound): float(count) for bound, count in found}


def quantile_ms(before: Buckets, after: Buckets) -> float | None:
    """Bound the lag of all but one percent of the ticks between two looks, in milliseconds.

    The figure is the upper end of a bucket, of the last but one at most. None without ticks.
    """
    bounds = sorted(after)
    total = after[bounds[-1]] - before.get(bounds[-1], 0.0) if bounds else 0.0
    if not before or total <= 0:
        return None
    finite = [bound for bound in bounds if bound != float("inf")]
    within = (one for one in finite if after[one] - before.get(one, 0.0) >= total * QUANTILE)
    return next(within, finite[-1]) * 1000


# --- rows ---------------------------------------------------------------------------------------


def rows_of(before: Sequence[Sample], after: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return what to show of each node, by name: those that answered, then those told of."""
    earlier = {sample.address: sample for sample in before}
    statuses = [sample.status for sample in after if sample.status]
    view = next((one for one in statuses if one.get("role") == "leader"), None)
    told = {one["name"]: one for one in (view or next(iter(statuses), {})).get("members", [])}
    lags = {one["name"]: one.get("lag") for one in (view or {}).get("members", [])}
    rows = [
        _row(earlier.get(sample.address, sample), sample) | {"lag": lags.get(_name(sample))}
        for sample in after
    ]
    shown = {row["node"] for row in rows}
    rows += [_told_row(one) for name, one in told.items() if name not in shown]
    return sorted(rows, key=lambda row: str(row["node"]))


def _name(sample: Sample) -> str:
    return str(sample.status.get("node") or sample.address)


def _row(before: Sample, after: Sample) -> dict[str, Any]:
    status, memory = after.status, after.status.get("memory", {})
    late_ms = quantile_ms(before.loop_lags, after.loop_lags)
    return {
        "node": _name(after),
        "role": status.get("role"),
        "term": status.get("term"),
        "applied_per_second": _rate(before, after),
        "commands_per_second": status.get("load", {}).get("commands_per_second"),
        "clients": status.get("clients"),
        "loop_lag_p99_ms": None if late_ms is None else round(late_ms, 3),
        "rung": memory.get("rung"),
        "memory_bytes": memory.get("rss_anon_bytes"),
        "version": status.get("version"),
        "draining": bool(status.get("draining")),
        "state": _state(after),
    }


def _rate(before: Sample, after: Sample) -> float | None:
    seconds = after.at_s - before.at_s
    applied, earlier = after.status.get("applied"), before.status.get("applied")
    if seconds <= 0 or applied is None or earlier is None or applied < earlier:
        return None
    return round(float(applied - earlier) / seconds, 1)


def _state(sample: Sample) -> str:
    status = sample.status
    if not status:
        return f"silent: {sample.error}"
    if fatal := status.get("fatal"):
        return f"held: exit {fatal.get('exit_code')}"
    if status.get("draining"):
        return "draining"
    if status.get("recovering"):
        return "recovering"
    return "ready" if status.get("ready") else "not ready"


def _told_row(member: dict[str, Any]) -> dict[str, Any]:
    """Of a member that was not asked, or did not answer."""
    state = "recovering" if member.get("recovering") else "not asked"
    if member.get("connected") is False:
        state = "not connected"
    return {
        "node": member["name"],
        "role": member.get("role"),
        "lag": member.get("lag"),
        "draining": bool(member.get("draining")),
        "state": "draining" if member.get("draining") else state,
    }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Write a row of the table."""
    late_ms, held = row.get("loop_lag_p99_ms"), row.get("memory_bytes")
    memory = " ".join(text for text in (row.get("rung"), held and f"{held / 2**20:.0f}M") if text)
    numbers = ("term", "lag", "applied_per_second", "commands_per_second", "clients")
    return (
        str(row["node"]),
        str(row.get("role") or "-"),
        *("-" if row.get(name) is None else f"{row[name]:.0f}" for name in numbers),
        "-" if late_ms is None else f"{late_ms:g} ms",
        memory or "-",
        str(row.get("version") or "-"),
        str(row["state"]),
    )
