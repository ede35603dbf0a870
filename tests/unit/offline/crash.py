"""A process that is killed at its n-th system call that changes a disk."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

CALLS: tuple[tuple[Any, str], ...] = (
    *((os, name) for name in ("rename", "fsync", "fdatasync", "pwrite")),
    (Path, "mkdir"),
)
KILLED = 9
FAILED = 3


def crash_at(step: int, act: Callable[[], object]) -> bool:
    """Do `act` in a child that dies before its `step`-th call; whether it came so far.

    Nothing that it wrote is lost: what a power loss takes is a matter of `tests/torture`.
    """
    child = os.fork()
    if not child:
        _die(step, act)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, KILLED}, "it failed instead; its traceback is above"
    return code == KILLED


def _die(step: int, act: Callable[[], object]) -> NoReturn:
    done = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            nonlocal done
            done += 1
            if done == step:
                os._exit(KILLED)
            return real(*arguments, **named)

        return call

    try:
        for owner, name in CALLS:
            setattr(owner, name, counted(getattr(owner, name)))
        act()
    except BaseException:  # noqa: BLE001 - a child of pytest must not go on as a second pytest
        traceback.print_exc()
        os._exit(FAILED)
    os._exit(0)
