"""All workloads by name."""

from __future__ import annotations

from tests.chaos.workloads.bank import Bank
from tests.chaos.workloads.counters import Counters
from tests.chaos.workloads.expiry import Expiry
from tests.chaos.workloads.ledger import Ledger
from tests.chaos.workloads.locks import Locks
from tests.chaos.workloads.protocol import Workload
from tests.chaos.workloads.queues import Queues
from tests.chaos.workloads.registers import Registers
from tests.chaos.workloads.sets import Sets
from tests.chaos.workloads.streams import Streams
from tests.chaos.workloads.transactions import Transactions

WORKLOADS: dict[str, type[Workload]] = {
    workload.name: workload
    for workload in (
        Registers,
        Counters,
        Ledger,
        Transactions,
        Bank,
        Sets,
        Streams,
        Queues,
        Expiry,
        Locks,
    )
}
