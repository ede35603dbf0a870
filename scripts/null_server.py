"""The ceiling: what this machine can do with our parser and encoder when the node costs nothing.

    python scripts/null_server.py PORT

Answers every SET with OK and every GET with the same 64 bytes, on uvloop. A benchmark that divides
kvnode's figures by these tells what consensus and storage cost, and not how fast the machine is.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import cast

import uvloop

from kvnode.resp.encoder import OK_BYTES, array, bulk, error, mapping
from kvnode.resp.encoder import integer as encode_integer
from kvnode.resp.parser import Parser

VALUE = bulk(b"x" * 64)
REPLIES = {
    b"GET": VALUE,
    b"get": VALUE,
    b"PING": b"+PONG\r\n",
    b"CONFIG": array([bulk(b"save"), bulk(b"")]),  # redis-benchmark asks for it and for appendonly
    b"COMMAND": b"*0\r\n",
    b"HELLO": mapping([(bulk(b"server"), bulk(b"redis")), (bulk(b"proto"), encode_integer(3))], 3),
}


class NullConnection(asyncio.Protocol):
    """Answers without looking further than the name."""

    def __init__(self) -> None:
        self._parser = Parser()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        requests = self._parser.feed(data)
        while self._parser.is_behind:
            requests += self._parser.feed(b"")
        replies = [
            REPLIES.get(arguments[0], OK_BYTES)
            for arguments, _ in requests
            if isinstance(arguments, list)
        ]
        self._transport.write(b"".join(replies))
        if self._parser.violation is not None:
            self._transport.write(error(f"ERR {self._parser.violation}"))
            self._transport.close()


async def serve(port: int) -> None:
    """Serve on loopback until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(NullConnection, "127.0.0.1", port)
    print(f"null server on port {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit("usage: null_server.py PORT")
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(int(sys.argv[1])))
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
