"""Random numbers that every replica draws alike.

The leader stamps each batch with a seed, and the ops of the batch draw from it in their order. The
generator is SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators",
2014): a few lines whose numbers no Python version can change. It is fair, not secret.
"""

from __future__ import annotations

from typing import Final

_MASK: Final = 2**64 - 1
_GAMMA: Final = 0x9E3779B97F4A7C15


class Draws:
    """A sequence of numbers that a seed determines.

    Args:
        seed: any integer; its low 64 bits count.
    """

    __slots__ = ("_state",)

    def __init__(self, seed: int = 0) -> None:
        self._state = seed & _MASK

    def reset(self, seed: int) -> None:
        """Begin the sequence of another seed."""
        self._state = seed & _MASK

    def u64(self) -> int:
        """The next number of 64 bits."""
        self._state = mixed = (self._state + _GAMMA) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def below(self, bound: int) -> int:
        """A number from 0 to `bound` - 1, which must lie below 2**64; `bound` is at least 1.

        The high half of a product is fair to within bound / 2**64 (Lemire 2019).
        """
        return (self.u64() * bound) >> 64
