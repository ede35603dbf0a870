"""What a node remembers of others on its disk: whose directory is whose, and who is a member."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from kvnode.directory import DataDirectory, PeerIdentityMismatch
from kvnode.node.hello import Refusal, RefusalReason
from kvnode.obs.log import event
from kvnode.store.members import Member, Role

_log = logging.getLogger("kvnode")


class Acquaintances:
    """A data directory as `kvnode.node.node` knows it."""

    def __init__(self, directory: DataDirectory) -> None:
        self._directory = directory

    def bind_peer(self, peer: int, storage_id: int, incarnation: int) -> Refusal | None:
        """Remember a peer's directory; why the peer is refused, or None."""
        try:
            self._directory.bind_peer(peer, storage_id, incarnation)
        except PeerIdentityMismatch as mismatch:
            event(_log, logging.ERROR, "peer refused", peer=f"{peer:016x}", reason=str(mismatch))
            return Refusal(RefusalReason.STORAGE_CHANGED, str(mismatch))
        return None

    def note_members(self, index: int, members: Mapping[int, Member]) -> None:
        """Remember the membership as of a log index, and forget the directories of who left."""
        directory = self._directory
        known = {
            node_id: (
                member.name,
                member.peer_address,
                "learner" if member.role is Role.LEARNER else "voter",
            )
            for node_id, member in members.items()
        }
        directory.note_configuration(index, known)
        for peer in set(directory.identity.peers) - set(members):
            directory.forget_peer(peer)
