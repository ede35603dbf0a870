"""Commands about the connection itself: PING, ECHO, HELLO, AUTH, SELECT, CLIENT, QUIT, RESET."""

from __future__ import annotations

import hmac
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.resp.commands.grammar import (
    SYNTAX_ERROR,
    integer,
    text_of,
    wrong_arity,
)
from kvnode.resp.encoder import (
    NULLS,
    OK_BYTES,
    RESP2,
    RESP3,
    array,
    bulk,
    mapping,
    verbatim,
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

NANOSECONDS: Final = 1_000_000_000

NAME_BYTES_MAX: Final = 256
"""Names that clients give themselves are kept per connection and repeated in CLIENT LIST."""


def ping(_connection: Connection, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2:
        raise wrong_arity("ping")
    return bulk(arguments[1]) if len(arguments) == 2 else b"+PONG\r\n"


def echo(_connection: Connection, arguments: list[bytes]) -> bytes:
    return bulk(arguments[1])


def select(connection: Connection, arguments: list[bytes]) -> bytes:
    connection.db = parse_database(arguments[1], connection.server.config.databases)
    return OK_BYTES


def parse_database(argument: bytes, databases: int) -> int:
    """The database number, or a `CommandError` in Redis' words."""
    db = integer(argument)
    if not 0 <= db < databases:
        raise CommandError("ERR DB index is out of range")
    return db


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
            name = _parse_client_name(arguments[at + 1])
            at += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{text_of(arguments[at])}'")
    return login, name


# --- CLIENT ---------------------------------------------------------------------------------------


def _is_printable(text: bytes) -> bool:
    """No space, no control character, nothing beyond ASCII: it must not break CLIENT LIST."""
    return all(33 <= byte <= 126 for byte in text)


def _parse_client_name(argument: bytes) -> str:
    if not _is_printable(argument):
        raise CommandError(
            "ERR Client names cannot contain spaces, newlines or special characters."
        )
    if len(argument) > NAME_BYTES_MAX:
        raise CommandError(f"ERR Client names cannot be longer than {NAME_BYTES_MAX} bytes.")
    return argument.decode("ascii")


def describe(connection: Connection) -> str:
    """One line of CLIENT LIST, with the fields of Redis 7; what means nothing here is constant."""
    now_ns = monotonic_ns()
    transaction = connection.transaction
    queued, queued_bytes = (-1, 0) if transaction is None else (len(transaction), transaction.size)
    command = connection.last_command
    held, unanswered = connection.held_bytes, connection.unanswered_bytes
    unwritten = connection.unwritten_bytes
    return (
        f"id={connection.id} addr={connection.address} laddr={connection.local_address} fd=-1"
        f" name={connection.name} age={(now_ns - connection.opened_ns) // NANOSECONDS}"
        f" idle={(now_ns - connection.last_heard_ns) // NANOSECONDS}"
        f" flags={_flags(connection)}"
        f" db={connection.db} sub=0 psub=0 ssub=0 multi={queued} qbuf={held} qbuf-free=0"
        f" argv-mem={unanswered} multi-mem={queued_bytes} obl=0 oll={len(connection.replies)}"
        f" omem={unwritten} tot-mem={held + unanswered + unwritten} events=r"
        f" cmd={'NULL' if command is None else command.name} user=default redir=-1"
        f" resp={connection.protocol} lib-name={connection.library}"
        f" lib-ver={connection.library_version}"
    )


def _flags(connection: Connection) -> str:
    """Redis' letters, of those that can be true here."""
    letters = "x" if connection.transaction is not None else ""
    letters += "b" if connection.blocked is not None else ""
    letters += "c" if connection.is_closing else ""
    letters += "r" if connection.is_read_only else ""
    return letters or "N"


def client_id(connection: Connection, _arguments: list[bytes]) -> bytes:
    return encode_integer(connection.id)


def client_info(connection: Connection, _arguments: list[bytes]) -> bytes:
    return verbatim(f"{describe(connection)}\n".encode(), connection.protocol)


def client_list(connection: Connection, arguments: list[bytes]) -> bytes:
    clients = connection.server.clients
    option = arguments[2].upper() if len(arguments) > 2 else b""
    if option == b"ID" and len(arguments) > 3:
        ids = [integer(argument, "ERR Invalid client ID") for argument in arguments[3:]]
        chosen = [clients[number] for number in dict.fromkeys(ids) if number in clients]
    elif option == b"TYPE" and len(arguments) == 4:
        chosen = list(clients.values()) if _is_normal(arguments[3]) else []
    elif not option:
        chosen = list(clients.values())
    else:
        raise CommandError(SYNTAX_ERROR)
    text = "".join(f"{describe(client)}\n" for client in chosen)
    return verbatim(text.encode(), connection.protocol)


def _is_normal(kind: bytes) -> bool:
    """Whether ordinary clients, the only kind there is, are asked for."""
    name = kind.lower()
    if name not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
        raise CommandError(f"ERR Unknown client type '{text_of(kind)}'")
    return name == b"normal"


def client_getname(connection: Connection, _arguments: list[bytes]) -> bytes:
    name = connection.name
    return bulk(name.encode()) if name else NULLS[connection.protocol - RESP2]


def client_setname(connection: Connection, arguments: list[bytes]) -> bytes:
    connection.name = _parse_client_name(arguments[2])
    return OK_BYTES


def client_setinfo(connection: Connection, arguments: list[bytes]) -> bytes:
    attribute, value = arguments[2].lower(), arguments[3]
    if attribute not in (b"lib-name", b"lib-ver"):
        raise CommandError(f"ERR Unrecognized option '{text_of(arguments[2])}'")
    if not _is_printable(value) or len(value) > NAME_BYTES_MAX:
        raise CommandError(
            f"ERR {attribute.decode()} cannot contain spaces, newlines or special characters."
        )
    if attribute == b"lib-name":
        connection.library = value.decode("ascii")
    else:
        connection.library_version = value.decode("ascii")
    return OK_BYTES


def client_no_evict(_connection: Connection, arguments: list[bytes]) -> bytes:
    """NO-EVICT and NO-TOUCH: nothing is evicted and nothing is touched here, so both are true."""
    if arguments[2].upper() not in (b"ON", b"OFF"):
        raise CommandError(SYNTAX_ERROR)
    return OK_BYTES
