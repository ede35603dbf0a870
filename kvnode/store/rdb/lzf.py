"""LZF, with which Redis compresses strings above 20 bytes (format of Marc Lehmann's liblzf).

`000nnnnn` is followed by n + 1 bytes that stand for themselves. `lllddddd [more] dddddddd` repeats
l + 2 bytes (with l = 7 another byte is added to l) that lie d + 1 bytes back; they may overlap what
they make.
"""

from __future__ import annotations

from kvnode.store.rdb.values import BadPayload


def decompress(data: bytes, size: int) -> bytes:
    """The `size` bytes that `data` stands for; the caller bounds `size`.

    Raises:
        BadPayload: they are more or fewer, or something lies outside of them.
    """
    out = bytearray()
    at, end = 0, len(data)
    try:
        while at < end and len(out) <= size:
            control = data[at]
            at += 1
            if control < 32:
                if at + control >= end:
                    raise BadPayload("literal bytes are missing")
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            distance = ((control & 31) << 8 | data[at]) + 1
            at += 1
            _repeat(out, distance, length + 2)
    except IndexError:
        raise BadPayload("a back reference is cut short") from None
    if len(out) != size:
        raise BadPayload("the compressed string has another size")
    return bytes(out)


def _repeat(out: bytearray, distance: int, length: int) -> None:
    start = len(out) - distance
    if start < 0:
        raise BadPayload("a back reference points before the beginning")
    if length <= distance:
        out += out[start : start + length]
    else:
        out += (out[start:] * (length // distance + 1))[:length]
