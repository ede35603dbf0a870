"""Commands about the connection itself: PING, ECHO, HELLO, AUTH, SELECT, QUIT, RESET."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.resp.commands.client import parse_client_name
from kvnode.resp.commands.grammar import (
    SYNTAX_ERROR,
    check_database,
    int32,
    integer,
    text_of,
    wrong_arity,
)
from kvnode.resp.encoder import (
    OK_BYTES,
    RESP2,
    RESP3,
    array,
    bulk,
    mapping,
)
from kvnode.resp.encoder import (
    integer as encode_integer,
)

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection

WRONG_PASSWORD: Final = "WRONGPASS invalid username-password pair or user is disabled."
NO_PASSWORD: Final = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
HELLO_WITHOUT_LOGIN: Final = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
    "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
    "select the RESP protocol version at the same time"
)
PROTOCOL_NOT_A_NUMBER: Final = "ERR Protocol version is not an integer or out of range"
UNSUPPORTED_PROTOCOL: Final = "NOPROTO unsupported protocol version"


def ping(_connection: Connection, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2:
        raise wrong_arity("ping")
    return bulk(arguments[1]) if len(arguments) == 2 else b"+PONG\r\n"


def echo(_connection: Connection, arguments: list[bytes]) -> bytes:
    return bulk(arguments[1])


def select(connection: Connection, arguments: list[bytes]) -> bytes:
    connection.db = check_database(int32(arguments[1]), connection.server.config.databases)
    return OK_BYTES


def quit_(connection: Connection, _arguments: list[bytes]) -> bytes:
    connection.close_after_replies()
    return OK_BYTES


def reset(connection: Connection, _arguments: list[bytes]) -> bytes:
    connection.reset()
    return b"+RESET\r\n"


# --- login and protocol ---------------------------------------------------------------------------


def auth(connection: Connection, arguments: list[bytes]) -> bytes:
    if len(arguments) > 3:
        raise CommandError(SYNTAX_ERROR)
    if len(arguments) == 2:
        if connection.server.config.password is None:
            raise CommandError(NO_PASSWORD)
        _log_in(connection, b"default", arguments[1])
    else:
        _log_in(connection, arguments[1], arguments[2])
    return OK_BYTES


def _log_in(connection: Connection, user: bytes, password: bytes) -> None:
    """Authenticate, or raise. The comparison tells nothing by the time it takes."""
    expected = connection.server.config.password
    is_right = expected is None or hmac.compare_digest(password, expected)
    if user != b"default" or not is_right:
        raise CommandError(WRONG_PASSWORD)
    connection.log_in()


def hello(connection: Connection, arguments: list[bytes]) -> bytes:
    protocol = connection.protocol
    if len(arguments) > 1:
        version = integer(arguments[1], PROTOCOL_NOT_A_NUMBER)
        if version not in (RESP2, RESP3):
            raise CommandError(UNSUPPORTED_PROTOCOL)
        protocol = version
    login, name = _parse_hello_options(arguments)
    if login is not None:
        _log_in(connection, *login)
    elif not connection.is_authenticated:
        raise CommandError(HELLO_WITHOUT_LOGIN)
    if name is not None:
        connection.name = name
    connection.protocol = protocol
    role = connection.server.service.status().role
    pairs = [
        (b"server", bulk(b"redis")),
        (b"version", bulk(connection.server.redis_version.encode())),
        (b"proto", encode_integer(protocol)),
        (b"id", encode_integer(connection.id)),
        (b"mode", bulk(b"standalone")),
        (b"role", bulk(b"master" if role == "leader" else b"replica")),
        (b"modules", array([])),
    ]
    return mapping([(bulk(key), value) for key, value in pairs], protocol)


def _parse_hello_options(
    arguments: list[bytes],
) -> tuple[tuple[bytes, bytes] | None, str | None]:
    """Read AUTH user password and SETNAME name."""
    login: tuple[bytes, bytes] | None = None
    name: str | None = None
    at = 2
    while at < len(arguments):
        option = arguments[at].upper()
        if option == b"AUTH" and at + 2 < len(arguments):
            login = (arguments[at + 1], arguments[at + 2])
            at += 3
        elif option == b"SETNAME" and at + 1 < len(arguments):
            name = parse_client_name(arguments[at + 1])
            at += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{text_of(arguments[at])}'")
    return login, name
