"""glibc's `malloc`, seen from outside: what it keeps of what was freed, and how it gives it back.

What a process has freed stays its own until the allocator returns it, and counts for the kernel
like any other. Other C libraries than glibc have neither function: then nothing is known, and
nobody can.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

__all__ = ["find_free_bytes", "find_trim"]

_FIELDS: Final = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"),
    *("uordblks", "fordblks", "keepcost"),
)


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of malloc.h, glibc 2.33 and newer."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


def find_trim() -> Callable[[], object] | None:
    """Return glibc's `malloc_trim(0)`, None where the C library is another one."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    trim.argtypes = (ctypes.c_size_t,)
    trim.restype = ctypes.c_int
    return lambda: trim(0)


def find_free_bytes() -> Callable[[], int]:
    """Return what tells the bytes that `malloc` keeps free, in all arenas (`mallinfo2`).

    It is a few microseconds of reading under the locks of the arenas. Pages that `malloc_trim` took
    from the middle of an arena still count.
    """
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return lambda: 0
    ask.argtypes = ()
    ask.restype = _Mallinfo2

    def free_bytes() -> int:
        free: int = ask().fordblks
        return free

    return free_bytes
