"""`kvnode recover`: what an operator decides when the cluster cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kvnode.commands.output import complain, json_option, print_json
from kvnode.commands.reading import log_errors, progress_bar
from kvnode.errors import ExitCode

NOT_CONFIRMED = 1
"""Exit code when the question was answered with no."""


@click.command(
    epilog="\b\nExit codes: 0 done, or a dry run; 1 refused, or not confirmed; 10 disk full; "
    "64 wrong usage;\n65 log corrupt; 74 I/O error; 75 a node runs in DIR; 78 another node's log."
)
@click.option(
    "--force-new-cluster", "force", is_flag=True, required=True, help="What this command does."
)
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Data directory of the member that goes on; its node must not run.",
)
@click.option("--dry-run", is_flag=True, help="Tell what may be lost, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can be asked.")
@json_option
def recover(force: bool, data: Path, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Let ONE member go on alone, when the others are gone FOR EVER.

    Acknowledged writes that only the others had are lost. Never do this while enough of them can
    come back: a cluster that has a majority heals by itself. The member becomes the only one of a
    cluster with a new id; others of the old cluster are refused and must join it anew.
    """
    from kvnode.offline.force import force_new_cluster, inspect
    from kvnode.wal_tools.target import open_target

    assert force, "the option is required"
    with log_errors(), progress_bar(open_target(data).size) as progress:
        report = inspect(data, progress)
    if not as_json:
        click.echo("\n".join(report.explain()))
    if dry_run:
        if as_json:
            print_json(report.document() | {"dry_run": True, "forced": None})
        else:
            click.echo("A dry run: nothing was changed.")
        return ExitCode.OK
    if not yes:
        if not _is_terminal():
            raise click.UsageError("nobody can be asked here: add --yes to do this")
        if not click.confirm("Is quorum lost for good, and shall this be done?", err=True):
            complain("not confirmed; nothing was changed")
            return NOT_CONFIRMED
    with log_errors():
        forced = force_new_cluster(report)
    if as_json:
        done = {"cluster_id": forced.cluster_id, "index": forced.index, "term": forced.term}
        print_json(report.document() | {"dry_run": False, "forced": done})
    else:
        click.echo("\n".join(forced.explain()))
    return ExitCode.OK


def _is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()
