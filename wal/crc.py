"""CRC-32C (Castagnoli polynomial; RFC 3720, appendix B.4), by the fastest library installed.

All libraries agree bit for bit, so that files can be read whichever wrote them. `BACKEND` says
which one it is: without a C compiler pip silently installs crcmod in pure Python, 35 times slower,
and somebody should be told.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

Extend = Callable[[int, bytes], int]


def _google() -> tuple[str, Extend] | None:
    with warnings.catch_warnings():
        # It warns at import when its own extension is missing; crcmod may still have one.
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            import google_crc32c
        except ImportError:
            return None
    return ("google-crc32c", google_crc32c.extend) if google_crc32c.implementation == "c" else None


def _crcmod() -> tuple[str, Extend]:
    # The flag is set on the inner module only; crcmod itself does not export it.
    from crcmod.crcmod import _usingExtension as extension
    from crcmod.predefined import mkPredefinedCrcFun

    function = mkPredefinedCrcFun("crc-32c")

    def extend(crc: int, data: bytes) -> int:
        value: int = function(data, crc)
        return value

    return ("crcmod-c" if extension else "crcmod-python"), extend


BACKEND, extend = _google() or _crcmod()
"""`BACKEND` is one of "google-crc32c", "crcmod-c", "crcmod-python".

`extend(crc, data)` is the CRC of all that gave `crc`, followed by `data`; it starts from 0.
"""
