"""The admin port's pages that are asked by POST: it becomes a `ChangeRequest`, and back.

| Path | Body (JSON, every field a text but `promote`) |
|---|---|
| `/members/add` | `member`, `peer_address`, `client_address`, `promote` |
| `/members/promote` | `member` |
| `/members/remove` | `member` |
| `/members/replace` | `member`, `other` |
| `/members/transfer` | `member`, or nothing: the best follower |
| `/drain`, `/drain/undo` | nothing: the node that is asked is meant |
| `/drain/check` | nothing; refused with a reason per line, and nothing is changed |

The answer is `{"verdict", "text", "node_id"}`: 200 when it is done, 409 when it was refused, 503
when nobody could decide (it may be asked for again). Who closes the connection stops waiting, which
takes nothing back. The content type must be JSON: no web page makes a browser send that here
unasked. Where the node has a password, a change needs it, as HTTP Basic with any user name.

Nothing here does I/O.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from kvnode import limits
from kvnode.address import parse_address
from kvnode.config.values import parse_name
from kvnode.obs.log import event
from kvnode.service import Action, ChangeAnswer, ChangeRequest, Verdict

_log = logging.getLogger("kvnode.admin")

_FIELDS: Final[dict[Action, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    Action.ADD: (("member",), ("peer_address", "client_address", "promote")),
    Action.PROMOTE: (("member",), ()),
    Action.REMOVE: (("member",), ()),
    Action.REPLACE: (("member", "other"), ()),
    Action.TRANSFER: ((), ("member",)),
    Action.DRAIN: ((), ()),
    Action.UNDRAIN: ((), ()),
    Action.SPARE: ((), ()),
}
"""What a body must hold, and what it may hold."""

_PATHS: Final = {
    "/members/add": Action.ADD,
    "/members/promote": Action.PROMOTE,
    "/members/remove": Action.REMOVE,
    "/members/replace": Action.REPLACE,
    "/members/transfer": Action.TRANSFER,
    "/drain": Action.DRAIN,
    "/drain/undo": Action.UNDRAIN,
    "/drain/check": Action.SPARE,
}

_STATUS: Final = {Verdict.DONE: 200, Verdict.REFUSED: 409, Verdict.AGAIN: 503}


class BadRequest(Exception):
    """The request makes no sense; the text is a sentence for its author."""


def action_of(path: str) -> Action | None:
    """Return what a POST to `path` asks for, None if nothing can be changed there."""
    return _PATHS.get(path)


def read_change(action: Action, body: bytes) -> ChangeRequest:
    """Read the body of a POST, strictly: a field that is not known is not ignored.

    Raises:
        BadRequest: with what is wrong.
    """
    document = _json_object(body)
    needed, optional = _FIELDS[action]
    for name in needed:
        if name not in document:
            raise BadRequest(f"{action.value} needs the field {name!r}")
    for name in document:
        if name not in needed + optional:
            known = ", ".join(needed + optional) or "none"
            raise BadRequest(f"{action.value} has no field {name!r}; it has {known}")
    for name, value in document.items():
        document[name] = _value(name, value)
    return ChangeRequest(action, **document)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    return document


def _value(name: str, value: object) -> str | bool:
    if name == "promote":
        if not isinstance(value, bool):
            raise BadRequest("promote must be true or false")
        return value
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    try:
        if name.endswith("_address"):
            return str(parse_address(value)) if value else ""
        return parse_name(value)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from error


def status_of(answer: ChangeAnswer) -> int:
    """Return the HTTP status that goes with a verdict."""
    return _STATUS[answer.verdict]


def document_of(answer: ChangeAnswer) -> dict[str, str]:
    """Return the answer as JSON."""
    return {
        "verdict": answer.verdict.value,
        "text": answer.text,
        "node_id": f"{answer.node_id:016x}",
    }


class Gate:
    """Lets changes in, by the node's password if it has one.

    Failures are logged, with how many there were, at most once in
    `limits.ADMIN_FAILURES_LOGGED_EVERY_MS`.
    """

    def __init__(self, password: bytes | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._password = password
        self._clock = clock
        self._failures = 0
        self._quiet_until = 0.0

    def admits(self, authorization: bytes) -> bool:
        """Whether the value of this Authorization header ("" if none) may change something."""
        if self._password is None:
            return True
        if hmac.compare_digest(_password_in(authorization), self._password):
            return True
        self._failures += 1
        now = self._clock()
        if now >= self._quiet_until:
            self._quiet_until = now + limits.ADMIN_FAILURES_LOGGED_EVERY_MS / 1000
            event(
                _log, logging.WARNING, "changes refused: wrong or no password", times=self._failures
            )
            self._failures = 0
        return False


def _password_in(authorization: bytes) -> bytes:
    """Return the password of an HTTP Basic header, "" if there is none (RFC 7617)."""
    scheme, _, encoded = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        credentials = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
    return credentials.partition(b":")[2]
