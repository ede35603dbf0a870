"""What the composition root tells the front end."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvnode.limits import CLIENTS_MAX, CONNECTIONS_PER_PEER_MAX
from kvnode.store.keyspace import DATABASES


@dataclass(frozen=True, slots=True)
class RespConfig:
    """Settings of the Redis front end.

    Attributes:
        password: what AUTH must present for the user "default"; None: no login needed.
        clients_max: connections served at once.
        connections_per_peer_max: and of one address; 0: no limit.
        version: of kvnode, for INFO.
        node: this node's name, for INFO.
        run_id: 40 hex digits that change with each start, for INFO.
        databases: SELECT takes 0 to databases - 1.
        port: the port clients connect to, for INFO and CONFIG GET; 0: whatever was bound.
    """

    password: bytes | None = field(default=None, repr=False)
    clients_max: int = CLIENTS_MAX
    connections_per_peer_max: int = CONNECTIONS_PER_PEER_MAX
    version: str = "0"
    node: str = ""
    run_id: str = "0" * 40
    databases: int = DATABASES
    port: int = 0
