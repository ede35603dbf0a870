"""Done once, or not at all: what a command's outcome says about the state afterwards.

An acknowledged write is there, once. One of unknown outcome is there once or not. A refused one is
not there, ever: "refused" says that it was definitely not done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.chaos.checks.judgement import Judgement
from tests.chaos.record import Entry, Json
from tests.support.history import Outcome


def check_ledger(
    entries: Sequence[Entry], finals: Mapping[str, Mapping[str, Json]], judgement: Judgement
) -> None:
    """Keys that were written once each, with one value: every node has each, or has it not."""
    for node, found in finals.items():
        lost, phantoms, strange = [], [], []
        for entry in entries:
            value = found.get(entry.key)
            if value is None:
                if entry.is_done:
                    lost.append(entry)
            elif entry.outcome is Outcome.REFUSED:
                phantoms.append(entry)
            elif value != entry.argument:
                strange.append(entry)
        judgement.violate_each(f"acknowledged writes are lost at {node}", lost)
        judgement.violate_each(f"refused writes were done, says {node}", phantoms)
        judgement.violate_each(f"values at {node} are not what was written", strange)
