"""`kvnode status`: asks nodes how they are.

With `--get` it is made for scripts that have neither a JSON parser nor patience: one line for each
value that is asked for, in that order, and an empty one for what is null or not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from kvnode.address import Address
from kvnode.commands.admin_client import (
    admin_addresses,
    admin_option,
    fetch_status,
    only_admin,
)
from kvnode.commands.output import complain, json_option, print_json, print_table
from kvnode.errors import ExitCode

NO_LEADER = 1
"""Exit code of `kvnode status` when a node that answers knows no leader."""


@click.command(epilog="\b\nExit codes: 0 healthy, 1 no leader, 64 wrong usage, 69 unreachable.")
@admin_option
@json_option
@click.option(
    "--get",
    "paths",
    multiple=True,
    metavar="NAME",
    help="Print only this value of /status, such as leader or memory.rung; more names may follow.",
)
@click.argument("more", nargs=-1, metavar="[NAME]...")
def status(
    admins: tuple[str, ...], as_json: bool, paths: tuple[str, ...], more: tuple[str, ...]
) -> int:
    """Ask nodes how they are and show the members of the cluster.

    With several addresses all must answer; the table is the leader's view if the leader is asked.
    """
    if paths:
        return _get(only_admin(admins), paths + more, as_json=as_json)
    if more:
        raise click.UsageError(f"Got unexpected extra argument ({more[0]})")
    answers = [(address, fetch_status(address)) for address in admin_addresses(admins)]
    if as_json:
        nodes = [
            {"admin": str(address), "error" if isinstance(answer, str) else "status": answer}
            for address, answer in answers
        ]
        print_json({"healthy": _health(answers) == ExitCode.OK, "nodes": nodes})
    else:
        _print_status(answers)
    return _health(answers)


Answers = list[tuple[Address, "dict[str, Any] | str"]]
"""Per admin address the document of /status, or the reason why there is none."""


def _health(answers: Answers) -> int:
    """0 if all answer and know a leader; 1 if one that answers knows none; else 69."""
    documents = [answer for _, answer in answers if isinstance(answer, dict)]
    if documents and not all(document.get("leader") for document in documents):
        return NO_LEADER
    return ExitCode.OK if len(documents) == len(answers) else ExitCode.UNREACHABLE


# --- single values ------------------------------------------------------------------------------


def _get(address: Address, paths: Sequence[str], *, as_json: bool) -> int:
    answer = fetch_status(address)
    if isinstance(answer, str):
        complain(f"{address} is unreachable: {answer}")
    elif as_json:
        print_json({path: find(answer, path) for path in paths})
    else:
        for path in paths:
            click.echo(as_line(find(answer, path)))
    return _health([(address, answer)])


def find(document: object, path: str) -> object:
    """Return what a dotted path leads to; None if there is nothing.

    A number leads into a list, and so does the name of a member: `members.n2.lag`.
    """
    for name in path.split("."):
        if isinstance(document, list):
            document = {str(place): one for place, one in enumerate(document)} | {
                str(one.get("name")): one for one in document if isinstance(one, dict)
            }
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def as_line(value: object) -> str:
    """Write a value as one line: true or false, decimals, text as it is, nothing for null."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.6f}".rstrip("0").rstrip(".")
        case dict() | list():
            import json

            return json.dumps(value)
        case _:
            return " ".join(str(value).splitlines())


# --- the table ----------------------------------------------------------------------------------


def _print_status(answers: Answers) -> None:
    documents = []
    for address, answer in answers:
        if isinstance(answer, str):
            complain(f"{address} is unreachable: {answer}")
        else:
            documents.append(answer)
    if not documents:
        return
    for document in documents:
        if document.get("fatal"):
            click.echo(f"{document.get('node')} is held: {document['fatal'].get('reason')}")
        if document.get("start_delayed"):
            click.echo(f"{document.get('node')} is not started: {document['start_delayed']}")
    # The leader alone knows how far the others are.
    view = next((d for d in documents if d.get("role") == "leader"), documents[0])
    if not view.get("members"):
        return
    click.echo(
        f"cluster {view.get('cluster_id')}  term {view.get('term')}  "
        f"leader {view.get('leader') or 'none'}  commit {view.get('commit')}  "
        f"(seen by {view.get('node')})"
    )
    header = ("MEMBER", "ROLE", "MATCH", "LAG", "STATE", "PEER ADDRESS")
    print_table([header, *map(_member_row, view["members"])])


def _state(member: dict[str, Any]) -> str:
    if member.get("recovering"):
        return "recovering"
    if rung := member.get("rung"):
        return f"short of memory ({rung})"
    if member.get("draining"):
        return "draining"
    return "late" if member.get("loop_late") else "ok"


def _member_row(member: dict[str, Any]) -> tuple[str, ...]:
    known = {key: "-" if value is None else str(value) for key, value in member.items()}
    return (
        known.get("name", "-"),
        known.get("role", "-"),
        known.get("match", "-"),
        known.get("lag", "-"),
        _state(member),
        known.get("peer_address", "-"),
    )
