"""What may be chosen about a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wal.errors import InvalidArgument
from wal.format import OFFSET_MAX, SECTOR_BYTES

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Options:
    """Bounds and policies.

    Attributes:
        segment_bytes: full size of a segment. All of it is written as zeros when it is made, so
            that a larger one starts slower; a group that is larger gets a segment of its own.
        sector_bytes: groups start on multiples of it. For devices that tear larger sectors.
        record_bytes_max: the largest payload.
        group_bytes_max: the most payload bytes in one group.
        repair: "auto" repairs what was provably never synced, "strict" only a file that ends early.
    """

    segment_bytes: int = 16 * _MIB
    sector_bytes: int = SECTOR_BYTES
    record_bytes_max: int = 48 * _MIB
    group_bytes_max: int = 512 * _MIB
    repair: Literal["auto", "strict"] = "auto"

    def __post_init__(self) -> None:
        sector = self.sector_bytes
        if sector < SECTOR_BYTES or sector & (sector - 1):
            raise InvalidArgument(f"sector_bytes is {sector}: not a power of two from 512 on")
        if self.segment_bytes % sector or not 2 * sector <= self.segment_bytes <= OFFSET_MAX:
            raise InvalidArgument(
                f"segment_bytes is {self.segment_bytes}: not a multiple of {sector} "
                f"between {2 * sector} and {OFFSET_MAX}"
            )
        if not 0 < self.record_bytes_max <= self.group_bytes_max <= OFFSET_MAX // 2:
            raise InvalidArgument("record_bytes_max and group_bytes_max do not fit each other")
        if self.repair not in ("auto", "strict"):
            raise InvalidArgument(f"repair is {self.repair!r}: neither auto nor strict")
