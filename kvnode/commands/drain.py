"""`kvnode drain`: before a node is stopped.

The order that loses nobody anything: `--check` says whether the others can do without the node,
`--wait` takes it out of service and returns when the others have taken over, and then it is
stopped. What the node does meanwhile is in `kvnode.node.draining`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from kvnode.address import Address
from kvnode.commands.admin_client import (
    Changer,
    Outcome,
    admin_option,
    fetch_status,
    only_admin,
    parse_timeout,
    password_option,
    read_password,
)
from kvnode.commands.output import complain, json_option, print_json
from kvnode.errors import ExitCode
from kvnode.limits import SPARE_ANSWER_SECONDS_MAX, STOP_GRACE_SECONDS

NO: Final = 1
"""Exit code: refused, it must not be stopped now, or it leads still."""

CHECK_SECONDS: Final = SPARE_ANSWER_SECONDS_MAX + 2.0
"""For a --check: the node answers sooner, unless it is just starting."""

POLL_SECONDS: Final = 0.1

HEARD_MS_MAX: Final = 2_000
"""A leader that was not heard for longer may be one no more."""


@click.command(
    epilog="\b\nExit codes: 0 draining (with --wait: drained; with --check: it can be stopped);\n"
    "1 refused, or it leads still (with --check: it must not be stopped now);\n"
    "64 wrong usage; 69 unreachable."
)
@click.option("--wait", "is_waiting", is_flag=True, help="Return when it can be stopped.")
@click.option("--undo", is_flag=True, help="Serve as before; a restart does that as well.")
@click.option("--check", is_flag=True, help="Only tell whether the others can do without it now.")
@click.option(
    "--timeout",
    default="30s",
    metavar="DURATION",
    help="How long to wait for leadership and clients to leave [default: 30s].",
)
@password_option
@admin_option
@json_option
def drain(
    is_waiting: bool,
    undo: bool,
    check: bool,
    timeout: str,
    password_file: Path | None,
    admins: tuple[str, ...],
    as_json: bool,
) -> int:
    """Take a node out of service before it is stopped.

    It is not ready any more but serves who is connected, and hands leadership over. With --wait:
    until another node leads, load balancers had time to notice, and clients are gone or the time is
    over.
    """
    if is_waiting + undo + check > 1:
        raise click.UsageError("--wait, --undo and --check exclude each other")
    address, seconds = only_admin(admins), parse_timeout(timeout)
    deadline = time.monotonic() + seconds
    path = "/drain/check" if check else "/drain/undo" if undo else "/drain"
    changer = Changer([address], read_password(password_file), CHECK_SECONDS if check else seconds)
    outcome = changer.ask(path, {})
    if check:
        return _tell_check(outcome, as_json=as_json)
    left = Left(_code(outcome), outcome.text)
    if is_waiting and outcome.exit_code == ExitCode.OK:
        left = wait_until_left(lambda: fetch_status(address), address, deadline)
    return _tell(left, as_json=as_json)


def _code(outcome: Outcome) -> int:
    known = (ExitCode.OK, ExitCode.UNREACHABLE)
    return outcome.exit_code if outcome.exit_code in known else NO


def _tell_check(outcome: Outcome, *, as_json: bool) -> int:
    code = _code(outcome)
    reasons = [] if code == ExitCode.OK else outcome.text.splitlines()
    if as_json:
        print_json({"can_stop": code == ExitCode.OK, "reasons": reasons})
    elif code == ExitCode.UNREACHABLE:
        complain(outcome.text)
    else:
        click.echo("\n".join(reasons) if reasons else outcome.text)
    return code


# --- waiting ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Left:
    """How a draining ended.

    Attributes:
        code: the exit code.
        text: one sentence.
        leader: who leads, as far as that is known.
        clients: how many are connected still; None while nobody waited for them.
    """

    code: int
    text: str
    leader: str | None = None
    clients: int | None = None


def _tell(left: Left, *, as_json: bool) -> int:
    if as_json:
        document = {"leader": left.leader, "clients": left.clients}
        print_json({"ok": left.code == ExitCode.OK, "text": left.text, **document})
    elif left.code == ExitCode.OK:
        click.echo(left.text)
    else:
        complain(left.text)
    return left.code


def wait_until_left(
    ask: Callable[[], dict[str, Any] | str],
    address: Address,
    deadline: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Left:
    """Wait until another node leads and the clients are gone, or until the deadline.

    Args:
        ask: gets the node's status, or why it cannot be had.
        deadline: on the clock, which tells seconds.
    """
    balanced_at = clock() + STOP_GRACE_SECONDS
    while True:
        status, now = ask(), clock()
        if isinstance(status, str):
            return Left(ExitCode.UNREACHABLE, f"{address} is unreachable: {status}")
        name, leader, clients = status.get("node"), status.get("leader"), status.get("clients", 0)
        if not status.get("draining"):
            return Left(NO, f"{name} is not draining any more", leader)
        why = why_not_left(status)
        if not why and now >= balanced_at and (not clients or now >= deadline):
            rest = f"; clients left: {clients}" if clients else ""
            return Left(ExitCode.OK, f"{name} is drained, {leader} leads{rest}", leader, clients)
        if why and now >= deadline:
            return Left(NO, f"{name} is draining, but {why}", leader, clients)
        pause(POLL_SECONDS)


def why_not_left(status: dict[str, Any]) -> str:
    """Why a node cannot be stopped yet without an election, by its own status; "" if it can."""
    members = status.get("members", [])
    voters = [one["name"] for one in members if one.get("role") not in ("learner", "leaving")]
    if voters == [status.get("node")]:
        return ""  # nobody else can lead
    leader = status.get("leader")
    if leader is None:
        return "no leader is known"
    if leader == status.get("node"):
        return "it leads still"
    heard_ms = next((one.get("heard_ms") for one in members if one["name"] == leader), None)
    if heard_ms is None or heard_ms > HEARD_MS_MAX:
        return f"it does not hear the leader, {leader}"
    return ""
