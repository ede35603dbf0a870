"""Where connections arrive: who is let in becomes a client, who is refused costs next to nothing.

`kvnode.admission.door` decides; here is what its decisions do to sockets. There is one `Doorstep`
for all of them, as it knows nothing of any. Parser, queues and the rest of a `Connection` are made
for who is let in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, cast

from kvnode.admission.door import Door, Refusal, peer_of
from kvnode.obs.log import event
from kvnode.resp.encoder import error

if TYPE_CHECKING:
    from kvnode.resp.listener import RespServer

_log = logging.getLogger("kvnode.resp")


class Doorstep(asyncio.Protocol):
    """The first protocol of every connection.

    Attributes:
        door: how many of them each peer has.
    """

    def __init__(self, server: RespServer) -> None:
        self.door = Door(time.monotonic)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but name.
        socket = cast("asyncio.Transport", transport)
        peer = peer_of(socket.get_extra_info("peername"))
        settings = self._server.settings
        refusal = self.door.admit(peer, settings.clients_max, settings.connections_per_peer_max)
        if refusal is None:
            self._server.clients.add(socket, peer)
        else:
            self._turn_away(socket, peer, refusal)

    def _turn_away(self, transport: asyncio.Transport, peer: str, refusal: Refusal) -> None:
        self._server.stats.count_rejected(refusal.reason)
        if refusal.untold:
            event(
                _log,
                logging.WARNING,
                "connections refused",
                peer=peer,
                why=refusal.text.removeprefix("ERR "),
                connections=refusal.untold,
            )
        if not refusal.text:
            transport.abort()
            return
        transport.write(error(refusal.text))
        transport.close()
