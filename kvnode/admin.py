"""The admin port: health, metrics and status over HTTP, for probes, scrapers and people.

| Path | Answer |
|---|---|
| `/livez` | 200 while the event loop turns |
| `/readyz` | 200 when every check passes, else 503; `?verbose` lists them, `[+]` or `[-]` each |
| `/metrics` | the Prometheus text format |
| `/status` | one JSON document |
| `/hash?index=N` | state hash at applied index N, or the newest; 404 if it is not kept |
| `/members` | the members, a JSON list as in `/status` |

These only read and take GET and HEAD. What changes the membership is a POST below `/members/`, what
takes this node out of service one to `/drain`; see `kvnode.admin_changes`. There is one request per
connection, and every connection has a deadline, so that nothing can be held open. h11 does the
grammar of HTTP/1.1; all facts come from an `AdminSource`, so the port also works when there is no
node behind it: `hold` serves the reason of a fatal error until somebody has seen it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, cast
from urllib.parse import parse_qs

import h11

from kvnode import limits
from kvnode.address import Address, listen_failed
from kvnode.admin_changes import (
    BadRequest,
    Gate,
    action_of,
    document_of,
    read_change,
    status_of,
)
from kvnode.errors import FatalError
from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict

logger = logging.getLogger("kvnode.admin")

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

Check = tuple[str, bool, str]
"""A readiness check: its name, whether it passes, and a detail for people."""


Header = tuple[str, str]


class AdminSource(Protocol):
    """Where the admin port has its facts from. Called in the event loop; must not block."""

    @property
    def password(self) -> bytes | None:
        """What a change needs, None: nothing. Facts are open to whoever reaches the port."""

    def checks(self) -> list[Check]:
        """Return the readiness checks; the node is ready when all pass."""

    def status(self) -> dict[str, Any]:
        """Return the status document, ready for JSON."""

    def hash(self, index: int | None, /) -> tuple[int, str] | None:
        """Return (applied index, state hash in hex) at `index` or the newest; None: not kept."""

    def metrics(self) -> bytes:
        """Return all metrics in the Prometheus text format."""

    def change(
        self, request: ChangeRequest, done: Callable[[ChangeAnswer], None], /
    ) -> Callable[[], None]:
        """Ask for a change of the membership; see `kvnode.service.Membership.request_change`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, before it is bytes."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[Header, ...] = ()


