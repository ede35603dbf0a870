"""`kvnode status`: asks nodes how they are."""

from __future__ import annotations

from typing import Any

import click

from kvnode.address import Address
from kvnode.commands.admin_client import admin_addresses, admin_option, fetch_status
from kvnode.commands.output import complain, json_option, print_json, print_table
from kvnode.errors import ExitCode

NO_LEADER = 1
"""Exit code of `kvnode status` when a node that answers knows no leader."""


@click.command(epilog="\b\nExit codes: 0 healthy, 1 no leader, 64 wrong usage, 69 unreachable.")
@admin_option
@json_option
def status(admins: tuple[str, ...], as_json: bool) -> int:
    """Ask nodes how they are and show the members of the cluster.

    With several addresses all must answer; the table is the leader's view if the leader is asked.
    """
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
