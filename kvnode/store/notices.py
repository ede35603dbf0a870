"""Keyspace notifications, computed where keys change: at apply, on every node alike.

An op that changes a key tells so by `Keyspace.notify`. Nothing is kept unless somebody asked for it
(`Notices.wanted`), so telling costs a look. What was noted is taken by who delivers it, after the
entry was applied. Classes and names of events are those of Redis (documentation: "Redis keyspace
notifications").
"""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple


class Notice(IntFlag):
    """Classes of events, each with the letter of `notify-keyspace-events`."""

    GENERIC = 1
    """g: DEL, EXPIRE, RENAME, …"""
    STRING = 2
    """$"""
    LIST = 4
    """l"""
    SET = 8
    """s"""
    HASH = 16
    """h"""
    ZSET = 32
    """z"""
    STREAM = 64
    """t"""
    EXPIRED = 128
    """x"""
    NEW = 512
    """n: a key came."""


class Event(NamedTuple):
    """What happened to a key."""

    notice: Notice
    name: bytes
    number: int
    """Of the database."""
    key: bytes