class AdminServer:
    """Listens on one address and answers from one source."""

    __slots__ = ("_connections", "_gate", "_server", "_source")

    def __init__(self, source: AdminSource) -> None:
        self._source = source
        self._gate = Gate(source.password)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self, address: Address) -> Address:
        """Listen on `address`, and return the address with the port that was taken.

        Raises:
            ResourceBusy: the address is in use (exit 75).
            ConfigurationError: the address cannot be listened on (exit 78).
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: _Connection(self._source, self._gate, self._connections),
                address.host,
                address.port,
            )
        except OSError as error:
            raise listen_failed("--admin", address, error) from error
        return Address(address.host, self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop listening and drop all connections. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self._connections):
            connection.abort()


# --- from a request to an answer: no I/O --------------------------------------------------------


def respond(source: AdminSource, method: str, target: str) -> Answer:
    """Answer one request. An error of the source becomes 500 and a log line, not more."""
    path, _, query_text = target.partition("?")
    allowed = "POST" if action_of(path) else "GET, HEAD"
    if method not in {"GET", "HEAD"} or allowed == "POST":
        text = f"only {allowed.replace(', ', ' and ')} can be answered here\n"
        return Answer(405, text.encode(), headers=(("allow", allowed),))
    try:
        query = parse_qs(query_text, keep_blank_values=True, max_num_fields=8)
    except ValueError:
        return Answer(400, b"too many parameters\n")
    try:
        return _page(source, path, query)
    except Exception:
        # A page that cannot be built must not take the node with it; the log has the reason.
        logger.exception("admin request failed", extra={"fields": {"path": path}})
        return Answer(500, b"this page could not be built; the log says why\n")


def _page(source: AdminSource, path: str, query: dict[str, list[str]]) -> Answer:
    match path:
        case "/livez":
            return Answer(200, b"ok\n")
        case "/readyz":
            return _readyz(source.checks(), verbose="verbose" in query)
        case "/metrics":
            return Answer(200, source.metrics(), PROMETHEUS)
        case "/status":
            return Answer(200, _json(source.status()), JSON)
        case "/members":
            return Answer(200, _json(source.status().get("members", [])), JSON)
        case "/hash":
            return _hash(source, query.get("index", [None])[-1])
        case _:
            return Answer(
                404, b"no such page; try /livez /readyz /metrics /status /hash /members\n"
            )


def _readyz(checks: list[Check], *, verbose: bool) -> Answer:
    ready = all(passed for _, passed, _ in checks)
    if ready and not verbose:
        return Answer(200, b"ok\n")
    lines = [_check_line(*check) for check in checks]
    lines.append("readyz check passed" if ready else "readyz check failed")
    return Answer(200 if ready else 503, "\n".join(lines).encode() + b"\n")


def _check_line(name: str, passed: bool, detail: str) -> str:
    head = f"[+]{name} ok" if passed else f"[-]{name} failed"
    return f"{head}: {detail}" if detail else head


def _hash(source: AdminSource, text: str | None) -> Answer:
    if text is not None and not re.fullmatch("[0-9]{1,20}", text):
        return Answer(400, b"index must be a log index, such as /hash?index=42\n")
    found = source.hash(None if text is None else int(text))
    if found is None:
        return Answer(404, b"no state hash is kept for this index\n")
    return Answer(200, _json({"index": found[0], "hash": found[1]}), JSON)


def _json(document: object) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


def examine(
    gate: Gate, action: Action, headers: dict[bytes, bytes], body: bytes
) -> Answer | ChangeRequest:
    """Read a POST: the change that it asks for, or the answer that says why there is none."""
    if not gate.admits(headers.get(b"authorization", b"")):
        ask = ("www-authenticate", 'Basic realm="kvnode", charset="UTF-8"')
        return Answer(401, b"this change needs the node's password\n", headers=(ask,))
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != JSON.encode():
        return Answer(415, b"a change is asked for with content-type: application/json\n")
    try:
        return read_change(action, body)
    except BadRequest as error:
        return Answer(400, f"{error}\n".encode())


# --- one connection -----------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """One request, one answer, closed."""

    __slots__ = (
        "_body",
        "_deadline",
        "_gate",
        "_http",
        "_open",
        "_request",
        "_source",
        "_transport",
        "_withdraw",
    )

    def __init__(self, source: AdminSource, gate: Gate, open_connections: set[_Connection]) -> None:
        self._source = source
        self._gate = gate
        self._open = open_connections
        self._http = h11.Connection(
            h11.SERVER, max_incomplete_event_size=limits.ADMIN_HEADER_BYTES_MAX
        )
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle
        self._request: h11.Request | None = None
        self._body = b""
        self._withdraw: Callable[[], None] | None = None
        """Ends the waiting for a change."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but name.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        self._deadline = asyncio.get_running_loop().call_later(
            limits.ADMIN_REQUEST_TIMEOUT_MS / 1000, transport.abort
        )
        self._open.add(self)
        if len(self._open) > limits.ADMIN_CONNECTIONS_MAX:
            self._send(Answer(503, b"too many connections to the admin port\n"))

    def connection_lost(self, _exc: Exception | None) -> None:
        self._deadline.cancel()
        self._open.discard(self)
        self._give_up()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE} or self._withdraw:
            return  # answered already, or soon; h11 would keep what else arrives
        try:
            self._http.receive_data(data)
            while self._take(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            self._send(Answer(error.error_status_hint, f"{error}\n".encode()))

    def _take(self, event: object) -> bool:
        """Take a part of the request; return whether to look for another one."""
        if isinstance(event, h11.Request):
            self._request = event
            if event.method != b"POST":
                method = event.method.decode("ascii")
                self._send(respond(self._source, method, self._target()), body=method != "HEAD")
                return False
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                self._transport.write(self._http.send(go_on) or b"")
            return True
        if isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) <= limits.ADMIN_BODY_BYTES_MAX:
                return True
            text = f"the body has more than {limits.ADMIN_BODY_BYTES_MAX} bytes\n"
            self._send(Answer(413, text.encode()), is_heard=False)
        elif isinstance(event, h11.EndOfMessage):
            self._change()
        return False

    def _target(self) -> str:
        assert self._request is not None
        return self._request.target.decode("ascii", "replace")

    # --- changes ----------------------------------------------------------------------------------

    def _change(self) -> None:
        assert self._request is not None
        action = action_of(self._target().partition("?")[0])
        if action is None:
            self._send(respond(self._source, "POST", self._target()))
            return
        asked = examine(self._gate, action, dict(self._request.headers), self._body)
        if isinstance(asked, Answer):
            self._send(asked)
            return
        self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(
            limits.ADMIN_CHANGE_TIMEOUT_MS / 1000, self._on_no_decision
        )
        self._withdraw = _nothing
        withdraw = self._source.change(asked, self._on_decision)
        if self._withdraw is not None:
            self._withdraw = withdraw

    def _on_decision(self, answer: ChangeAnswer) -> None:
        if self._withdraw is None:
            return
        self._withdraw = None
        self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(
            limits.ADMIN_REQUEST_TIMEOUT_MS / 1000, self._transport.abort
        )
        self._send(Answer(status_of(answer), _json(document_of(answer)), JSON))

    def _on_no_decision(self) -> None:
        seconds = limits.ADMIN_CHANGE_TIMEOUT_MS // 1000
        text = f"nobody could decide within {seconds} s; it may be done yet, and can be asked again"
        withdraw = self._withdraw
        self._on_decision(ChangeAnswer(Verdict.AGAIN, text))
        if withdraw is not None:
            withdraw()

    def _give_up(self) -> None:
        withdraw, self._withdraw = self._withdraw, None
        if withdraw is not None:
            withdraw()

    # --- answers ----------------------------------------------------------------------------------

    def _send(self, answer: Answer, *, body: bool = True, is_heard: bool = True) -> None:
        """Answer and close; `is_heard` False: not before the client has said all, or too long."""
        headers = [
            ("content-type", answer.content_type),
            ("content-length", str(len(answer.body))),
            ("cache-control", "no-store"),
            ("connection", "close"),
            *answer.headers,
        ]
        response = h11.Response(
            status_code=answer.status, headers=headers, reason=HTTPStatus(answer.status).phrase
        )
        # After this one answer the connection closes, so h11's end of message is not needed.
        self._transport.write(self._http.send(response) or b"")
        if body:
            self._transport.write(answer.body)
        if is_heard:
            self._transport.close()
        else:
            # To close over bytes that nobody read would reset the connection, answer and all.
            self._transport.write_eof()


