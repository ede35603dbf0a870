"""All faults by name."""

from __future__ import annotations

from tests.chaos.faults import clocks, disks, load, membership, network, processes
from tests.chaos.faults.protocol import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        *(processes.Kill(), processes.KillAll(), processes.PowerLoss(), processes.PowerLossAll()),
        *(processes.Stop(), processes.StopLong()),
        *(processes.RollingRestart(), processes.FewDescriptors(), processes.LogStopped()),
        processes.ArmedPoint(),
        *(network.PartitionOne(), network.PartitionHalf(), network.PartitionRing()),
        *(network.PartitionOneWay(), network.CutFromClients()),
        *(network.PacketsCut(), network.PacketsLost()),
        *(network.Slow(), network.Narrow(), network.Lossy(), network.LossyClients()),
        *(network.Dripping(), network.Doubled()),
        *(disks.Full(), disks.Failing(), disks.ReadOnly(), disks.SlowSync()),
        *(disks.LoopFull(), disks.LoopReadOnly()),
        *(disks.ClosedSegment(), disks.BelowWitness(), disks.LostTail()),
        disks.Snapshot(),
        *(membership.Replaced(), membership.AddedAndRemoved()),
        *(membership.Learner(), membership.Transfer()),
        *(clocks.Jump(), clocks.Strobe(), clocks.Rate()),
        *(load.IdleConnections(), load.HotReaders(), load.LessMemory()),
        *(disks.StateFile(), disks.BothStateFiles(), disks.Wiped(), disks.OldDirectory()),
    )
}
