"""All faults by name."""

from __future__ import annotations

from tests.chaos.faults import network, processes
from tests.chaos.faults.protocol import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        *(processes.Kill(), processes.PowerLoss(), processes.Stop(), processes.StopLong()),
        *(processes.RollingRestart(), processes.FewDescriptors(), processes.LogStopped()),
        *(network.PartitionOne(), network.PartitionHalf(), network.PartitionRing()),
        *(network.PartitionOneWay(), network.CutFromClients()),
        *(network.Slow(), network.Narrow(), network.Lossy(), network.LossyClients()),
        *(network.Dripping(), network.Doubled()),
    )
}
