"""What a client has set for itself: the state that its own commands read and change.

Nothing here touches bytes or the node. `Connection` asks one question of it on the common path,
`is_special`, and looks closer only when the answer is yes.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from kvnode.resp.encoder import RESP2
from kvnode.resp.request import MutedRequest, Request, SampledRequest

if TYPE_CHECKING:
    from kvnode.resp.commands.transactions import Transaction
    from kvnode.resp.listener import RespServer
    from kvnode.resp.parser import Parser


class Session:
    """Login, protocol, database, transaction, and the modes of one client.

    Attributes:
        id: number of the connection, for CLIENT ID; never reused.
        db: the selected database.
        protocol: 2 or 3.
        transaction: the commands since MULTI, if there was one.
        watches: `[db, key, version]` of each watched key.
        is_read_only: its reads may be stale (READONLY).
        runs_transaction: a local command of an EXEC is being run: it must not wait.
        barrier: nothing behind the running command is begun before it is answered.
        rests: nothing more is begun in this pass of the loop.
        skips_next: the next command is not answered (CLIENT REPLY SKIP).
        is_special: the next command needs more than the usual look; kept by `note_special`.
        new_request: what a data command becomes: answered, or muted.
        submit_read: where reads go: linearizable, or stale.
        opened_ns: when the client came (monotonic).
    """

    __slots__ = (
        "barrier",
        "db",
        "id",
        "is_authenticated",
        "is_read_only",
        "is_special",
        "library",
        "library_version",
        "name",
        "new_request",
        "opened_ns",
        "parser",
        "protocol",
        "rests",
        "runs_transaction",
        "server",
        "skips_next",
        "submit_read",
        "transaction",
        "watches",
    )

    def __init__(self, server: RespServer, number: int, parser: Parser) -> None:
        self.server = server
        self.id = number
        self.parser = parser
        self.is_authenticated = server.config.password is None
        parser.restricted = not self.is_authenticated
        self.opened_ns = monotonic_ns()
        self.name = self.library = self.library_version = ""
        self.db = 0
        self.protocol = RESP2
        self.transaction: Transaction | None = None
        self.watches: list[list[int | bytes]] = []
        self.is_read_only = self.runs_transaction = False
        self.barrier = self.skips_next = self.rests = False
        self.new_request: type[Request] = Request
        self.submit_read = server.submit_read
        self.note_special()

    def note_special(self) -> None:
        """Whether commands need more than the usual look."""
        self.is_special = (
            self.barrier
            or self.rests
            or self.skips_next
            or self.transaction is not None
            or not self.is_authenticated
            or self.server.pause is not None
        )

    def begin_barrier(self) -> None:
        """Begin nothing until `end_barrier`."""
        self.barrier = self.is_special = True

    def rest(self) -> None:
        """Begin nothing more in this pass: others have waited long enough."""
        self.rests = self.is_special = True

    def end_rest(self) -> None:
        self.rests = False
        self.note_special()

    def end_barrier(self) -> None:
        self.barrier = False
        self.note_special()

    def begin_transaction(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.is_special = True

    def end_transaction(self) -> None:
        """Forget the queue and the watched keys."""
        self.transaction = None
        self.watches = []
        self.note_special()

    def log_in(self) -> None:
        self.is_authenticated = True
        self.parser.restricted = False
        self.note_special()

    def reset(self) -> None:
        """As new: no transaction, database 0, RESP2, no name, and not logged in."""
        self.end_transaction()
        self.db = 0
        self.protocol = RESP2
        self.name = ""
        self.set_read_only(False)
        self.mute(False)
        self.is_authenticated = self.server.config.password is None
        self.parser.restricted = not self.is_authenticated
        self.note_special()

    @property
    def sampled_request(self) -> type[Request]:
        """What a data command becomes whose cost is looked at."""
        return SampledRequest if self.new_request is Request else self.new_request

    def mute(self, muted: bool) -> None:
        """Answer nothing from now on, or answer again (CLIENT REPLY OFF and ON)."""
        self.new_request = MutedRequest if muted else Request
        self.skips_next = False

    def mute_next(self) -> None:
        """Do not answer the next command (CLIENT REPLY SKIP)."""
        if self.new_request is Request:
            self.skips_next = self.is_special = True

    def set_read_only(self, is_read_only: bool) -> None:
        """Let reads be answered from what is applied here (READONLY), or be linearizable again."""
        self.is_read_only = is_read_only
        control = self.server.control
        self.submit_read = (
            control.submit_stale_read
            if is_read_only and control is not None
            else self.server.submit_read
        )
