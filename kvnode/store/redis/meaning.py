"""What an op means: a function of the keyspace and the op, which answers and never raises for a
client's fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from kvnode.store.keyspace import Keyspace
    from kvnode.store.ops import Op
    from kvnode.store.reply import Result

Meaning: TypeAlias = "Callable[[Keyspace, Op], Result]"
