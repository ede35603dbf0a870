"""The admin port: health, metrics and status over HTTP, for probes, scrapers and people.

| Path | Answer |
|---|---|
| `/livez` | 200 while the event loop turns |
| `/readyz` | 200 when every check passes, else 503; `?verbose` lists them, `[+]` or `[-]` each |
| `/metrics` | the Prometheus text format |
| `/status` | one JSON document |
| `/hash?index=N` | state hash at applied index N, or the newest; 404 if it is not kept |

It only reads, it takes GET and HEAD, one request per connection, and every connection has a
deadline, so that nothing can be held open. h11 does the grammar of HTTP/1.1; all facts come from
an `AdminSource`, so the port also works when there is no node behind it: `hold` serves the reason
of a fatal error until somebody has seen it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, cast
from urllib.parse import parse_qs

import h11

from kvnode import limits
from kvnode.address import Address, listen_failed
from kvnode.errors import FatalError

logger = logging.getLogger("kvnode.admin")

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

Check = tuple[str, bool, str]
"""A readiness check: its name, whether it passes, and a detail for people."""


class AdminSource(Protocol):
    """Where the admin port has its facts from. Called in the event loop; must not block."""

    def checks(self) -> list[Check]:
        """Return the readiness checks; the node is ready when all pass."""

    def status(self) -> dict[str, Any]:
        """Return the status document, ready for JSON."""

    def hash(self, index: int | None, /) -> tuple[int, str] | None:
        """Return (applied index, state hash in hex) at `index` or the newest; None: not kept."""

    def metrics(self) -> bytes:
        """Return all metrics in the Prometheus text format."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, before it is bytes."""

    status: int
    body: bytes
    content_type: str = TEXT


class AdminServer:
    """Listens on one address and answers from one source."""

    __slots__ = ("_connections", "_server", "_source")

    def __init__(self, source: AdminSource) -> None:
        self._source = source
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
                lambda: _Connection(self._source, self._connections), address.host, address.port
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
    if method not in {"GET", "HEAD"}:
        return Answer(405, b"only GET and HEAD are answered here\n")
    path, _, query_text = target.partition("?")
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
        case "/hash":
            return _hash(source, query.get("index", [None])[-1])
        case _:
            return Answer(404, b"no such page; try /livez /readyz /metrics /status /hash\n")


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


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


# --- one connection -----------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """One request, one answer, closed."""

    __slots__ = ("_deadline", "_http", "_open", "_source", "_transport")

    def __init__(self, source: AdminSource, open_connections: set[_Connection]) -> None:
        self._source = source
        self._open = open_connections
        self._http = h11.Connection(
            h11.SERVER, max_incomplete_event_size=limits.ADMIN_HEADER_BYTES_MAX
        )
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle

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

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._http.our_state is not h11.IDLE:
            return  # answered already; what else arrives is read into nothing
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            self._send(Answer(error.error_status_hint, f"{error}\n".encode()))
            return
        if isinstance(event, h11.Request):
            target = event.target.decode("ascii", "replace")
            method = event.method.decode("ascii")
            self._send(respond(self._source, method, target), body=method != "HEAD")

    def _send(self, answer: Answer, *, body: bool = True) -> None:
        headers = [
            ("content-type", answer.content_type),
            ("content-length", str(len(answer.body))),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ]
        if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("allow", "GET, HEAD"))
        response = h11.Response(
            status_code=answer.status, headers=headers, reason=HTTPStatus(answer.status).phrase
        )
        # After this one answer the connection closes, so h11's end of message is not needed.
        self._transport.write(self._http.send(response) or b"")
        if body:
            self._transport.write(answer.body)
        self._transport.close()


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