def _nothing() -> None:
    """Ends a waiting that has not begun."""


# --- after a fatal error ------------------------------------------------------------------------


class HeldSource:
    """What a node tells that stayed only to say why it cannot run."""

    __slots__ = ("_error", "_node")

    def __init__(self, error: FatalError, node: str | None = None) -> None:
        self._error = error
        self._node = node

    def checks(self) -> list[Check]:
        return [("fatal", False, str(self._error))]

    def status(self) -> dict[str, Any]:
        fatal = {"exit_code": int(self._error.exit_code), "reason": str(self._error)}
        return {"node": self._node, "role": "held", "leader": None, "members": [], "fatal": fatal}

    def hash(self, _index: int | None, /) -> tuple[int, str] | None:
        return None

    def metrics(self) -> bytes:
        return b"# TYPE kvnode_has_leader gauge\nkvnode_has_leader 0.0\n"

    password: bytes | None = None

    def change(
        self, _request: ChangeRequest, done: Callable[[ChangeAnswer], None], /
    ) -> Callable[[], None]:
        text = f"this node is held and changes nothing, ask another member; it says: {self._error}"
        asyncio.get_running_loop().call_soon(done, ChangeAnswer(Verdict.REFUSED, text))
        return _nothing


def hold(address: Address, error: FatalError, node: str | None = None) -> int:
    """Serve only the admin port, with the reason, until SIGTERM or SIGINT; return the exit code.

    For supervisors that cannot tell exit codes apart and would restart into the same error.
    """
    return asyncio.run(_hold(address, error, node))


async def _hold(address: Address, error: FatalError, node: str | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = AdminServer(HeldSource(error, node))
    try:
        await server.start(address)
        await stop.wait()
    except FatalError as second:
        # The first error is the one to leave with: a supervisor must not restart into it.
        logger.error("cannot hold", extra={"fields": {"reason": str(second)}})
    finally:
        server.close()
    return int(error.exit_code)
