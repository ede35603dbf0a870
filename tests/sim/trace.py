"""What happened, as one number: two runs did the same if and only if their traces are equal."""

from __future__ import annotations

import struct
from collections.abc import Callable
from zlib import crc32

_TIME = struct.Struct("<d")


class Trace:
    """Folds every event into a checksum; prints them too if asked.

    Args:
        now: virtual seconds.
        show: takes one line per event, None for none.
    """

    def __init__(self, now: Callable[[], float], show: Callable[[str], None] | None) -> None:
        self._now = now
        self._show = show
        self.value = 0

    def frame(self, source: str, target: str, data: bytes) -> None:
        """Bytes arrived."""
        self.value = crc32(data, crc32(_TIME.pack(self._now()), self.value))
        if self._show is not None:
            self._show(f"{self._now():10.6f} {source} -> {target}: {len(data)} bytes")

    def note(self, text: str) -> None:
        """Something else happened."""
        self.value = crc32(text.encode(), crc32(_TIME.pack(self._now()), self.value))
        if self._show is not None:
            self._show(f"{self._now():10.6f} {text}")
