"""The error of an operation that would harm."""

from __future__ import annotations

from kvnode.errors import FatalError


class OperationRefused(FatalError):
    """Nothing was changed, and the sentence says why (exit 1)."""
