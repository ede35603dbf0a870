"""When a client's socket is read: while no reason holds against it.

A socket that is not read fills the kernel's buffers, and then its client waits: the one way to slow
a client down that costs no memory and refuses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

# Reasons not to read a client's socket; any number of them may hold at once.
PIPELINE_FULL: Final = 1
OUTPUT_FULL: Final = 2
NODE_FULL: Final = 4
STOPPING: Final = 8
HEAVY: Final = 16
BEHIND: Final = 32

WAITING: Final = OUTPUT_FULL | HEAVY
"""With these its backlog waits, too."""


class Reading:
    """Whether one socket is read.

    Attributes:
        reasons: why it is not, added up; 0: it is read.
    """

    __slots__ = ("_transport", "reasons")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport: asyncio.Transport | None = transport
        self.reasons = 0

    def pause(self, reason: int) -> None:
        """Do not read the socket, for one reason more."""
        transport = self._transport
        if not self.reasons and transport is not None and not transport.is_closing():
            transport.pause_reading()
        self.reasons |= reason

    def resume(self, reason: int) -> None:
        """One reason less."""
        if self.reasons & reason:
            self.reasons &= ~reason
            transport = self._transport
            if not self.reasons and transport is not None and not transport.is_closing():
                transport.resume_reading()

    def end(self) -> None:
        """The socket is closed."""
        self._transport = None
