"""CRC-64 of David Jones, which ends a payload of DUMP: polynomial ad93d23594c935a9, reflected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import crcmod

crc64: Final[Callable[[bytes], int]] = crcmod.mkCrcFun(
    0x1AD93D23594C935A9, initCrc=0, rev=True, xorOut=0
)
"""The checksum of bytes; that of b"123456789" is e9c6d914c4b8d9ca."""
