"""`kvnode wal`: looks at a node's log, and repairs it, without the node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from kvnode.commands.output import complain, data_argument, json_option, print_json
from kvnode.commands.reading import log_errors, progress_bar
from kvnode.errors import ExitCode


@click.group(name="wal")
def wal() -> None:
    """Look at a node's log, and repair it, without the node.

    DIR is the data directory. `verify` and `inspect` never write; they may be used while the node
    runs.
    """


@wal.command(
    name="verify",
    epilog="\b\nExit codes: 0 clean, 3 a start would repair it, 64 wrong usage, 65 corrupt, "
    "74 unreadable,\n78 another node's log.",
)
@data_argument
@json_option
def wal_verify(data: Path, as_json: bool) -> int:
    """Judge the log as a start would, and explain the verdict."""
    from kvnode.wal_tools.examine import examine
    from kvnode.wal_tools.explain import document, explain
    from kvnode.wal_tools.target import open_target

    target = open_target(data)
    with log_errors(), progress_bar(target.size) as progress:
        found = examine(target, progress)
    if as_json:
        print_json(document(found))
    else:
        click.echo("\n\n".join(explain(found)))
    return found.exit_code


@wal.command(
    name="inspect",
    epilog="\b\nExit codes: 0 all was shown, 64 wrong usage, 65 corrupt from some place on, "
    "74 unreadable,\n78 another node's log.",
)
@data_argument
@json_option
@click.option("--records", "with_records", is_flag=True, help="Show records, not segments.")
@click.option("--segment", type=int, metavar="SEQUENCE", help="Records of this segment.")
@click.option("--from", "first", type=int, metavar="INDEX", help="Records from this index on.")
@click.option("--to", "last", type=int, metavar="INDEX", help="Records up to this index.")
@click.option("--term", type=int, help="Records of this Raft term.")
@click.option(
    "--kind",
    type=click.Choice(["entry", "marker", "snapshot", "install"]),
    help="Records of this kind.",
)
def wal_inspect(data: Path, as_json: bool, with_records: bool, **wanted: Any) -> int:
    """Show segments, state files and copies of damaged segments; or records.

    Any filter asks for records. With --json there is one document, or one line for each record.
    """
    import json

    from kvnode.wal_tools.contents import Filter, Terms, overview, records
    from kvnode.wal_tools.examine import examine
    from kvnode.wal_tools.tables import overview_lines, record_lines
    from kvnode.wal_tools.target import open_target

    target = open_target(data)
    if with_records or any(value is not None for value in wanted.values()):
        # A bar between the lines of a terminal would be read by nobody.
        with log_errors(), progress_bar(0 if sys.stdout.isatty() else target.size) as progress:
            found = records(target, Filter(**wanted), progress)
            for line in map(json.dumps, found) if as_json else record_lines(found):
                click.echo(line)
        return ExitCode.OK
    terms = Terms()
    with log_errors(), progress_bar(target.size) as progress:
        examined = examine(target, progress, terms.observe)
    shown = overview(examined, terms)
    click.echo(json.dumps(shown, indent=2) if as_json else "\n".join(overview_lines(shown)))
    if examined.corruption is None:
        return ExitCode.OK
    complain(str(examined.corruption))
    return ExitCode.CORRUPT


@wal.command(
    name="repair",
    epilog="\b\nExit codes: 0 repaired or clean, 3 a dry run found something to repair, "
    "10 disk full,\n64 wrong usage, 65 refused, 74 I/O error, 75 a node runs here, "
    "78 another node's log.",
)
@data_argument
@json_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option(
    "--accept-loss", is_flag=True, help="Go on although acknowledged entries are gone. Loud."
)
def wal_repair(data: Path, as_json: bool, dry_run: bool, accept_loss: bool) -> int:
    """Do the repair that a start would do: cut off a tail that was never synced.

    Corruption is refused whatever the options: what is damaged may have been acknowledged. Of a
    member of a cluster it makes a recovering node, as a start would.
    """
    from kvnode.wal_tools.examine import REPAIRABLE
    from kvnode.wal_tools.explain import document, explain
    from kvnode.wal_tools.mend import explain_mended, mend, mended_document, rehearse
    from kvnode.wal_tools.target import open_target

    target = open_target(data)
    with log_errors(), progress_bar(target.size) as progress:
        if dry_run:
            found = rehearse(target, progress, accept_loss=accept_loss)
        else:
            done = mend(target, progress, accept_loss=accept_loss)
    if dry_run:
        if as_json:
            print_json(document(found))
        else:
            click.echo("\n\n".join([*explain(found), "A dry run: nothing was changed."]))
        return ExitCode.OK if found.exit_code == ExitCode.OK else REPAIRABLE
    if as_json:
        print_json(mended_document(done))
    else:
        click.echo("\n".join(explain_mended(done)))
    return ExitCode.OK
