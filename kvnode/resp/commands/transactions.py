"""MULTI, EXEC, DISCARD, WATCH, UNWATCH: the queue stays with the client, the log sees one op.

Commands inside MULTI are parsed when they arrive and kept on the node that holds the connection. As
in Redis an unknown command or a wrong number of arguments dooms the EXEC, while any other error of
grammar (`SET k v EX soon`) is one of its results, like an error of a command that was run. EXEC
turns the queue into one write op with the versions that WATCH saw, so all of it succeeds or aborts
in one place of the log, whoever leads by then.

A local command inside MULTI (SELECT, PING, CLIENT …) is run when EXEC is answered, and its reply
takes its place between the others'. Commands behind such an EXEC wait for it, since it may change
what they mean. Behind WATCH they wait for the versions, for the same reason.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from kvnode.errors import CommandError
from kvnode.limits import TRANSACTION_COMMANDS_MAX
from kvnode.resp.commands.command import LOCAL, READ, WRITE, Blocks, Command
from kvnode.resp.commands.grammar import check_database, check_keys, int32
from kvnode.resp.encoder import NULL_ARRAYS, OK_BYTES, RESP2, array, error
from kvnode.resp.parser import ARGUMENT_OVERHEAD_BYTES
from kvnode.resp.request import REQUEST_OVERHEAD_BYTES
from kvnode.service import Op
from kvnode.store import ops
from kvnode.store.reply import Result

if TYPE_CHECKING:
    from kvnode.resp.connection import Connection
    from kvnode.resp.request import Request

NEVER: Final = -1
"""A version that no key has: what could not be watched aborts the transaction."""

WATCHED_KEYS_MAX: Final = TRANSACTION_COMMANDS_MAX


class Transaction:
    """The commands between MULTI and EXEC.

    Attributes:
        db: the database that the next queued command works on.
        size: bytes of the arguments queued so far.
        failed: a command was refused; EXEC will refuse all.
        protocol: that of the reply, settled by EXEC: a HELLO behind it must not change it.
    """

    __slots__ = (
        "_commands",
        "_connection",
        "_parts",
        "db",
        "failed",
        "has_local",
        "has_write",
        "protocol",
        "size",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._commands: list[tuple[Command, list[bytes], Op | CommandError | None]] = []
        self.db = connection.db
        self.protocol = connection.protocol
        self.size = self._parts = 0
        self.failed = False
        self.has_local = False
        self.has_write = False

    def __len__(self) -> int:
        return len(self._commands)

    @property
    def memory_bytes(self) -> int:
        """What its commands take."""
        parts_bytes = ARGUMENT_OVERHEAD_BYTES * self._parts
        return self.size + parts_bytes + len(self._commands) * REQUEST_OVERHEAD_BYTES

    def queue(self, command: Command, arguments: list[bytes], size: int) -> None:
        """Add a command; raises `CommandError` if it may not stand here or there are too many."""
        if len(self._commands) >= TRANSACTION_COMMANDS_MAX:
            raise CommandError(f"ERR MULTI has more than {TRANSACTION_COMMANDS_MAX} commands")
        bytes_max = self._connection.server.budget.command_bytes_max
        if self.size + size > bytes_max:
            raise CommandError(f"ERR MULTI is larger than {bytes_max} bytes")
        if "no_multi" in command.flags:
            raise CommandError("ERR Command not allowed inside a transaction")
        if command.kind == LOCAL:
            self._note_database(command, arguments)
            self.has_local = True
            self._commands.append((command, arguments, None))
        else:
            self.has_write = self.has_write or command.kind == WRITE
            # The op holds what it needs of the arguments.
            self._commands.append((command, [], self._parse(command, arguments)))
        self.size += size
        self._parts += len(arguments)

    def _parse(self, command: Command, arguments: list[bytes]) -> Op | CommandError:
        try:
            return command.parse(self.db, arguments)
        except CommandError as bad:
            return bad
        except Blocks as wish:
            return wish.op

    def _note_database(self, command: Command, arguments: list[bytes]) -> None:
        """After SELECT, commands of this transaction are parsed for the new database."""
        if command.name == "select":
            # A bad number fails again, and visibly, when the command is run.
            with suppress(CommandError):
                databases = self._connection.server.config.databases
                self.db = check_database(int32(arguments[1]), databases)

    def ops(self) -> list[Op]:
        return [op for _, _, op in self._commands if isinstance(op, list)]

    def render(self, result: Result) -> bytes:
        """Write EXEC's reply, running the local commands in their places."""
        connection = self._connection
        if self.has_local:
            connection.end_barrier()
        if result is None:
            return NULL_ARRAYS[self.protocol - RESP2]
        if isinstance(result, CommandError):
            return error(result.text)
        assert isinstance(result, list)
        results = iter(result)
        tallies = connection.server.tallies
        replies: list[bytes] = []
        for command, arguments, op in self._commands:
            if op is None:
                replies.append(_run_here(connection, command, arguments))
                # A HELLO of the transaction itself does change what comes behind it.
                self.protocol = connection.protocol
            elif isinstance(op, CommandError):
                replies.append(error(op.text))
            else:
                tallies[command.index].calls += 1
                replies.append(command.renders[self.protocol - RESP2](next(results)))
        return array(replies)


