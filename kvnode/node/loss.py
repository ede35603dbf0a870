"""What a node does about a loss that its log found: heal where others have it, else refuse.

In a cluster the others have what is gone here, and the node can be brought level, as long as it
knows that it is not: it starts *recovering* (it counts in no quorum until healed). That
holds for a torn tail as well, since nothing on this disk proves that its group was never
acknowledged before the disk lost it. A node that is alone has nobody to ask. A torn tail is what a
crash leaves behind and is cut; a log that ends below what was durable is refused, until somebody
takes the loss upon himself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvnode.errors import LogCorrupt
from wal.loss import Decision, Loss, OnLoss


def loss_policy(
    data: Path, *, alone: bool, warn: Callable[[str], None] = lambda _sentence: None
) -> OnLoss:
    """Return what to do about a loss in the log of the data directory.

    Args:
        alone: the node is the only voter.
        warn: told which acknowledged entries are gone, where the node goes on without them.
    """

    def decide(loss: Loss) -> Decision:
        if not alone:
            if loss.below_floor:
                warn(f"{loss.path}: {loss.describe()}; the node recovers from the others")
            return Decision.RECOVER
        if loss.below_floor:
            raise refusal(loss, data)
        return Decision.REPAIR

    return decide


def refusal(loss: Loss, data: Path) -> LogCorrupt:
    """Return the error of a node that is alone and lost entries that it acknowledged."""
    return LogCorrupt(
        f"{loss.path}: {loss.describe()}. Nothing was changed. This node is alone and has nobody "
        f"to get them back from: bring them back from a copy of the disk, or accept the loss with "
        f"`kvnode wal repair --accept-loss {data}`"
    )
