"""Talks to admin ports: which to ask, what they say, and changes of the membership.

A change may be asked for twice, so one whose fate is not known is simply asked for again, of every
address in turn, until somebody decided it or the time is over.
"""

from __future__ import annotations

import os
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from kvnode import limits
from kvnode.address import Address, parse_address
from kvnode.config.values import parse_duration_ms
from kvnode.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from http.client import HTTPConnection

STATUS_TIMEOUT_SECONDS: Final = 5.0

CONNECT_TIMEOUT_SECONDS: Final = 5.0

ANSWER_SECONDS_MIN: Final = 1.0
"""So long an answer is awaited at least, however little time is left."""

RETRY_SECONDS: Final = 0.25
"""Between two rounds: an election takes about a second."""

REFUSED: Final = 1
"""Exit code of a change that was refused, with nothing changed."""

UNDECIDED: Final = 75
"""Exit code of a change that nobody could decide in time; it may be asked for again."""

admin_option = click.option(
    "--admin",
    "admins",
    multiple=True,
    metavar="HOST:PORT[,…]",
    help="Admin port to ask; may be repeated [default: $KVNODE_ADMIN, else 127.0.0.1:8379].",
)


def admin_addresses(texts: Sequence[str]) -> list[Address]:
    """Return the admin ports to ask: those given, else where the node of this environment listens.

    Raises:
        UsageError: one of the texts is no address.
    """
    if not texts:
        texts = (os.environ.get("KVNODE_ADMIN") or "127.0.0.1:8379",)
    try:
        addresses = [parse_address(part.strip()) for text in texts for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--admin: {error}") from error
    return [address.reachable for address in addresses]


def only_admin(texts: Sequence[str]) -> Address:
    """Return the one admin port to ask, for what concerns one node.

    Raises:
        UsageError: there are several, or the text is no address.
    """
    addresses = admin_addresses(texts)
    if len(addresses) != 1:
        raise UsageError("--admin: give one address, this is about one node")
    return addresses[0]


def fetch_status(address: Address, seconds: float = STATUS_TIMEOUT_SECONDS) -> dict[str, Any] | str:
    """Return the status document of the node at `address`, or why it cannot be had."""
    import json

    content = fetch(address, "/status", seconds)
    if isinstance(content, str):
        return content
    try:
        document = json.loads(content)
    except ValueError as error:
        return str(error)
    return document if isinstance(document, dict) else "its status is not a JSON object"


def fetch(address: Address, path: str, seconds: float) -> bytes | str:
    """Return a page of the admin port at `address`, or why it cannot be had."""
    import http.client

    connection = _connection(address, seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            return f"answered {response.status} {response.reason}"
        return response.read()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def _connection(address: Address, timeout_seconds: float) -> HTTPConnection:
    import http.client

    return http.client.HTTPConnection(address.host, address.port, timeout=timeout_seconds)


password_option = click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Holds the nodes' password [default: $KVNODE_REQUIREPASS_FILE].",
)


def parse_timeout(text: str) -> float:
    """Return the seconds of a --timeout.

    Raises:
        UsageError: it is no duration.
    """
    try:
        return parse_duration_ms(text) / 1000
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from error


def read_password(path: Path | None) -> bytes | None:
    """Return the password in a file, or in that of KVNODE_REQUIREPASS_FILE; None without either.

    Raises:
        UsageError: the file cannot be read, or holds none.
    """
    text = os.environ.get("KVNODE_REQUIREPASS_FILE")
    path = path or (Path(text) if text else None)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            content = file.read(limits.PASSWORD_FILE_BYTES_MAX)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    password = content.removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        raise UsageError(f"{path} holds no password")
    return password


# --- changes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change.

    Attributes:
        exit_code: 0 done, 1 refused, 64 not understood, 69 nobody reached, 75 not decided in time.
        text: one sentence.
        verdict: done, refused or again; "" if nobody was reached.
        node_id: of the member concerned, 16 hex digits; "" if that is not known.
        admin: who said so.
    """

    exit_code: int
    text: str
    verdict: str = ""
    node_id: str = ""
    admin: str = ""


_EXIT_CODES: Final = {"done": 0, "refused": REFUSED, "again": UNDECIDED}


class Changer:
    """Asks nodes for changes.

    Args:
        addresses: admin ports, asked in turn.
        password: what the nodes want for a change, None if they want nothing.
        timeout_seconds: how long to go on while nobody decides.
        clock: seconds that only grow.
        pause: waits so many seconds.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        password: bytes | None,
        timeout_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._addresses = addresses
        self._headers = {"content-type": "application/json"}
        if password is not None:
            self._headers["authorization"] = "Basic " + b64encode(b"kvnode:" + password).decode()
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._pause = pause

    def ask(self, path: str, body: dict[str, object]) -> Outcome:
        """POST to this path until somebody decides, nobody is reached, or the time is over."""
        deadline = self._clock() + self._timeout_seconds
        while True:
            outcomes = []
            for address in self._addresses:
                left = max(deadline - self._clock(), ANSWER_SECONDS_MIN)
                outcomes.append(self._ask(address, path, body, left))
                if outcomes[-1].exit_code not in {ExitCode.UNREACHABLE, UNDECIDED}:
                    return outcomes[-1]
            undecided = [outcome for outcome in outcomes if outcome.exit_code == UNDECIDED]
            if not undecided:
                return outcomes[-1]
            if self._clock() + RETRY_SECONDS >= deadline:
                return undecided[-1]
            self._pause(RETRY_SECONDS)

    def _ask(self, address: Address, path: str, body: dict[str, object], seconds: float) -> Outcome:
        import http.client
        import json

        connection = _connection(address, CONNECT_TIMEOUT_SECONDS)
        try:
            try:
                connection.connect()
            except OSError as error:
                why = f"{address} is unreachable: {error or type(error).__name__}"
                return Outcome(ExitCode.UNREACHABLE, why, admin=str(address))
            connection.sock.settimeout(seconds)
            content = json.dumps(body).encode()
            connection.request("POST", path, content, self._headers)
            response = connection.getresponse()
            return _outcome(address, response.status, response.read(limits.MIB))
        except (OSError, http.client.HTTPException) as error:
            # It was asked, and may have been done: to ask again tells.
            text = f"{address} did not answer: {error or type(error).__name__}"
            return Outcome(UNDECIDED, text, "again", admin=str(address))
        finally:
            connection.close()


def _outcome(address: Address, status: int, content: bytes) -> Outcome:
    import json

    text = content.decode(errors="replace").strip()
    if status == 400:
        return Outcome(ExitCode.USAGE, text, "refused", admin=str(address))
    if status == 401:
        refusal = f"{text}: give --password-file"
        return Outcome(REFUSED, refusal, "refused", admin=str(address))
    try:
        document = json.loads(content)
        verdict = str(document["verdict"])
        return Outcome(
            _EXIT_CODES[verdict],
            str(document["text"]),
            verdict,
            str(document["node_id"]),
            str(address),
        )
    except (ValueError, KeyError, TypeError):
        if status == 503:
            return Outcome(UNDECIDED, text, "again", admin=str(address))
        why = f"{address} cannot do this: it answered {status}"
        return Outcome(ExitCode.UNREACHABLE, why, admin=str(address))
