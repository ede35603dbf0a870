"""The identity file: whose data directory this is, as bytes and as values. Pure functions.

It is JSON with a SHA-256 of its own content, since a node that is wrong about who it is could vote
twice. `kvnode.directory` reads and replaces it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kvnode.errors import ConfigurationError, LogCorrupt
from kvnode.identity import node_id

FORMAT = 1
"""Version of the identity file. A higher one is refused, never guessed at."""

RENAMED_FORMAT = 2
"""Version of the file of a node that an older program would misread.

That is one that nobody admitted yet, or whose cluster got a new id: older programs would take part
under a wrong id, so they are refused. All others stay at `FORMAT`, so that an update can be undone.
"""


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What a peer's directory said of itself when it was last heard."""

    storage_id: int
    incarnation: int


class KnownMember(NamedTuple):
    """A member of the cluster: its name, HOST:PORT for its peers, and "voter" or "learner"."""

    name: str
    peer_address: str
    role: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose directory this is. The ids are unsigned 64-bit numbers.

    Attributes:
        node: the name of the node.
        node_id: its Raft id; 0 while it asks to join and nobody has admitted it.
        cluster_id: of the cluster that it belongs to; "" while nobody has admitted it.
        storage_id: of this directory. Who asks to join tells it: to ask twice is to ask once.
        incarnation: how often a node was started here.
        members: the initial members (name to peer address), as the first start was given them.
        peers: what is known of the directories of the others, by node id.
        origin: the id under which the cluster's log began, which its files carry. Another one than
            `cluster_id` only after a `kvnode recover`.
        join: peer addresses to ask for admission, separated by commas.
        replaces: the member, by name or id, whose place this node shall take; "" nobody's.
        configuration_index: of the log entry that made `configuration`; 0 while none is known.
        configuration: the newest membership that was applied here, by node id. A hint of whom to
            talk to; what counts is the log.
    """

    node: str
    node_id: int
    cluster_id: str
    storage_id: int
    incarnation: int
    members: Mapping[str, str]
    peers: Mapping[int, PeerFacts]
    origin: str = ""
    join: str = ""
    replaces: str = ""
    configuration_index: int = 0
    configuration: Mapping[int, KnownMember] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.origin:
            object.__setattr__(self, "origin", self.cluster_id)

    @property
    def is_admitted(self) -> bool:
        """Whether the node is, or was, a member of its cluster."""
        return self.node_id != 0

    @property
    def has_others(self) -> bool:
        """Whether the cluster has other voters, as far as is known here: those can heal it."""
        if self.configuration:
            return any(
                role == "voter" and node_id != self.node_id
                for node_id, (_, _, role) in self.configuration.items()
            )
        return len(self.members) > 1 or bool(self.join)


def encode_identity(identity: Identity) -> bytes:
    """Write an identity as JSON with its checksum. Ids are hex: JSON numbers end at 2**53."""
    document = asdict(identity)
    is_plain = identity.is_admitted and identity.origin == identity.cluster_id
    document["format"] = FORMAT if is_plain else RENAMED_FORMAT
    document["node_id"] = f"{identity.node_id:016x}"
    document["storage_id"] = f"{identity.storage_id:016x}"
    document["peers"] = {
        f"{peer:016x}": {"storage_id": f"{facts.storage_id:016x}", "incarnation": facts.incarnation}
        for peer, facts in identity.peers.items()
    }
    document["configuration"] = {
        f"{number:016x}": member._asdict() for number, member in identity.configuration.items()
    }
    document["sha256"] = _checksum(document)
    return json.dumps(document, sort_keys=True, indent=2).encode() + b"\n"


def decode_identity(content: bytes, path: Path) -> Identity:
    """Read an identity back; `path` is the data directory, for the sentences.

    Raises:
        LogCorrupt: the content is not what was written.
        ConfigurationError: a newer kvnode wrote it.
    """
    try:
        document = json.loads(content)
        if not isinstance(document, dict) or document.pop("sha256", "") != _checksum(document):
            raise ValueError("its checksum does not match")
        version = document["format"]
    except (ValueError, KeyError, RecursionError) as error:
        raise LogCorrupt(
            f"the identity file in {path} is damaged ({error}); nothing was changed: restore the "
            "file, or replace this member"
        ) from error
    if version not in {FORMAT, RENAMED_FORMAT}:
        raise ConfigurationError(
            f"the identity file in {path} has format {version}; this kvnode knows {RENAMED_FORMAT}"
        )
    return Identity(
        node=document["node"],
        node_id=int(document["node_id"], 16),
        cluster_id=document["cluster_id"],
        storage_id=int(document["storage_id"], 16),
        incarnation=document["incarnation"],
        members=document["members"],
        peers={
            int(peer, 16): PeerFacts(int(facts["storage_id"], 16), facts["incarnation"])
            for peer, facts in document["peers"].items()
        },
        # Files from before members came and went have none of the rest.
        origin=document.get("origin", ""),
        join=document.get("join", ""),
        replaces=document.get("replaces", ""),
        configuration_index=document.get("configuration_index", 0),
        configuration={
            int(number, 16): KnownMember(**member)
            for number, member in document.get("configuration", {}).items()
        },
    )


def _checksum(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def new_identity(
    node: str, cluster_id: str | None, members: Mapping[str, str], join: str, replaces: str
) -> Identity:
    """The identity of a directory that was made just now."""
    if join:
        return Identity(node, 0, "", _random_id(), 0, {}, {}, join=join, replaces=replaces)
    cluster_id = cluster_id or secrets.token_hex(8)
    number = node_id(cluster_id, node)
    return Identity(node, number, cluster_id, _random_id(), 0, dict(members), {})


def joined(*addresses: str) -> str:
    """Lists of addresses as one, none of them twice, the first first."""
    parts = [part for text in addresses for part in text.split(",") if part]
    return ",".join(dict.fromkeys(parts))


def _random_id() -> int:
    return secrets.randbits(64) or 1
