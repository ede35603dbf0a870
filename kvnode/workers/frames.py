"""What travels between a node and one of its workers, over a socket pair.

To the worker, a job: `length:u32`, then a msgpack array

    [engine directory, command, protocol, op, most bytes of the reply]

The directory is told with each job, as a snapshot may have put another engine in its place. A job
whose command is empty only says: let go of the engine that you have open. It has no answer.

From the worker, first one answer of status READY; then one for each job, in order:

    status:u8 missed:u32 found:u32 length:u32, then `length` bytes

`missed` and `found` are what the front end counts of the keys that the command looked for. What the
bytes are is told by the status.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

import msgpack

from kvnode.limits import COMMAND_BYTES_MAX, MIB
from kvnode.service import Op

JOB_BYTES_MAX: Final = COMMAND_BYTES_MAX + MIB
COMPLAINT_BYTES_MAX: Final = 8192
"""Of a traceback."""

LENGTH: Final = Struct(">I")
_ANSWER: Final = Struct(">BIII")
ANSWER_BYTES: Final = _ANSWER.size


class Status(IntEnum):
    """What became of a job."""

    READY = 0
    """None yet: the worker has started."""
    REPLY = 1
    """The bytes are the reply, in the client's protocol."""
    NIL = 2
    """The result is nil; no bytes. Who asked knows how to say it."""
    TOO_LARGE = 3
    """The reply is larger than the most, or than the worker's memory; no bytes."""
    GONE = 4
    """There is no such engine any more; no bytes."""
    FAILED = 5
    """The read met a bug; the bytes are its traceback."""


class Job(NamedTuple):
    """What a worker is to do."""

    engine: str
    command: str
    protocol: int
    op: Op
    reply_bytes_max: int

    def pack(self) -> bytes:
        """The frame."""
        body: bytes = msgpack.packb(self, use_bin_type=True)
        return LENGTH.pack(len(body)) + body

    @classmethod
    def unpack(cls, body: bytes) -> Job:
        """From the bytes behind the length. Raises msgpack's errors, `TypeError`."""
        return cls(*msgpack.unpackb(body))


LET_GO: Final = Job("", "", 0, [], 0)
"""Close the engine that is open."""


class Answer(NamedTuple):
    """What comes before the bytes of an answer."""

    status: Status
    missed: int
    found: int
    length: int

    def pack(self) -> bytes:
        """The head of the frame."""
        return _ANSWER.pack(*self)

    @classmethod
    def unpack(cls, head: bytes | bytearray) -> Answer:
        """From `ANSWER_BYTES` bytes. Raises `ValueError` for a status that there is not."""
        status, missed, found, length = _ANSWER.unpack(head)
        return cls(Status(status), missed, found, length)
