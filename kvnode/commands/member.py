"""`kvnode member`: who takes part in the cluster, and changing that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from kvnode.address import parse_address
from kvnode.commands.admin_client import (
    Changer,
    admin_addresses,
    admin_option,
    fetch_status,
    parse_timeout,
    password_option,
    read_password,
)
from kvnode.commands.output import complain, json_option, print_json, print_table
from kvnode.config.values import parse_name
from kvnode.errors import ExitCode, UsageError

Command = TypeVar("Command", bound=Callable[..., Any])

CHANGE_EXIT_CODES = (
    "\b\nExit codes: 0 done, 1 refused, 64 wrong usage, 69 unreachable,\n"
    "75 nobody could decide in time (it can be asked for again)."
)


@click.group()
def member() -> None:
    """See who takes part in the cluster, and change it.

    Members are called by name or by id (16 hex digits). Any member may be asked; the leader
    decides. A new one comes by itself, with `kvnode serve --join`.
    """


def change_options(command: Command) -> Command:
    """Give a command the options of all that ask for a change."""
    for add in (
        password_option,
        click.option(
            "--timeout",
            default="30s",
            metavar="DURATION",
            help="How long to ask while nobody decides [default: 30s].",
        ),
        json_option,
        admin_option,
    ):
        command = add(command)
    return command


def ask_for_change(
    action: str,
    body: dict[str, object],
    *,
    admins: Sequence[str],
    as_json: bool,
    timeout: str,
    password_file: Path | None,
) -> int:
    """Ask the cluster for a change and tell what became of it; the exit code."""
    changer = Changer(admin_addresses(admins), read_password(password_file), parse_timeout(timeout))
    outcome = changer.ask(f"/members/{action}", body)
    if as_json:
        print_json(
            {
                "verdict": outcome.verdict or None,
                "text": outcome.text,
                "node_id": outcome.node_id or None,
                "admin": outcome.admin,
            }
        )
    elif outcome.exit_code == ExitCode.OK:
        click.echo(outcome.text)
    else:
        complain(outcome.text)
    return outcome.exit_code


def named_address(_context: click.Context, parameter: click.Parameter, text: str | None) -> str:
    """Check an address that others will connect to."""
    if not text:
        return ""
    try:
        return str(parse_address(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error


@member.command(epilog=CHANGE_EXIT_CODES)
@click.argument("name")
@click.option("--peer-address", callback=named_address, metavar="HOST:PORT", help="For peers.")
@click.option("--client-address", callback=named_address, metavar="HOST:PORT", help="For clients.")
@click.option("--promote/--no-promote", default=True, help="Make it a voter when it caught up.")
@change_options
def add(name: str, peer_address: str, client_address: str, promote: bool, **options: Any) -> int:
    """Reserve a place for NAME, which comes with `kvnode serve --join`."""
    body = {"member": name, "promote": promote}
    addresses = {"peer_address": peer_address, "client_address": client_address}
    given = {field: address for field, address in addresses.items() if address}
    return ask_for_change("add", body | given, **options)


@member.command(epilog=CHANGE_EXIT_CODES)
@click.argument("name")
@change_options
def promote(name: str, **options: Any) -> int:
    """Make the learner NAME a voter, if it has caught up."""
    return ask_for_change("promote", {"member": name}, **options)


@member.command(epilog=CHANGE_EXIT_CODES)
@click.argument("name")
@change_options
def remove(name: str, **options: Any) -> int:
    """Take NAME out for ever. Its id is never used again; its process exits with 78."""
    return ask_for_change("remove", {"member": name}, **options)


@member.command(epilog=CHANGE_EXIT_CODES)
@click.argument("name", required=False)
@change_options
def transfer(name: str | None, **options: Any) -> int:
    """Hand leadership over to NAME, or to the best follower."""
    return ask_for_change("transfer", {"member": name} if name else {}, **options)


# --- kvnode member replace ----------------------------------------------------------------------


@member.command(
    epilog="\b\nExit codes: 0 done, 1 refused, 10 disk full, 64 wrong usage, 69 unreachable, "
    "74 I/O error,\n75 nobody could decide in time, or a node runs in DIR."
)
@click.argument("members", metavar="[OLD NEW]", nargs=-1)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Replace the member whose data directory this is; its node must not run.",
)
@click.option("--via", metavar="HOST:PORT,…", help="With --data: peers to join by way of.")
@click.option("--node", default="", metavar="NAME", help="With --data: whose a damaged DIR is.")
@click.option("--force", is_flag=True, help="With --data: although the log is healthy.")
@change_options
def replace(
    members: tuple[str, ...],
    data: Path | None,
    via: str | None,
    node: str,
    force: bool,
    **options: Any,
) -> int:
    """Let the learner NEW take the place of OLD; or set a damaged member aside.

    With --data, on the machine of a node that left with 65: what DIR holds is set aside, nothing is
    deleted, and the next `kvnode serve` with the same flags joins as a learner with a new id. It
    takes the old one's place when it has caught up. If it is interrupted, run it again.
    """
    if data is None:
        if len(members) != 2 or via or node or force:
            raise click.UsageError("give OLD and NEW, or --data DIR with --via, --node, --force")
        return ask_for_change("replace", {"member": members[0], "other": members[1]}, **options)
    if members:
        raise click.UsageError("with --data the directory says who is replaced: leave out OLD NEW")
    return _set_aside(data, via, node, force=force, as_json=options["as_json"])


def _set_aside(data: Path, via: str | None, node: str, *, force: bool, as_json: bool) -> int:
    from kvnode.offline.set_aside import set_aside

    try:
        peers = [str(parse_address(part.strip())) for part in via.split(",")] if via else []
        if node:
            parse_name(node)
    except ValueError as error:
        raise UsageError(str(error)) from error
    done = set_aside(data, node=node, via=peers, force=force)
    if as_json:
        print_json(done.document())
    else:
        click.echo("\n".join(done.explain()))
    return ExitCode.OK


# --- kvnode member list -------------------------------------------------------------------------

HEADER = (
    *("NAME", "ID", "ROLE", "MATCH", "LAG", "STATE"),
    *("PEER ADDRESS", "CLIENT ADDRESS", "LEVEL", "LOAD"),
)


@member.command(name="list", epilog="\b\nExit codes: 0 shown, 64 wrong usage, 69 unreachable.")
@admin_option
@json_option
def list_members(admins: tuple[str, ...], as_json: bool) -> int:
    """Show the members as the leader sees them, if its admin port is among those that are asked.

    LOAD is in commands per second, known of the nodes that are asked.
    """
    answers = [(address, fetch_status(address)) for address in admin_addresses(admins)]
    documents = [answer for _, answer in answers if isinstance(answer, dict)]
    for address, answer in answers:
        if isinstance(answer, str):
            complain(f"{address} is unreachable: {answer}")
    if not documents:
        return ExitCode.UNREACHABLE
    view = next((d for d in documents if d.get("role") == "leader"), documents[0])
    loads = {str(d.get("node")): d.get("load") for d in documents}
    members = [{**one, "load": loads.get(one.get("name"))} for one in view.get("members", [])]
    if as_json:
        keys = ("node", "cluster_id", "leader", "term", "commit", "level")
        print_json({key: view.get(key) for key in keys} | {"members": members})
    elif view.get("fatal"):
        click.echo(f"{view.get('node')} is held: {view['fatal'].get('reason')}")
    else:
        leader = view.get("leader") or "none"
        click.echo(f"cluster {view.get('cluster_id')}  leader {leader}  (seen by {view['node']})")
        print_table([HEADER, *map(_row, members)])
    return ExitCode.OK


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    known = {key: str(value) for key, value in one.items() if value not in (None, "")}
    load = one.get("load") or {}
    return (
        *(known.get(key, "-") for key in ("name", "node_id", "role", "match", "lag")),
        state_of(one),
        *(known.get(key, "-") for key in ("peer_address", "client_address", "level")),
        f"{load['commands_per_second']:g}/s" if "commands_per_second" in load else "-",
    )


def state_of(one: dict[str, Any]) -> str:
    """Return in a word or two how a member is."""
    if one.get("recovering"):
        return "recovering"
    if one.get("connected") is False:
        heard = one.get("heard_ms")
        return "silent" if heard is None else f"silent {heard / 1000:.0f}s"
    return "draining" if one.get("draining") else "ok"
