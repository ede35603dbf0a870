"""Records and segments as lines of text, one by one: no long log is held to align its columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Columns = Mapping[str, int]
"""Keys of a row in the order of their columns, and the width of each in characters."""

_RECORD: Columns = {
    "segment": 8,
    "offset": 10,
    "kind": 8,
    "index": 12,
    "term": 8,
    "entry": 11,
    "bytes": 9,
}
_SEGMENT: Columns = {
    "sequence": 8,
    "first_index": 12,
    "file_bytes": 10,
    "used_bytes": 10,
    "records": 8,
    "groups": 8,
    "indexes": 21,
    "terms": 9,
    "verdict": 10,
}


def record_lines(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a heading, and a line for each of `contents.records`."""
    yield _heading(_RECORD)
    for record in records:
        yield _line(record, _RECORD)


def overview_lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """Yield `contents.overview` as text."""
    yield (
        f"node {shown['node']}  cluster {shown['cluster_id']}  verdict {shown['verdict']} "
        f"({shown['kind']})  entries {shown['first_index']} to {shown['last_index']}  "
        f"snapshot {shown['snapshot_index'] or '-'}"
    )
    if shown["running"]:
        yield f"a node runs here (process {shown['running']}): the end may be in flight"
    yield _heading(_SEGMENT)
    for segment in shown["segments"]:
        yield _line(segment, _SEGMENT)
    if (state := shown["state"]) is not None:
        files = ", ".join(f"{name} {fault}" for name, fault in shown["state_files"].items())
        synced = state["synced"]
        yield (
            f"state: term {state['term']}  vote {state['vote'] or '-'}  commit {state['commit']}  "
            f"synced {synced['segment']}:{synced['offset']}  "
            f"recovering {'yes' if state['recovering'] else 'no'}  ({files})"
        )
    for copy in shown["evidence"]:
        yield f"evidence: {copy['name']}, {copy['bytes']} bytes"


def _heading(columns: Columns) -> str:
    return " ".join(
        name.removeprefix("file_").replace("_", " ").upper().rjust(width)
        for name, width in columns.items()
    )


def _line(row: Mapping[str, Any], columns: Columns) -> str:
    return " ".join(_cell(row[name]).rjust(width) for name, width in columns.items())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return "{}-{}".format(*value) if isinstance(value, tuple) else str(value)
