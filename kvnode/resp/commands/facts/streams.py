"""Facts of the stream commands."""

from __future__ import annotations

from typing import Final

from kvnode.resp.commands import stream_groups, streams, waiting
from kvnode.resp.commands.command import NO_KEY, READ, WRITE, Command, container
from kvnode.resp.commands.facts.row import ONE_KEY, POINT, RANGE, SECOND, WHOLE, Row, to_command

READS: Final[tuple[Row, ...]] = (
    Row("xlen", 2, "readonly fast", ONE_KEY, "5.0.0", "stream", POINT,
        streams.parse_xlen, "Returns the number of entries of a stream."),
    Row("xrange", -4, "readonly", ONE_KEY, "5.0.0", "stream", RANGE,
        streams.parse_xrange, "Returns the entries of a stream between two ids.",
        streams.ENTRIES),
    Row("xrevrange", -4, "readonly", ONE_KEY, "5.0.0", "stream", RANGE,
        streams.parse_xrevrange,
        "Returns the entries of a stream between two ids, the newest first.", streams.ENTRIES),
    Row("xread", -4, "readonly blocking movablekeys", NO_KEY, "5.0.0", "stream", RANGE,
        waiting.parse_xread, "Returns the entries of streams that are newer than given ids.",
        streams.STREAMS, streams.keys_behind_streams),
    Row("xpending", -3, "readonly", ONE_KEY, "5.0.0", "stream", RANGE,
        stream_groups.parse_xpending,
        "Tells what the consumers of a group have not acknowledged.", stream_groups.PENDING),
)  # fmt: skip

WRITES: Final[tuple[Row, ...]] = (
    Row("xadd", -5, "write denyoom fast", ONE_KEY, "5.0.0", "stream", POINT,
        streams.parse_xadd, "Adds an entry to a stream, and trims it if asked."),
    Row("xdel", -3, "write fast", ONE_KEY, "5.0.0", "stream", RANGE,
        streams.parse_xdel, "Deletes entries of a stream and counts those that were there."),
    Row("xtrim", -4, "write", ONE_KEY, "5.0.0", "stream", RANGE,
        streams.parse_xtrim, "Removes the oldest entries of a stream."),
    Row("xsetid", -3, "write denyoom fast", ONE_KEY, "5.0.0", "stream", POINT,
        streams.parse_xsetid, "Sets the last id of a stream and what it counts."),
    Row("xreadgroup", -7, "write blocking movablekeys", NO_KEY, "5.0.0", "stream", RANGE,
        waiting.parse_xreadgroup,
        "Gives a consumer entries that none of its group was given, or its own again.",
        streams.STREAMS, streams.keys_behind_streams),
    Row("xack", -4, "write fast", ONE_KEY, "5.0.0", "stream", RANGE,
        stream_groups.parse_xack, "Acknowledges entries that a group was given."),
    Row("xclaim", -6, "write fast", ONE_KEY, "5.0.0", "stream", RANGE,
        stream_groups.parse_xclaim, "Gives a consumer entries that others did not acknowledge."),
    Row("xautoclaim", -6, "write fast", ONE_KEY, "6.2.0", "stream", RANGE,
        stream_groups.parse_xautoclaim,
        "Looks for entries that were not acknowledged for long and gives them to a consumer."),
)  # fmt: skip

_XGROUP: Final[tuple[Row, ...]] = (
    Row("xgroup|create", -5, "write denyoom", SECOND, "5.0.0", "stream", POINT,
        stream_groups.parse_xgroup_create, "Makes a consumer group."),
    Row("xgroup|createconsumer", 5, "write denyoom", SECOND, "6.2.0", "stream", POINT,
        stream_groups.parse_xgroup_createconsumer, "Makes a consumer of a group."),
    Row("xgroup|delconsumer", 5, "write", SECOND, "5.0.0", "stream", RANGE,
        stream_groups.parse_xgroup_delconsumer,
        "Deletes a consumer of a group and what it did not acknowledge."),
    Row("xgroup|destroy", 4, "write", SECOND, "5.0.0", "stream", WHOLE,
        stream_groups.parse_xgroup_destroy, "Deletes a consumer group."),
    Row("xgroup|setid", -5, "write", SECOND, "5.0.0", "stream", POINT,
        stream_groups.parse_xgroup_setid, "Sets the last id that a group was given."),
)  # fmt: skip

_XINFO: Final[tuple[Row, ...]] = (
    Row("xinfo|consumers", 4, "readonly", SECOND, "5.0.0", "stream", RANGE,
        stream_groups.parse_xinfo_consumers, "Describes the consumers of a group.",
        stream_groups.DESCRIPTIONS),
    Row("xinfo|groups", 3, "readonly", SECOND, "5.0.0", "stream", RANGE,
        stream_groups.parse_xinfo_groups, "Describes the groups of a stream.",
        stream_groups.DESCRIPTIONS),
    Row("xinfo|stream", -3, "readonly", SECOND, "5.0.0", "stream", RANGE,
        stream_groups.parse_xinfo_stream, "Describes a stream, with FULL all that is in it.",
        stream_groups.INFO),
)  # fmt: skip


def containers() -> list[Command]:
    """XGROUP and XINFO with their subcommands."""
    groups = [to_command(row, WRITE) for row in _XGROUP]
    about = [to_command(row, READ) for row in _XINFO]
    return [
        container("xgroup", -2, "5.0.0", "stream", "Manages consumer groups.", groups),
        container("xinfo", -2, "5.0.0", "stream", "Describes streams and their groups.", about),
    ]
