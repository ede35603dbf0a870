"""What a node does about a loss that its log found: heal where others have it, else refuse.

In a cluster the others have what is gone here, and the node can be brought level, as long as it
knows that it is not: it starts *recovering* (it counts in no quorum until healed). That holds for
most torn tails as well, since nothing on this disk proves that the group was never acknowledged
before the disk lost it. One is proven otherwise: while the machine runs and the disk stays mounted,
the kernel forgets nothing that was written, so what is missing was never written. A process was
killed in the middle of a write, before the sync that anybody could have been told of. Such a tail
is only cut. Else a `kill -9` of all nodes at once, which tears two logs easily, would leave nobody
who may vote.

A node that is alone has nobody to ask. A torn tail is what a crash leaves behind and is cut; a log
that ends below what was durable is refused, until somebody takes the loss upon himself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvnode.errors import LogCorrupt
from wal.loss import Decision, Loss, OnLoss


def loss_policy(
    data: Path,
    *,
    alone: bool,
    cache_kept: Callable[[], bool],
    warn: Callable[[str], None] = lambda _sentence: None,
) -> OnLoss:
    """Return what to do about a loss in the log of the data directory.

    Args:
        alone: the node is the only voter.
        cache_kept: tells whether the kernel has all that was written to the log since its last
            start.
        warn: told which acknowledged entries are gone, where the node goes on without them.
    """

    def decide(loss: Loss) -> Decision:
        if not alone:
            if is_unwritten(loss) and cache_kept():
                return Decision.REPAIR
            if loss.below_floor:
                warn(f"{loss.path}: {loss.describe()}; the node recovers from the others")
            return Decision.RECOVER
        if loss.below_floor:
            raise refusal(loss, data)
        return Decision.REPAIR

    return decide


def is_unwritten(loss: Loss) -> bool:
    """Whether nothing but a write that never ended explains the loss, if no cache was lost."""
    return loss.is_torn and not loss.below_floor


def refusal(loss: Loss, data: Path) -> LogCorrupt:
    """Return the error of a node that is alone and lost entries that it acknowledged."""
    return LogCorrupt(
        f"{loss.path}: {loss.describe()}. Nothing was changed. This node is alone and has nobody "
        f"to get them back from: bring them back from a copy of the disk, or accept the loss with "
        f"`kvnode wal repair --accept-loss {data}`"
    )
