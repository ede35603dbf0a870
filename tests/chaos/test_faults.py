"""Every fault takes hold, says what shows that, and can be taken back.

The usual run tries one or two of each family; `make chaos-faults` all of them, in two minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import netns
from tests.chaos.client import Connection, ConnectionLost
from tests.chaos.faults import FAULTS
from tests.chaos.faults.protocol import NotApplicable
from tests.chaos.plan import choose
from tests.chaos.stage import Setting, Stage, StageNode, can_mount

SEED = time.time_ns() % 1_000_000
LAST_SECONDS_MAX = 1.0
TRIES_MAX = 8
"""A node may have nothing to say just while a line is bad, or nothing yet that could be spoilt."""
WARM_SECONDS = 0.3
FEW = (
    *("kill", "stop", "armed-point", "partition-one", "cut-from-clients", "slow-lines"),
    *("disk-full", "disk-slow", "spoilt-closed-segment", "transfer", "clock-jump", "xread-loop"),
)
TRIED = list(FAULTS) if "KVNODE_ALL_FAULTS" in os.environ else FEW


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    no_loop = can_mount(tmp_path_factory.mktemp("trial"))
    return ["forgetful", "forgetful" if no_loop else "loop", "forgetful"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, disks: list[str]) -> Iterator[Stage]:
    memory_mib = 0 if FAULTS["less-memory"].missing(disks) else 1024
    setting = Setting(seed=SEED, disks=disks, memory_mib=memory_mib, netns=netns.missing() is None)
    stage = Stage(tmp_path_factory.mktemp("stage"), setting)
    try:
        stage.found()
        yield stage
    finally:
        stage.close()


async def write(node: StageNode) -> None:
    """Keep a node busy, come what may."""
    while True:
        with contextlib.suppress(OSError, ConnectionLost, TimeoutError):
            connection = await Connection.open(node.address)
            try:
                while True:
                    await connection.call(("SET", f"test:{node.name}", b"x" * 4096))
            finally:
                connection.close()
        await asyncio.sleep(0.02)


def test_the_names_are_those_of_the_registry() -> None:
    assert all(name == fault.name for name, fault in FAULTS.items())
    assert all(fault.__doc__ and fault.whom and fault.family for fault in FAULTS.values())


@pytest.mark.cluster
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", TRIED)
def test_a_fault_takes_hold_and_is_taken_back(name: str, stage: Stage, disks: list[str]) -> None:
    fault = FAULTS[name]
    if (reason := fault.missing(disks)) is not None:
        pytest.skip(reason)
    rng = random.Random(SEED)

    async def try_it() -> str | None:
        writers = [asyncio.create_task(write(node)) for node in stage.nodes]
        try:
            await asyncio.sleep(WARM_SECONDS)
            leader = await stage.wait_leader()
            names = [node.name for node in stage.nodes]
            whom = choose(names, leader.name, rng.choice(fault.whom), rng)
            seconds = min(fault.seconds[0], LAST_SECONDS_MAX)
            injection = await fault.inject(
                stage, rng, [stage.named(name) for name in whom], seconds
            )
            try:
                await asyncio.sleep(seconds)
            finally:
                await injection.heal()
            await stage.settle()
            codes = {code for node in stage.nodes for code, _ in node.ended}
            assert codes <= injection.allowed_exits, f"seed {SEED}"
            return injection.disturbance.evidence
        finally:
            for writer in writers:
                writer.cancel()
            for node in stage.nodes:
                node.ended.clear()

    why = ""
    for _ in range(TRIES_MAX):
        try:
            if (evidence := asyncio.run(try_it())) is not None:
                print(f"{name}: {evidence}")
                return
        except NotApplicable as reason:
            why = str(reason)
    pytest.fail(f"{name} did not take hold, seed {SEED}: {why}")


@pytest.mark.cluster
def test_nothing_is_left_of_a_stage_that_was_closed(tmp_path: Path, disks: list[str]) -> None:
    stage = Stage(tmp_path, Setting(size=1, disks=disks[1:]))
    stage.found()
    pid = stage.nodes[0].pid
    stage.close()
    assert not Path(f"/proc/{pid}").exists()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
