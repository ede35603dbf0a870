"""Streams and their groups as plain dicts: what the rows must add up to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ZERO, TOP = (0, 0), (2**64 - 1, 2**64 - 1)
Id = tuple[int, int]


def text(identity: Id) -> bytes:
    return b"%d-%d" % identity


@dataclass
class Nack:
    consumer: bytes
    delivered_ms: int
    deliveries: int = 1


@dataclass
class Group:
    last: Id
    entries_read: int | None
    seen: dict[bytes, int] = field(default_factory=dict)
    pending: dict[Id, Nack] = field(default_factory=dict)


class Stream:
    """One stream; ids are pairs of ints, answers those of the ops."""

    def __init__(self) -> None:
        self.entries: dict[Id, list[bytes]] = {}
        self.last, self.deleted, self.added = ZERO, ZERO, 0
        self.groups: dict[bytes, Group] = {}
        self.now_ms = 0

    def ids(self) -> list[Id]:
        return sorted(self.entries)

    def show(self, identity: Id) -> list[Any]:
        return [text(identity), self.entries[identity]]

    def add(self, wanted: Id | int | None, fields: list[bytes]) -> bytes | None:
        last_ms, last_sequence = self.last
        if wanted is None:
            wanted = (self.now_ms, 0) if self.now_ms > last_ms else (last_ms, last_sequence + 1)
        elif isinstance(wanted, int):
            wanted = (wanted, last_sequence + 1 if wanted == last_ms else 0)
        if wanted <= self.last:
            return None
        self.entries[wanted] = fields
        self.last = wanted
        self.added += 1
        return text(wanted)

    def delete(self, ids: list[Id]) -> int:
        found = [identity for identity in dict.fromkeys(ids) if identity in self.entries]
        for identity in found:
            del self.entries[identity]
        self.deleted = max([self.deleted, *found])
        return len(found)

    def trim(self, bound: Id | int, *, in_nodes: bool, limit: int) -> int:
        """Node by node of a hundred entries, or entry by entry."""
        ids = self.ids()
        size = 100 if in_nodes else 1
        removed = 0
        while node := ids[removed : removed + size]:
            keeps = len(ids) - removed - len(node)
            goes = keeps >= bound if isinstance(bound, int) else node[-1] < bound
            if not goes or (limit and removed + len(node) > limit):
                break
            removed += len(node)
        for identity in ids[:removed]:
            del self.entries[identity]
        return removed

    def after(self, since: Id, count: int = 0) -> list[Id]:
        newer = [identity for identity in self.ids() if identity > since]
        return newer[: count or None]

    # --- groups -----------------------------------------------------------------------------------

    def position(self, identity: Id) -> int | None:
        """How many entries were added up to an id, as far as Redis would say."""
        ids = self.ids()
        if not self.added:
            return 0
        if not ids and identity <= self.last:
            return self.added
        if identity >= self.last:
            return self.added if identity == self.last else None
        has_holes = self.deleted != ZERO and self.deleted >= ids[0]
        if has_holes or identity > ids[0]:
            return None
        return self.added - len(ids) + (identity == ids[0])

    def holes_from(self, identity: Id) -> bool:
        return any(first <= self.deleted for first in self.ids()[:1]) and (
            self.deleted != ZERO and identity <= self.deleted
        )

    def lag(self, group: Group) -> int | None:
        if not self.added:
            return 0
        if group.entries_read is not None and not self.holes_from(group.last):
            return self.added - group.entries_read
        position = self.position(group.last)
        return None if position is None else self.added - position

    def read_group(
        self, name: bytes, consumer: bytes, since: Id, count: int, *, without_ack: bool
    ) -> list[Any] | None:
        group = self.groups[name]
        if since != TOP:
            return self._history(group, consumer, since, count)
        newer = self.after(group.last, count)
        if not newer:
            return None
        group.seen[consumer] = self.now_ms
        for identity in newer:
            if group.entries_read is not None and not self.holes_from(identity):
                group.entries_read += 1
            else:
                group.entries_read = self.position(identity)
            group.last = identity
            if not without_ack:
                group.pending[identity] = Nack(consumer, self.now_ms)
        return [self.show(identity) for identity in newer]

    def _history(self, group: Group, consumer: bytes, since: Id, count: int) -> list[Any]:
        group.seen[consumer] = self.now_ms
        own = sorted(
            identity
            for identity, nack in group.pending.items()
            if nack.consumer == consumer and identity > since
        )
        answer: list[Any] = []
        for identity in own[: count or None]:
            if identity not in self.entries:
                answer.append([text(identity), None])
                continue
            nack = group.pending[identity]
            nack.delivered_ms = self.now_ms
            nack.deliveries += 1
            answer.append(self.show(identity))
        return answer

    def acknowledge(self, name: bytes, ids: list[Id]) -> int:
        return sum(self.groups[name].pending.pop(identity, None) is not None for identity in ids)

    def _take(
        self, group: Group, consumer: bytes, identity: Id, idle_ms: int, *, just_id: bool
    ) -> list[Any]:
        nack = group.pending[identity]
        if self.now_ms - nack.delivered_ms < idle_ms:
            return []
        group.seen[consumer] = self.now_ms
        nack.consumer, nack.delivered_ms = consumer, self.now_ms
        nack.deliveries += not just_id
        return [text(identity) if just_id else self.show(identity)]

    def claim(
        self,
        name: bytes,
        consumer: bytes,
        ids: list[Id],
        idle_ms: int,
        *,
        force: bool,
        just_id: bool,
    ) -> list[Any]:
        group = self.groups[name]
        answer: list[Any] = []
        for identity in ids:
            if identity not in self.entries:
                group.pending.pop(identity, None)
                continue
            least = idle_ms if identity in group.pending else 0
            if identity not in group.pending and force:
                group.pending[identity] = Nack(consumer, self.now_ms)
            if identity in group.pending:
                answer += self._take(group, consumer, identity, least, just_id=just_id)
        return answer

    def claim_all(
        self, name: bytes, consumer: bytes, start: Id, count: int, idle_ms: int
    ) -> list[Any]:
        group = self.groups[name]
        claimed: list[Any] = []
        gone: list[Any] = []
        looks = count * 10
        for identity in sorted(group.pending):
            if identity < start:
                continue
            if not looks or len(claimed) + len(gone) == count:
                return [text(identity), claimed, gone]
            looks -= 1
            if identity in self.entries:
                claimed += self._take(group, consumer, identity, idle_ms, just_id=False)
            else:
                del group.pending[identity]
                gone.append(text(identity))
        return [text(ZERO), claimed, gone]

    def delete_consumer(self, name: bytes, consumer: bytes) -> int:
        group = self.groups[name]
        own = [identity for identity, nack in group.pending.items() if nack.consumer == consumer]
        for identity in own:
            del group.pending[identity]
        group.seen.pop(consumer, None)
        return len(own)

    # --- telling ----------------------------------------------------------------------------------

    def info(self) -> list[Any]:
        """XINFO STREAM FULL COUNT 0, without what it says of a tree."""
        ids = self.ids()
        return [
            *(b"length", len(ids), b"last-generated-id", text(self.last)),
            *(b"max-deleted-entry-id", text(self.deleted), b"entries-added", self.added),
            *(b"recorded-first-entry-id", text(ids[0] if ids else ZERO)),
            *(b"entries", [self.show(identity) for identity in ids]),
            *(b"groups", [self._group_info(name) for name in sorted(self.groups)]),
        ]

    def _group_info(self, name: bytes) -> list[Any]:
        group = self.groups[name]
        pending = sorted(group.pending.items())
        consumers = []
        for consumer in sorted(group.seen):
            own = [
                [text(identity), nack.delivered_ms, nack.deliveries]
                for identity, nack in pending
                if nack.consumer == consumer
            ]
            consumers.append(
                [
                    *(b"name", consumer, b"seen-time", group.seen[consumer]),
                    *(b"pel-count", len(own), b"pending", own),
                ]
            )
        shown = [
            [text(identity), nack.consumer, nack.delivered_ms, nack.deliveries]
            for identity, nack in pending
        ]
        return [
            *(b"name", name, b"last-delivered-id", text(group.last)),
            *(b"entries-read", group.entries_read, b"lag", self.lag(group)),
            *(b"pel-count", len(pending), b"pending", shown, b"consumers", consumers),
        ]
