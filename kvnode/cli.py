"""The `kvnode` command: what operators and supervisors call.

Supervisors read exit codes, so they are kept with care: click's own code for a wrong command line
is 2, which here means memory pressure, and becomes 64. An error that kvnode raises on purpose is
one line on stderr and its own code; anything else is a bug, shows its traceback and exits with 1.

Commands import what they need when they run: `kvnode status` must not load an event loop, and
`kvnode serve` must not load an HTTP client.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from kvnode import __version__, config
from kvnode.address import Address, parse_address
from kvnode.errors import ConfigurationError, ExitCode, FatalError

Command = TypeVar("Command", bound=Callable[..., Any])

STATUS_TIMEOUT_SECONDS = 5.0

PROGRESS_BYTES_MIN = 64 * 1024 * 1024
"""Reading less than this takes no time that a progress bar could shorten."""

NO_LEADER = 1
"""Exit code of `kvnode status` when a node that answers knows no leader."""

EXIT_CODES = """\b
Exit codes:
  0   asked to stop, or all is well
  1   a bug; `status`: no leader
  2   memory pressure (serve)
  3   a start would repair the log (wal)
  10  disk full at start
  64  wrong usage
  65  log corrupt
  69  unreachable (status)
  74  I/O error
  75  address or data directory in use
  78  wrong identity, configuration or feature level
"""


class Program(click.Group):
    """A group of commands that answers to its supervisor in kvnode's exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command line and exit; see `click.Command.main` for the arguments."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.Abort:
            _complain("interrupted")
            code = 130
        except click.ClickException as error:
            _complain(_one_line(error))
            code = ExitCode.USAGE
        except FatalError as error:
            _complain(str(error))
            code = error.exit_code
        # A plain int, because an IntEnum member would be printed by sys.exit's caller in tests.
        sys.exit(int(code or 0))


def _complain(sentence: str) -> None:
    click.echo(f"kvnode: {sentence}", err=True)


def _one_line(error: click.ClickException) -> str:
    """What was wrong with the command line, and where its help is, in one line."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "kvnode"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return f"a command is missing (see {command} --help)"
    return f"{' '.join(error.format_message().split())} (see {command} --help)"


@click.group(cls=Program, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="kvnode", message="%(prog)s %(version)s")
def program() -> None:
    """A Raft-replicated key-value node that speaks the Redis protocol and heals itself."""


def serve_options(command: Command) -> Command:
    """Give a command one flag for each option of `kvnode.config`, and --config."""
    for option in reversed(config.OPTIONS):
        text = (
            option.help if option.default is None else f"{option.help} [default: {option.default}]"
        )
        if option.is_switch:
            name = option.flag.removeprefix("--")
            add = click.option(f"--{name}/--no-{name}", option.name, default=None, help=text)
        else:
            add = click.option(option.flag, option.name, metavar=option.metavar, help=text)
        command = add(command)
    add = click.option("--config", metavar="FILE", help="TOML file with any of the options below.")
    return add(command)


def _texts(flags: dict[str, str | bool | None]) -> dict[str, str]:
    """Leave out the flags that were not given and turn switches into text."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in flags.items()
        if value is not None
    }


@program.command(epilog=EXIT_CODES)
@serve_options
def serve(**flags: str | bool | None) -> int:
    """Run a node until it is asked to stop.

    Each option can also be given as KVNODE_<NAME> in the environment or as <name> in the file that
    --config names; a flag wins over the environment, and that over the file. Without any, it is a
    single node on loopback.
    """
    texts = _texts(flags)
    try:
        settings = config.load(texts, os.environ)
    except ConfigurationError as error:
        address = config.held_address(texts, os.environ)
        if address is None or error.exit_code == ExitCode.USAGE:
            raise
        from kvnode.admin import hold

        _complain(f"{error} (held: the admin port {address} stays open)")
        return hold(address, error)
    from kvnode.server import run

    return run(settings)


@program.group(name="config")
def config_group() -> None:
    """Look at the configuration."""


@config_group.command(name="show")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@serve_options
def config_show(as_json: bool, **flags: str | bool | None) -> int:
    """Show what `kvnode serve` with the same flags would use, and where each value comes from."""
    settings = config.load(_texts(flags), os.environ)
    rows = settings.rows()
    if as_json:
        _print_json(
            {
                "options": {name: {"value": value, "origin": at} for name, value, at in rows},
                "warnings": list(settings.warnings),
            }
        )
        return ExitCode.OK
    _print_table([("OPTION", "VALUE", "ORIGIN"), *((n, v or "-", at) for n, v, at in rows)])
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    return ExitCode.OK


def _print_json(document: object) -> None:
    import json

    click.echo(json.dumps(document, indent=2))


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


# --- kvnode status ------------------------------------------------------------------------------


