"""Other versions of the program, as far as their peers can tell.

Every simulated process runs the same code. What makes one an *older* program is what it says and
understands: wire version 2, no feature level, no request to join, and as a leader no duty towards
the membership. A *newer* one says that it knows a higher feature level than this repository has.
Whether what they are given in the log is within their level is for the observer to judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from kvnode.node import node as node_module
from kvnode.node.frames import MalformedFrame
from kvnode.node.hello import (
    WIRE_VERSION_MIN,
    Hello,
    JoinRequest,
    Refusal,
    RefusalReason,
)
from kvnode.node.node import Node
from kvnode.node.transport import PeerInbox, PeerLink, Transport
from kvnode.store.ops import LEVEL, MEMBERS_LEVEL

OLDER = MEMBERS_LEVEL - 1
NEWER = LEVEL + 1
"""A level that this repository does not have yet; `run.py` lets the state machine know it."""


class _OlderLink(PeerLink):
    """Says hello in the older wire version, whoever it is that listens."""

    @property
    def _wire_version(self) -> int:
        return WIRE_VERSION_MIN

    @_wire_version.setter
    def _wire_version(self, _version: int) -> None:
        """There is no other."""


class _OlderInbox(PeerInbox):
    """Understands the older wire version only."""

    def _greeted(self, first: Hello | JoinRequest | Refusal) -> None:
        if isinstance(first, JoinRequest):
            raise MalformedFrame("not a hello")
        if isinstance(first, Hello) and first.wire_version > WIRE_VERSION_MIN:
            first = Refusal(RefusalReason.WRONG_WIRE_VERSION, "this node speaks an older one")
        super()._greeted(first)


class _OlderTransport(Transport):
    """The older program's side of every connection."""

    async def listen(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _OlderInbox(self), host, port)

    def add_peer(self, peer: int, host: str, port: int) -> None:
        if peer in self._links:
            super().add_peer(peer, host, port)
            return
        link = self._links[peer] = _OlderLink(self, peer, host, port)
        if self._dialling is not None:
            link.task = self._dialling.create_task(link.run())


@contextmanager
def program(level: int) -> Iterator[Callable[[Node], None]]:
    """Make a `Node` inside as the program of a feature level would; then limit it to that."""
    module: Any = node_module
    before = module.Transport
    if level < MEMBERS_LEVEL:
        module.Transport = _OlderTransport
    try:
        yield lambda node: _limit(node, level)
    finally:
        module.Transport = before


def _limit(node: Any, level: int) -> None:
    if level == LEVEL:
        return
    hello, view = node.peers.hello, node.changes.view
    node.peers.hello = lambda: hello()._replace(level=level)
    node.changes.view = lambda: replace(view(), own_level=level)
    if level < MEMBERS_LEVEL:
        node.changes.sweep = lambda: None