def _run_here(connection: Connection, command: Command, arguments: list[bytes]) -> bytes:
    """Run a local command whose EXEC is being answered."""
    connection.server.tallies[command.index].calls += 1
    connection.runs_transaction = True
    try:
        reply = command.run(connection, arguments)
    except CommandError as failed:
        return error(failed.text)
    finally:
        connection.runs_transaction = False
    assert reply is not None
    return reply


def multi(connection: Connection, _arguments: list[bytes]) -> bytes:
    if connection.transaction is not None:
        raise CommandError("ERR MULTI calls can not be nested")
    connection.begin_transaction(Transaction(connection))
    return OK_BYTES


def discard(connection: Connection, _arguments: list[bytes]) -> bytes:
    if connection.transaction is None:
        raise CommandError("ERR DISCARD without MULTI")
    connection.end_transaction()
    return OK_BYTES


def exec_(connection: Connection, _arguments: list[bytes]) -> bytes | None:
    transaction = connection.transaction
    if transaction is None:
        raise CommandError("ERR EXEC without MULTI")
    if transaction.failed:
        connection.end_transaction()
        raise CommandError("EXECABORT Transaction discarded because of previous errors.")
    connection.run.wait_for_kind(WRITE)
    watches = connection.watches
    queued = transaction.ops()
    transaction.protocol = connection.protocol
    connection.end_transaction()
    if not queued and not watches:
        return transaction.render([])
    if transaction.has_local:
        connection.begin_barrier()
    code = ops.EXEC_WATCHED if watches else ops.EXEC
    connection.submit(
        WRITE, [code, connection.db, watches, queued], transaction.memory_bytes, transaction.render
    )
    return None


def unwatch(connection: Connection, _arguments: list[bytes]) -> bytes:
    connection.watches = []
    return OK_BYTES


# --- WATCH ----------------------------------------------------------------------------------------


class WatchedKey:
    """The read of one key's version (a `Pending`)."""

    __slots__ = ("op", "size", "watch")

    def __init__(self, watch: Watch, db: int, key: bytes) -> None:
        self.op: Op = [ops.VERSION, db, key]
        self.size = len(key)
        self.watch = watch

    def complete(self, result: Result) -> None:
        self.watch.note(self.op[1], self.op[2], result)


class Watch:
    """One WATCH command: answered when the versions of all its keys are known."""

    __slots__ = ("_failure", "_missing", "_request", "_watches")

    def __init__(self, watches: list[list[int | bytes]], request: Request, missing: int) -> None:
        self._watches = watches
        self._request = request
        self._missing = missing
        self._failure: CommandError | None = None

    def note(self, db: int, key: bytes, result: Result) -> None:
        version = NEVER
        if isinstance(result, int):
            version = result
        elif isinstance(result, CommandError):
            self._failure = result
        self._watches.append([db, key, version])
        self._missing -= 1
        if not self._missing:
            self._request.complete(self._failure)


def _render_watch(connection: Connection, result: Result) -> bytes:
    """Write the reply of WATCH, and let the commands behind it go on."""
    connection.end_barrier()
    return error(result.text) if isinstance(result, CommandError) else OK_BYTES


def watch(connection: Connection, arguments: list[bytes]) -> None:
    if connection.transaction is not None:
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    keys = check_keys(arguments[1:])
    if len(connection.watches) + len(keys) > WATCHED_KEYS_MAX:
        raise CommandError(f"ERR more than {WATCHED_KEYS_MAX} keys are watched")
    connection.run.wait_for_kind(READ)
    connection.begin_barrier()
    request = connection.expect(READ, sum(map(len, keys)), partial(_render_watch, connection))
    group = Watch(connection.watches, request, len(keys))
    for key in keys:
        connection.server.service.submit_read(WatchedKey(group, connection.db, key))
