"""Names become numbers: the ids by which clusters and nodes know each other.

People write names; Raft and the headers of the log carry unsigned 64-bit numbers. Both follow from
the names alone, so every member of a cluster computes the same ones without asking.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b


def _hash64(text: str) -> int:
    # Zero means "nobody" in Raft, so no name may hash to it.
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") or 1


def default_cluster_id(cluster: Mapping[str, object]) -> str:
    """Derive the cluster's id from its initial members: 16 hex digits, whatever their order."""
    text = ",".join(sorted(f"{name}={address}" for name, address in cluster.items()))
    return f"{_hash64(text):016x}"


def cluster_number(cluster_id: str) -> int:
    """Return the cluster id as the log's headers carry it: an unsigned 64-bit number, never 0.

    Sixteen hex digits stand for themselves, any other text for its hash.
    """
    if re.fullmatch("[0-9a-f]{16}", cluster_id):
        return int(cluster_id, 16) or 1
    return _hash64(cluster_id)


def node_id(cluster_id: str, name: str) -> int:
    """Return the Raft id of the node called `name`: an unsigned 64-bit number, never 0."""
    return _hash64(cluster_id + name)
