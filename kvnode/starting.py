"""How a node begins: from what it was told, and what its data directory says, to a recovered log.

Each step takes what it needs and leaves the order to the composition root (`kvnode.server`): open
the directory, wait if the starts before this one took too much memory, be admitted by the cluster
that `--join` names, bring log and store back in the log's thread. The last three functions put into
words who this node is: to its cluster, to its peers, to its clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time

from kvnode import __version__
from kvnode.admission.budget import Budget
from kvnode.config.serve import ServeConfig
from kvnode.config.values import parse_join
from kvnode.directory import DataDirectory, read_identity
from kvnode.exits import failed_starts, start_pause_seconds
from kvnode.identity import cluster_number, node_id
from kvnode.identity_file import Identity
from kvnode.limits import MIB
from kvnode.node.hello import JoinRequest
from kvnode.node.joining import join
from kvnode.node.log_writer import ThreadWorker
from kvnode.node.recovery import Recovered, RecoveryPlan, recover
from kvnode.node.roster import founder
from kvnode.node.status import NodeIdentity
from kvnode.obs.log import event
from kvnode.report import NodeReport
from kvnode.resp.config import RespConfig
from kvnode.store.members import Member
from kvnode.store.ops import LEVEL
from wal.fs import FileSystem
from wal.observer import Observer
from wal.options import Options

_log = logging.getLogger("kvnode")


# --- the directory ------------------------------------------------------------------------------


def open_directory(config: ServeConfig) -> DataDirectory:
    """Lock the data directory; the first start on it writes down whose it is."""
    return DataDirectory.open(
        config.data,
        node=_name(config),
        cluster_id=config.cluster_id,
        members={name: str(address) for name, address in config.cluster.items()},
        join=",".join(map(str, config.join)),
        replaces=config.replaces,
    )


def _name(config: ServeConfig) -> str:
    """A name that nobody gave is that of the directory, or with --join one that is free."""
    if config.origins["node"] != "default":
        return config.node
    known = read_identity(config.data)
    if known is not None:
        return known.node
    return f"node-{secrets.token_hex(3)}" if config.join else config.node


def warn_of_differences(config: ServeConfig, identity: Identity) -> None:
    """`--cluster` is for bootstrapping: what else it says now does not count."""
    told, known = config.cluster, identity.members
    if config.origins["cluster"] != "default" and known:
        texts = {name: str(address) for name, address in told.items()}
        if texts != known:
            _warn("--cluster differs from the first start's; the log has the members")


# --- the steps that take time -------------------------------------------------------------------


async def pause_start(report: NodeReport, stop: asyncio.Event) -> None:
    """Wait, if the starts before this one took more memory than there is, and say so.

    The admin port answers meanwhile. A request to stop ends the waiting.
    """
    watchdog, directory = report.watchdog, report.directory
    assert directory is not None
    if watchdog is None:
        return
    now_ms = int(time.time() * 1000)
    failed = failed_starts(directory.exits, watchdog.threshold_bytes, now_ms)
    pause_s = start_pause_seconds(failed)
    if not pause_s:
        return
    mib = watchdog.threshold_bytes // MIB
    report.delay = (
        f"starting alone takes more than the {mib} MiB that the memory threshold allows, "
        f"{failed} times in a row: waiting {pause_s} s before the next try"
    )
    event(
        _log,
        logging.WARNING,
        "starting alone takes more memory than there is: waiting before the next try",
        failed_starts=failed,
        pause_s=pause_s,
        threshold_bytes=watchdog.threshold_bytes,
    )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await stop.wait()
    report.delay = ""


async def be_admitted(config: ServeConfig, directory: DataDirectory, stop: asyncio.Event) -> bool:
    """Become a member of the cluster that `--join` names, unless this node is one already.

    Returns:
        False if it was asked to stop before.

    Raises:
        ConfigurationError: the cluster refused.
    """
    identity = directory.identity
    if identity.is_admitted:
        return True
    event(_log, logging.INFO, "asking to join", peers=identity.join, node=identity.node)
    request = JoinRequest(
        identity.node,
        identity.replaces,
        str(config.advertise_peer),
        str(config.advertise_client),
        identity.storage_id,
        config.promote,
        LEVEL,
    )
    asking = asyncio.ensure_future(join(parse_join(identity.join), request))
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((asking, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            return False
        answer = asking.result()
    finally:
        asking.cancel()
        stopped.cancel()
    directory.admit(answer.node_id, answer.cluster_id, answer.origin)
    event(_log, logging.INFO, "joined", cluster_id=answer.cluster_id, why=answer.text)
    return True


def plan_recovery(config: ServeConfig, identity: Identity, budget: Budget) -> RecoveryPlan:
    """What the recovery of this node has to know."""
    return RecoveryPlan(
        data=config.data,
        cluster_number=cluster_number(identity.origin),
        node_id=identity.node_id,
        founders={member.node_id: member for member in founders(identity)},
        is_alone=not identity.has_others,
        boot_id=identity.incarnation & 0xFFFF_FFFF,
        heartbeat_ms=config.heartbeat_ms,
        election_ms=(config.election_ms_min, config.election_ms_max),
        wal_options=Options(repair=config.wal_repair),
        lease_reads=config.lease_reads,
        budget=budget,
    )


async def recover_in(
    worker: ThreadWorker, plan: RecoveryPlan, file_system: FileSystem, observer: Observer
) -> Recovered:
    """Recover in the log's thread: watchdog and admin port work meanwhile."""
    result: asyncio.Future[Recovered] = asyncio.get_running_loop().create_future()
    rng = random.Random()
    found: list[Recovered] = []

    def done(error: BaseException | None) -> None:
        if result.cancelled():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(found[0])

    worker.submit(lambda: found.append(recover(plan, file_system, observer, rng, _warn)), done)
    return await result


# --- who this node is ---------------------------------------------------------------------------


def founders(identity: Identity) -> tuple[Member, ...]:
    """The members that `--cluster` bootstrapped; none on a node that joined."""
    return tuple(
        founder(node_id(identity.origin, name), name, address)
        for name, address in sorted(identity.members.items())
    )


def node_identity(config: ServeConfig, identity: Identity) -> NodeIdentity:
    """Who this node is to its peers."""
    return NodeIdentity(
        node_id=identity.node_id,
        name=identity.node,
        cluster_id=identity.cluster_id,
        storage_id=identity.storage_id,
        incarnation=identity.incarnation,
        version=__version__,
        client_address=str(config.advertise_client),
        peer_address=str(config.advertise_peer),
        origin=identity.origin,
    )


def resp_config(config: ServeConfig, identity: Identity) -> RespConfig:
    """Who this node is to its clients, and how many of them it takes."""
    return RespConfig(
        password=config.password,
        clients_max=config.max_clients,
        connections_per_peer_max=config.max_connections_per_peer,
        version=__version__,
        node=identity.node,
        run_id=f"{identity.storage_id:016x}{identity.node_id:016x}{identity.incarnation:08x}",
        port=config.listen.port,
    )


def _warn(text: str) -> None:
    event(_log, logging.WARNING, text)
