"""`kvnode probe`: one write and one linearizable read, through one node.

A node that answers its health check may still have no way to a leader, or none to the disk. This
asks for what clients ask: a key of its own, with a value that nobody else writes, is set and read
back. It expires a minute later.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Any, Final

import click

from kvnode.address import Address, parse_address
from kvnode.commands.admin_client import parse_timeout, read_password
from kvnode.commands.output import complain, json_option, print_json
from kvnode.errors import ExitCode, UsageError

FAILED: Final = 1
"""Exit code of a probe that was refused, got no answer, or read another value."""

KEY_EXPIRES_MS: Final = b"60000"


@click.command(
    epilog="\b\nExit codes: 0 ok, 1 refused, not answered, or a wrong value; 64 wrong usage; "
    "69 unreachable."
)
@click.option(
    "--address",
    "text",
    metavar="HOST:PORT",
    help="Client address of the node [default: $KVNODE_LISTEN, else 127.0.0.1:6379].",
)
@click.option("--timeout", default="5s", metavar="DURATION", help="For all of it [default: 5s].")
@click.option(
    "--requirepass-file",
    "password_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File that holds the clients' password [default: $KVNODE_REQUIREPASS_FILE].",
)
@json_option
def probe(text: str | None, timeout: str, password_file: Path | None, as_json: bool) -> int:
    """Write a key through a node and read it back; tell how long each took."""
    address = client_address(text)
    seconds = parse_timeout(timeout)
    told = {"address": str(address), **_attempt(address, seconds, read_password(password_file))}
    code: int = told.pop("exit_code")
    if as_json:
        print_json(told)
    elif code == ExitCode.OK:
        click.echo(f"ok write_ms={told['write_ms']:.1f} read_ms={told['read_ms']:.1f}")
    else:
        complain(f"{address}: {told['error']}")
    return code


def client_address(text: str | None) -> Address:
    """Return where clients reach the node: as told, else where the one of this environment listens.

    Raises:
        UsageError: that is no address.
    """
    try:
        return parse_address(text or os.environ.get("KVNODE_LISTEN") or "127.0.0.1:6379").reachable
    except ValueError as error:
        raise UsageError(f"--address: {error}") from error


def _attempt(address: Address, seconds: float, password: bytes | None) -> dict[str, Any]:
    """Try it; say how long it took, or what was wrong, and the exit code."""
    from kvnode.commands.redis_client import RedisClient, ReplyError

    failed: dict[str, Any] = {"ok": False, "exit_code": FAILED}
    try:
        connection = RedisClient(address, seconds)
    except OSError as error:
        why = f"unreachable: {error}"
        return failed | {"exit_code": ExitCode.UNREACHABLE, "error": why}
    with connection:
        try:
            return _write_and_read(connection, password)
        except ReplyError as error:
            return failed | {"error": str(error)}
        except TimeoutError:
            return failed | {"error": f"no answer within {seconds:g} s"}
        except OSError as error:
            return failed | {
                "exit_code": ExitCode.UNREACHABLE,
                "error": f"connection lost: {error}",
            }


def _write_and_read(connection: Any, password: bytes | None) -> dict[str, Any]:
    if password is not None:
        connection.ask(b"AUTH", password)
    name = secrets.token_hex(8).encode()
    key, value = b"kvnode:probe:" + name, secrets.token_hex(16).encode()
    began = time.perf_counter()
    connection.ask(b"SET", key, value, b"PX", KEY_EXPIRES_MS)
    written = time.perf_counter()
    found = connection.ask(b"GET", key)
    read = time.perf_counter()
    if found != value:
        wrong = f"{key.decode()} was read as {found!r}, and not as {value!r}, which was written"
        return {"ok": False, "exit_code": FAILED, "error": wrong}
    times = {"write_ms": written - began, "read_ms": read - written}
    return {
        "ok": True,
        "exit_code": int(ExitCode.OK),
        **{name: round(seconds * 1000, 3) for name, seconds in times.items()},
    }
