"""Replies that tell of the server or the connection: what of them must be the same all the same.

Figures differ, but a tool that reads them must find its way: the fields that it looks for, their
types, and what they say of things that both servers did alike, such as the database that a client
has selected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.differential.comparing import Answer, Rule, pairwise, same_kind, shape
from tests.differential.resp import Reply

COMMANDS_ASKED_MAX: Final = 10

_CLIENT_FACTS: Final = ("name", "db", "sub", "psub", "ssub", "cmd", "user", "redir", "resp")
"""Fields of CLIENT LIST that follow from what the client did."""

_HELLO_FACTS: Final = (b"server", b"version", b"proto", b"mode", b"modules")


def _same_fields(redis: Reply, kvnode: Reply) -> bool:
    """CLIENT LIST: each line has the fields of kvnode that Redis has too, in Redis' order."""
    theirs, ours = _fields(redis.text), _fields(kvnode.text)
    shared = [name for name in ours if name in theirs]
    return same_kind(redis, kvnode) and shared == [name for name in theirs if name in ours]


def _same_client(redis: Reply, kvnode: Reply) -> bool:
    """CLIENT INFO: as CLIENT LIST, and the same facts about the client."""
    theirs, ours = _fields(redis.text), _fields(kvnode.text)
    return _same_fields(redis, kvnode) and all(
        theirs.get(name) == ours.get(name) for name in _CLIENT_FACTS
    )


def _fields(text: bytes) -> dict[str, str]:
    """The fields of the first client that is told of."""
    line = text.decode("latin-1").removeprefix("txt:").partition("\n")[0]
    return dict(field.partition("=")[::2] for field in line.split(" "))


def _pairs(reply: Reply) -> Iterator[tuple[Reply, Reply]]:
    return zip(reply.elements[::2], reply.elements[1::2], strict=False)


def _same_hello(redis: Reply, kvnode: Reply) -> bool:
    """HELLO: the same fields in the same order, the same server, version and protocol."""
    theirs, ours = dict(_pairs(redis)), dict(_pairs(kvnode))
    return (
        shape(redis) == shape(kvnode)
        and all(theirs[name] == ours.get(name) for name in theirs if name.text in _HELLO_FACTS)
        and list(theirs) == list(ours)
    )


def _fewer_figures(redis: Reply, kvnode: Reply) -> bool:
    """MEMORY STATS: figures that Redis has too, of the same types."""
    theirs = dict(_pairs(redis))
    return same_kind(redis, kvnode) and all(
        name in theirs and same_kind(theirs[name], figure) for name, figure in _pairs(kvnode)
    )


def _same_docs(redis: list[Answer], kvnode: list[Answer], at: int) -> bool:
    """COMMAND DOCS: the commands that were asked for, each with its group and age."""
    one, other = redis[at].reply, kvnode[at].reply
    if one.kind != other.kind or len(redis[at].arguments) == 2:
        return one.kind == other.kind

    def facts(reply: Reply) -> dict[Reply, list[Reply | None]]:
        documents = ((name, dict(_pairs(document))) for name, document in _pairs(reply))
        wanted = [Reply(b"$", text) for text in (b"since", b"group")]
        return {name: [told.get(field) for field in wanted] for name, told in documents}

    return facts(one) == facts(other)


def _same_facts(redis: Reply, kvnode: Reply) -> bool:
    """COMMAND INFO: name, arity and key positions; null for the same commands."""
    if len(redis.elements) > COMMANDS_ASKED_MAX:
        return True  # without names it tells of all commands, and Redis has more of them

    def facts(row: Reply) -> tuple[Reply, ...]:
        return row.elements[:2] + row.elements[3:6] if row.elements else (row,)

    return [facts(row) for row in redis.elements] == [facts(row) for row in kvnode.elements]


def _same_role(redis: Reply, kvnode: Reply) -> bool:
    """ROLE: a master is told in the form of Redis' master, a replica in that of its replica."""
    if kvnode.elements and kvnode.elements[0].text == b"slave":
        kinds = [element.kind for element in kvnode.elements]
        return redis.kind == kvnode.kind and kinds == [b"$", b"$", b":", b"$", b":"]
    return [e.kind for e in redis.elements] == [e.kind for e in kvnode.elements]


CANNED: Final[tuple[Rule, ...]] = (
    Rule(("client|list",), "fields stand in Redis' order; which clients there are differs",
         pairwise(_same_fields)),
    Rule(("client|info",), "as CLIENT LIST; what follows from what the client did is compared too",
         pairwise(_same_client)),
    Rule(("hello",), "fields, server, version and protocol are compared, not ids",
          pairwise(_same_hello)),
    Rule(("memory|stats",), "figures have Redis' names and types; kvnode has fewer",
          pairwise(_fewer_figures)),
    Rule(("command|docs",), "group and age of each command are compared, not its texts",
          _same_docs),
    Rule(("command|info",), "flags and categories beyond name, arity and key positions are hints",
          pairwise(_same_facts)),
    Rule(("role",), "compared by the types of its elements", pairwise(_same_role)),
    Rule(("info", "command|list", "command", "memory|usage", "memory|doctor", "latency|doctor",
           "latency|histogram", "latency|latest", "latency|history", "latency|reset",
           "slowlog|get", "slowlog|len", "object|idletime", "object|refcount", "client|id",
           "command|count", "lastsave", "wait"),
          "tells about the server or the connection, not about data: compared by type",
          pairwise(same_kind)),
)  # fmt: skip
"""Rules for commands whose replies are figures of the server."""
