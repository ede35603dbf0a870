"""Asking to become a member: what `kvnode serve --join` does before it can start as a node.

Any member may be asked; it puts the request to the leader. To ask twice is to ask once, since the
request carries the storage id of the data directory. Nobody who can be reached, or nobody who can
decide, is waited for; a refusal is final.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from kvnode.address import Address
from kvnode.errors import ConfigurationError
from kvnode.limits import CHANGE_SECONDS_MAX, PEER_HELLO_BYTES_MAX
from kvnode.node.frames import FrameBuffer, MalformedFrame
from kvnode.node.hello import JoinAnswer, JoinRequest, Refusal, decode_joined, encode_join
from kvnode.obs.log import event
from kvnode.service import Verdict

_log = logging.getLogger("kvnode.node")

RETRY_SECONDS = 1.0
"""Between two rounds through the addresses."""

ANSWER_SECONDS_MAX = CHANGE_SECONDS_MAX + 5.0
"""Whoever was asked answers within the first part of this."""

READ_BYTES = 4096


async def join(addresses: Sequence[Address], request: JoinRequest) -> JoinAnswer:
    """Ask until somebody has decided; returns who this node is from now on.

    Raises:
        ConfigurationError: the cluster refused, with its reason.
    """
    while True:
        for address in addresses:
            try:
                answer = await _ask(address, request)
            except (OSError, TimeoutError, MalformedFrame) as error:
                why = str(error) or type(error).__name__
                event(_log, logging.WARNING, "cannot ask to join", peer=address, why=why)
                continue
            if isinstance(answer, Refusal) or answer.verdict == Verdict.REFUSED:
                raise ConfigurationError(f"--join {address}: {answer.text}")
            if answer.verdict == Verdict.DONE and answer.node_id:
                return answer
            event(_log, logging.WARNING, "not admitted yet", peer=address, why=answer.text)
        await asyncio.sleep(RETRY_SECONDS)


async def _ask(address: Address, request: JoinRequest) -> JoinAnswer | Refusal:
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(encode_join(request))
            frames = FrameBuffer(PEER_HELLO_BYTES_MAX)
            while data := await reader.read(READ_BYTES):
                for body in frames.feed(data):
                    return decode_joined(body)
        finally:
            writer.close()
    raise MalformedFrame("the connection was closed; is this a peer port, and not an older kvnode?")
