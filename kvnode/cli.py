"""The `kvnode` command: what operators and supervisors call.

Supervisors read exit codes, so they are kept with care: click's own code for a wrong command line
is 2, which here means memory pressure, and becomes 64. An error that kvnode raises on purpose is
one line on stderr and its own code; anything else is a bug, shows its traceback and exits with 1.

Commands import what they need when they run: `kvnode status` must not load an event loop, and
`kvnode serve` must not load an HTTP client.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from kvnode import __version__
from kvnode.commands.drain import drain
from kvnode.commands.member import member
from kvnode.commands.output import complain, json_option, print_json, print_table
from kvnode.commands.probe import probe
from kvnode.commands.recover import recover
from kvnode.commands.status import status
from kvnode.commands.top import top
from kvnode.commands.wal import wal
from kvnode.config.options import OPTIONS
from kvnode.config.serve import held_address, load
from kvnode.errors import ConfigurationError, ExitCode, FatalError

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_CODES = """\b
Exit codes:
  0   asked to stop, or all is well
  1   a bug; `status`: no leader; `probe`, `drain`, `member`, `recover`: refused
  2   memory pressure (serve)
  3   a start would repair the log (wal)
  10  disk full at start
  64  wrong usage
  65  log corrupt
  69  unreachable (status, top, probe, drain, member)
  74  I/O error
  75  address or data directory in use; `member`: nobody could decide
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
            complain("interrupted")
            code = 130
        except click.ClickException as error:
            complain(_one_line(error))
            code = ExitCode.USAGE
        except FatalError as error:
            complain(str(error))
            code = error.exit_code
        # A plain int, because an IntEnum member would be printed by sys.exit's caller in tests.
        sys.exit(int(code or 0))


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
    for option in reversed(OPTIONS):
        text = (
            option.help if option.default is None else f"{option.help} [default: {option.default}]"
        )
        if option.is_switch:
            name = option.flag.removeprefix("--")
            add = click.option(f"--{name}/--no-{name}", option.name, default=None, help=text)
        else:
            add = click.option(*option.flags, option.name, metavar=option.metavar, help=text)
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
        settings = load(texts, os.environ)
    except ConfigurationError as error:
        address = held_address(texts, os.environ)
        if address is None or error.exit_code == ExitCode.USAGE:
            raise
        from kvnode.admin import hold

        complain(f"{error} (held: the admin port {address} stays open)")
        return hold(address, error)
    from kvnode.server import run

    return run(settings)


@program.group(name="config")
def config_group() -> None:
    """Look at the configuration."""


@config_group.command(name="show")
@json_option
@serve_options
def config_show(as_json: bool, **flags: str | bool | None) -> int:
    """Show what `kvnode serve` with the same flags would use, and where each value comes from."""
    settings = load(_texts(flags), os.environ)
    rows = settings.rows()
    if as_json:
        print_json(
            {
                "options": {name: {"value": value, "origin": at} for name, value, at in rows},
                "warnings": list(settings.warnings),
            }
        )
        return ExitCode.OK
    print_table([("OPTION", "VALUE", "ORIGIN"), *((n, v or "-", at) for n, v, at in rows)])
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    return ExitCode.OK


for command in (status, top, probe, drain, member, recover, wal):
    program.add_command(command)


def _obey_sigterm() -> None:
    """Until the event loop listens to signals there is nothing to put in order: leave at once.

    The kernel has no default action for the first process of a container. Without this a stop
    that comes while the rest is imported would go unheard, and end in SIGKILL after all its grace.
    """
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(ExitCode.OK))


def main() -> NoReturn:
    """Entry point of the `kvnode` script."""
    if sys.argv[1:2] == ["serve"]:
        _obey_sigterm()
    program.main(prog_name="kvnode")


if __name__ == "__main__":
    main()
