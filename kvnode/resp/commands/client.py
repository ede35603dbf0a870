"""CLIENT: what connections tell about themselves, and what operators do to them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import CLIENT_BYTES
from kvnode.resp.commands.grammar import (
    INT64_MAX,
    SYNTAX_ERROR,
    integer,
    text_of,
    wrong_subcommand,
)
from kvnode.resp.encoder import NULLS, OK_BYTES, RESP2, bulk, verbatim
from kvnode.resp.encoder import integer as encode_integer

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection

NAME_BYTES_MAX: Final = 256
"""Names that clients give themselves are kept per connection and repeated in CLIENT LIST."""

BAD_CLIENT_ID: Final = "ERR client-id should be greater than 0"
NO_TRACKING: Final = (
    "ERR client-side caching is not available: no node knows what clients keep in their caches"
)
NANOSECONDS: Final = 1_000_000_000
PAUSE_SECONDS_MAX: Final = INT64_MAX // NANOSECONDS


# --- names ----------------------------------------------------------------------------------------


def is_printable(text: bytes) -> bool:
    """No space, no control character, nothing beyond ASCII: it must not break CLIENT LIST."""
    return all(33 <= byte <= 126 for byte in text)


def parse_client_name(argument: bytes) -> str:
    """A name for CLIENT SETNAME and HELLO; raises `CommandError` if it would break CLIENT LIST."""
    if not is_printable(argument):
        raise CommandError(
            "ERR Client names cannot contain spaces, newlines or special characters."
        )
    if len(argument) > NAME_BYTES_MAX:
        raise CommandError(f"ERR Client names cannot be longer than {NAME_BYTES_MAX} bytes.")
    return argument.decode("ascii")


def client_id(connection: Connection, _arguments: list[bytes]) -> bytes:
    return encode_integer(connection.id)


def client_getname(connection: Connection, _arguments: list[bytes]) -> bytes:
    name = connection.name
    return bulk(name.encode()) if name else NULLS[connection.protocol - RESP2]


def client_setname(connection: Connection, arguments: list[bytes]) -> bytes:
    connection.name = parse_client_name(arguments[2])
    return OK_BYTES


def client_setinfo(connection: Connection, arguments: list[bytes]) -> bytes:
    attribute, value = arguments[2].lower(), arguments[3]
    if attribute not in (b"lib-name", b"lib-ver"):
        raise CommandError(f"ERR Unrecognized option '{text_of(arguments[2])}'")
    if not is_printable(value) or len(value) > NAME_BYTES_MAX:
        raise CommandError(
            f"ERR {attribute.decode()} cannot contain spaces, newlines or special characters."
        )
    if attribute == b"lib-name":
        connection.library = value.decode("ascii")
    else:
        connection.library_version = value.decode("ascii")
    return OK_BYTES


# --- CLIENT LIST ----------------------------------------------------------------------------------


def describe(connection: Connection) -> str:
    """One line of CLIENT LIST, with the fields of Redis 7; what means nothing here is constant.

    `qbuf`, `argv-mem`, `multi-mem` and `omem` are what the ledger counts of this client: bytes of a
    command that is not complete, of unanswered commands, of those since MULTI, and of replies that
    it has not taken. `tot-mem` is their sum, and `CLIENT_BYTES` for the connection itself.
    """
    now_ns = monotonic_ns()
    transaction = connection.transaction
    queued, queued_bytes = -1, 0
    if transaction is not None:
        queued, queued_bytes = len(transaction), transaction.memory_bytes
    command = connection.last_command
    outbox = connection.outbox
    return (
        f"id={connection.id} addr={connection.address} laddr={connection.local_address} fd=-1"
        f" name={connection.name} age={(now_ns - connection.opened_ns) // NANOSECONDS}"
        f" idle={(now_ns - connection.last_heard_ns) // NANOSECONDS} flags={_flags(connection)}"
        f" db={connection.db} sub=0 psub=0 ssub=0 multi={queued}"
        f" qbuf={connection.parser.held_bytes} qbuf-free=0 argv-mem={connection.unanswered_bytes}"
        f" multi-mem={queued_bytes} rbs=0 rbp=0 obl=0 oll={len(outbox.replies)}"
        f" omem={outbox.unwritten_bytes} tot-mem={CLIENT_BYTES + connection.memory_bytes}"
        " events=r"
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


def client_info(connection: Connection, _arguments: list[bytes]) -> bytes:
    return verbatim(f"{describe(connection)}\n".encode(), connection.protocol)


def client_list(connection: Connection, arguments: list[bytes]) -> bytes:
    clients = connection.server.clients
    option = arguments[2].upper() if len(arguments) > 2 else None
    if option == b"ID" and len(arguments) > 3:
        ids = [integer(argument, "ERR Invalid client ID") for argument in arguments[3:]]
        chosen = [clients[number] for number in dict.fromkeys(ids) if number in clients]
    elif option == b"TYPE" and len(arguments) == 4:
        chosen = list(clients.values()) if _is_normal(arguments[3]) else []
    elif option is None:
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


# --- CLIENT KILL ----------------------------------------------------------------------------------


def client_kill(connection: Connection, arguments: list[bytes]) -> bytes:
    """`CLIENT KILL addr`, or filters that must all hold; commands under way end as they will."""
    if len(arguments) == 3:
        if not _kill(connection, [lambda each: each.address == text_of(arguments[2])]):
            raise CommandError("ERR No such client")
        return OK_BYTES
    skip_me = True
    filters: list[Callable[[Connection], bool]] = []
    for at in range(2, len(arguments), 2):
        option = arguments[at].upper()
        if at + 1 == len(arguments):
            raise CommandError(SYNTAX_ERROR)
        if option == b"SKIPME":
            skip_me = _parse_yes_no(arguments[at + 1])
        else:
            filters.append(_parse_filter(option, arguments[at + 1]))
    if skip_me:
        filters.append(lambda each: each is not connection)
    return encode_integer(_kill(connection, filters))


def _parse_yes_no(argument: bytes) -> bool:
    if argument.lower() not in (b"yes", b"no"):
        raise CommandError(SYNTAX_ERROR)
    return argument.lower() == b"yes"


def _parse_filter(option: bytes, value: bytes) -> Callable[[Connection], bool]:
    text = text_of(value)
    if option == b"ID":
        number = integer(value, BAD_CLIENT_ID)
        if number < 1:
            raise CommandError(BAD_CLIENT_ID)
        return lambda each: each.id == number
    if option == b"ADDR":
        return lambda each: each.address == text
    if option == b"LADDR":
        return lambda each: each.local_address == text
    if option == b"TYPE":
        is_normal = _is_normal(value)
        return lambda _: is_normal
    if option == b"USER":
        if value != b"default":
            raise CommandError(f"ERR No such user '{text}'")
        return lambda each: each.is_authenticated
    raise CommandError(SYNTAX_ERROR)


def _kill(connection: Connection, filters: list[Callable[[Connection], bool]]) -> int:
    """Close all clients that pass; the one that asked gets its answer first."""
    chosen = [
        each
        for each in connection.server.clients.values()
        if all(passes(each) for passes in filters)
    ]
    for each in chosen:
        if each is connection:
            connection.close_after_replies()
        else:
            connection.server.stats.count_closed("killed")
            each.abort()
    return len(chosen)


# --- CLIENT PAUSE, REPLY and the rest -------------------------------------------------------------


def client_pause(connection: Connection, arguments: list[bytes]) -> bytes:
    if len(arguments) > 4:
        raise wrong_subcommand(arguments)
    mode = arguments[3].upper() if len(arguments) > 3 else b"ALL"
    if mode not in (b"ALL", b"WRITE"):
        raise CommandError("ERR CLIENT PAUSE mode must be WRITE or ALL")
    timeout_ms = integer(arguments[2], "ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise CommandError("ERR timeout is negative")
    seconds = min(timeout_ms / 1000, PAUSE_SECONDS_MAX)
    connection.server.pause_commands(seconds, only_writes=mode == b"WRITE")
    return OK_BYTES


def client_unpause(connection: Connection, _arguments: list[bytes]) -> bytes:
    connection.server.unpause()
    return OK_BYTES


def client_reply(connection: Connection, arguments: list[bytes]) -> bytes | None:
    mode = arguments[2].upper()
    if mode == b"ON":
        connection.mute(False)
        return OK_BYTES
    if mode == b"OFF":
        connection.mute(True)
    elif mode == b"SKIP":
        connection.mute_next()
    else:
        raise CommandError(SYNTAX_ERROR)
    # Inside an EXEC its place in the array must be filled.
    return OK_BYTES if connection.runs_transaction else None


def client_no_evict(_connection: Connection, arguments: list[bytes]) -> bytes:
    """NO-EVICT and NO-TOUCH: nothing is evicted and nothing is touched here, so both are true."""
    if arguments[2].upper() not in (b"ON", b"OFF"):
        raise CommandError(SYNTAX_ERROR)
    return OK_BYTES


def client_tracking(connection: Connection, arguments: list[bytes]) -> bytes:
    """CLIENT TRACKING ON|OFF [options]: the options are read, since Redis judges them first."""
    _check_tracking_options(connection, arguments[3:])
    mode = arguments[2].upper()
    if mode not in (b"ON", b"OFF"):
        raise CommandError(SYNTAX_ERROR)
    if mode == b"ON":
        raise CommandError(NO_TRACKING)
    return OK_BYTES


def _check_tracking_options(connection: Connection, options: list[bytes]) -> None:
    """[REDIRECT id] [PREFIX prefix]… [BCAST] [OPTIN] [OPTOUT] [NOLOOP], or `CommandError`."""
    redirected = False
    words = iter(options)
    for word in words:
        option = word.upper()
        if option in (b"BCAST", b"OPTIN", b"OPTOUT", b"NOLOOP"):
            continue
        value = next(words, None)
        if value is None or option not in (b"REDIRECT", b"PREFIX"):
            raise CommandError(SYNTAX_ERROR)
        if option == b"REDIRECT":
            if redirected:
                raise CommandError("ERR A client can only redirect to a single other client")
            if integer(value) not in connection.server.clients:
                raise CommandError("ERR The client ID you want redirect to does not exist")
            redirected = True


def client_getredir(_connection: Connection, _arguments: list[bytes]) -> bytes:
    return encode_integer(-1)
