"""A connection of redis-py hides nothing, whatever its event loop makes of a broken socket."""

from __future__ import annotations

import pytest

from scripts.local_cluster import HOST
from tests.chaos.client import ConnectionLost
from tests.chaos.library import LibraryConnection

ADDRESS = (HOST, 1)


def gone(*_arguments: object, **_named: object) -> None:
    """What uvloop says of a socket that was reset meanwhile."""
    raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")


async def test_a_socket_that_is_gone_before_the_handshake_is_nobody_listening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redis.asyncio.connection.AbstractConnection.connect", gone)
    with pytest.raises(OSError, match="handler is closed"):
        await LibraryConnection.open(ADDRESS)


async def test_a_socket_that_is_gone_before_a_call_is_a_lost_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = LibraryConnection(ADDRESS)
    base = "redis.asyncio.connection.AbstractConnection"
    monkeypatch.setattr(f"{base}.is_connected", property(lambda _self: True))
    monkeypatch.setattr(f"{base}.send_packed_command", gone)
    with pytest.raises(ConnectionLost):
        await connection.call(("PING",))
    assert connection.lost