@program.command(epilog="\b\nExit codes: 0 healthy, 1 no leader, 64 wrong usage, 69 unreachable.")
@click.option(
    "--admin",
    "admins",
    multiple=True,
    metavar="HOST:PORT[,…]",
    help="Admin port to ask; may be repeated [default: $KVNODE_ADMIN, else 127.0.0.1:8379].",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(admins: tuple[str, ...], as_json: bool) -> int:
    """Ask nodes how they are and show the members of the cluster.

    With several addresses all must answer; the table is the leader's view if the leader is asked.
    """
    answers = [(address, _fetch_status(address)) for address in _admin_addresses(admins)]
    if as_json:
        nodes = [
            {"admin": str(address), "error" if isinstance(answer, str) else "status": answer}
            for address, answer in answers
        ]
        _print_json({"healthy": _health(answers) == ExitCode.OK, "nodes": nodes})
    else:
        _print_status(answers)
    return _health(answers)


Answers = list[tuple[Address, "dict[str, Any] | str"]]
"""Per admin address the document of /status, or the reason why there is none."""


def _admin_addresses(texts: Sequence[str]) -> list[Address]:
    if not texts:
        texts = (os.environ.get("KVNODE_ADMIN") or "127.0.0.1:8379",)
    try:
        return [parse_address(part.strip()) for text in texts for part in text.split(",")]
    except ValueError as error:
        raise config.UsageError(f"--admin: {error}") from error


def _fetch_status(address: Address) -> dict[str, Any] | str:
    """Return the status document of the node at `address`, or why it cannot be had."""
    import http.client
    import json

    connection = http.client.HTTPConnection(
        address.host, address.port, timeout=STATUS_TIMEOUT_SECONDS
    )
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        if response.status != 200:
            return f"answered {response.status} {response.reason}"
        document = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return document if isinstance(document, dict) else "its status is not a JSON object"


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
            _complain(f"{address} is unreachable: {answer}")
        else:
            documents.append(answer)
    if not documents:
        return
    for document in documents:
        if document.get("fatal"):
            click.echo(f"{document.get('node')} is held: {document['fatal'].get('reason')}")
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
    _print_table([header, *map(_member_row, view["members"])])


def _member_row(member: dict[str, Any]) -> tuple[str, ...]:
    known = {key: "-" if value is None else str(value) for key, value in member.items()}
    return (
        known.get("name", "-"),
        known.get("role", "-"),
        known.get("match", "-"),
        known.get("lag", "-"),
        "recovering" if member.get("recovering") else "ok",
        known.get("peer_address", "-"),
    )


# --- kvnode wal ---------------------------------------------------------------------------------


@program.group(name="wal")
def wal_group() -> None:
    """Look at a node's log, and repair it, without the node.

    DIR is the data directory. `verify` and `inspect` never write; they may be used while the node
    runs.
    """


data_argument = click.argument("data", metavar="DIR", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@wal_group.command(
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
    with _log_errors(), _progress(target.size) as progress:
        found = examine(target, progress)
    if as_json:
        _print_json(document(found))
    else:
        click.echo("\n\n".join(explain(found)))
    return found.exit_code


@wal_group.command(
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
        with _log_errors(), _progress(0 if sys.stdout.isatty() else target.size) as progress:
            found = records(target, Filter(**wanted), progress)
            for line in map(json.dumps, found) if as_json else record_lines(found):
                click.echo(line)
        return ExitCode.OK
    terms = Terms()
    with _log_errors(), _progress(target.size) as progress:
        examined = examine(target, progress, terms.observe)
    shown = overview(examined, terms)
    click.echo(json.dumps(shown, indent=2) if as_json else "\n".join(overview_lines(shown)))
    if examined.corruption is None:
        return ExitCode.OK
    _complain(str(examined.corruption))
    return ExitCode.CORRUPT


@wal_group.command(
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
    with _log_errors(), _progress(target.size) as progress:
        if dry_run:
            found = rehearse(target, progress, accept_loss=accept_loss)
        else:
            done = mend(target, progress, accept_loss=accept_loss)
    if dry_run:
        if as_json:
            _print_json(document(found))
        else:
            click.echo("\n\n".join([*explain(found), "A dry run: nothing was changed."]))
        return ExitCode.OK if found.exit_code == ExitCode.OK else REPAIRABLE
    if as_json:
        _print_json(mended_document(done))
    else:
        click.echo("\n".join(explain_mended(done)))
    return ExitCode.OK


@contextmanager
def _log_errors() -> Iterator[None]:
    """Turn errors of the log into those that have an exit code."""
    from kvnode.node.faults import as_fatal
    from wal.errors import WalError

    try:
        yield
    except WalError as error:
        raise as_fatal(error) from error


@contextmanager
def _progress(size: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal while `size` bytes are read, if there are many."""
    if size < PROGRESS_BYTES_MIN or not sys.stderr.isatty():
        yield lambda _count: None
        return
    with click.progressbar(length=size, label="reading", file=sys.stderr) as bar:
        waiting = 0

        def count(read: int) -> None:
            nonlocal waiting
            waiting += read
            if waiting >= size // 200:
                bar.update(waiting)
                waiting = 0

        yield count


def main() -> NoReturn:
    """Entry point of the `kvnode` script."""
    program.main(prog_name="kvnode")


if __name__ == "__main__":
    main()
