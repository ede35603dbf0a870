"""Commands about the server: INFO, TIME, ROLE, READONLY, SHUTDOWN, MEMORY, DEBUG, MODULE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.resp import info as info_text
from kvnode.resp.commands.blocking import NO_CONTROL, control_of, debug_sleep
from kvnode.resp.commands.grammar import SYNTAX_ERROR, check_key, integer, text_of
from kvnode.resp.encoder import OK_BYTES, Renders, array, bulk, encode2, encode3, mapping, verbatim
from kvnode.resp.encoder import integer as encode_integer
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.reply import Result

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection


def time(connection: Connection, _arguments: list[bytes]) -> bytes:
    now_ms = connection.server.service.now_ms()
    seconds, rest_ms = divmod(now_ms, 1000)
    return array([bulk(b"%d" % seconds), bulk(b"%d" % (rest_ms * 1000))])


def info(connection: Connection, arguments: list[bytes]) -> bytes:
    sections = [text_of(argument).lower() for argument in arguments[1:]]
    return verbatim(info_text.render(connection.server, sections).encode(), connection.protocol)


def role(connection: Connection, _arguments: list[bytes]) -> bytes:
    """ROLE in Redis' shapes; offsets are log indexes."""
    status = connection.server.service.status()
    if status.role == "leader":
        others = [
            array(
                [
                    bulk(part.encode())
                    for part in (*_host_port(each.client_address), _match(each.match))
                ]
            )
            for each in status.members
            if each.node_id != status.node_id
        ]
        return array([bulk(b"master"), encode_integer(status.commit), array(others)])
    host, port = _host_port(status.leader_client_address or "")
    return array(
        [
            bulk(b"slave"),
            bulk(host.encode()),
            encode_integer(int(port)),
            bulk(b"connected" if status.leader else b"connect"),
            encode_integer(status.applied),
        ]
    )


def _host_port(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    return host, port or "0"


def _match(match: int | None) -> str:
    return str(match or 0)


# --- reads that may be stale ----------------------------------------------------------------------


def readonly(connection: Connection, _arguments: list[bytes]) -> bytes:
    """READONLY: reads of this connection are answered from what is applied here, with no round."""
    control_of(connection)
    connection.set_read_only(True)
    return OK_BYTES


def readwrite(connection: Connection, _arguments: list[bytes]) -> bytes:
    connection.set_read_only(False)
    return OK_BYTES


# --- the end --------------------------------------------------------------------------------------


def shutdown(connection: Connection, arguments: list[bytes]) -> bytes | None:
    """SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]: a graceful stop, like SIGTERM.

    There is nothing to save: the log has it all. So the options change nothing. Like in Redis a
    client sees the connection close, and no reply.
    """
    options = {argument.upper() for argument in arguments[1:]}
    if (
        options - {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"}
        or options >= {b"NOSAVE", b"SAVE"}
        or (b"ABORT" in options and len(options) > 1)
    ):
        raise CommandError(SYNTAX_ERROR)
    if b"ABORT" in options:
        raise CommandError("ERR No shutdown in progress.")
    request_stop = connection.server.request_stop
    if request_stop is None:
        raise CommandError(NO_CONTROL)
    connection.is_closing = True
    request_stop()
    return None


# --- MEMORY ---------------------------------------------------------------------------------------

RECORD_OVERHEAD_BYTES: Final = 64
"""What the engine's tree keeps for a key besides its value, roughly."""


def parse_memory_usage(db: int, arguments: list[bytes]) -> Op:
    """MEMORY USAGE key [SAMPLES n]: there is nothing to sample, the size is known."""
    for at in range(3, len(arguments), 2):
        if arguments[at].upper() != b"SAMPLES" or at + 1 == len(arguments):
            raise CommandError(SYNTAX_ERROR)
        if integer(arguments[at + 1]) < 0:
            raise CommandError(SYNTAX_ERROR)
    return [ops.SIZE, db, check_key(arguments[2])]


def _usage(result: Result) -> Result:
    """An estimate: the value and what the engine adds, without the key."""
    return result + RECORD_OVERHEAD_BYTES if isinstance(result, int) else result


USAGE: Final[Renders] = (
    lambda result: encode2(_usage(result)),
    lambda result: encode3(_usage(result)),
)


def memory_doctor(connection: Connection, _arguments: list[bytes]) -> bytes:
    text = (
        "Values live in the engine's files and the kernel's page cache, not in this process. "
        "What the process itself uses is bounded: see in_flight_bytes in INFO clients, and the "
        "watchdog's threshold in /status."
    )
    return verbatim(text.encode(), connection.protocol)


def memory_stats(connection: Connection, _arguments: list[bytes]) -> bytes:
    figures = info_text.memory_figures()
    pairs = [
        (b"peak.allocated", figures.peak_bytes),
        (b"total.allocated", figures.used_bytes),
        (b"clients.normal", connection.server.pending_bytes),
        (b"keys.count", sum(keys for keys, _ in connection.server.service.keyspace().values())),
    ]
    return mapping([(bulk(k), encode_integer(v)) for k, v in pairs], connection.protocol)


# --- DEBUG, MODULE --------------------------------------------------------------------------------


def debug(connection: Connection, arguments: list[bytes]) -> bytes | None:
    if arguments[1].upper() == b"SLEEP" and len(arguments) == 3:
        return debug_sleep(connection, arguments)
    raise CommandError(
        "ERR only DEBUG SLEEP seconds is available: the others change one node behind the log"
    )


def module_list(_connection: Connection, _arguments: list[bytes]) -> bytes:
    return array([])
