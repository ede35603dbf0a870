"""The families of commands: each module here describes one, and is found by being here.

To add one, write a module that ends in `FAMILY: Final = Family(…)` (`tests.differential.family`
tells what it holds; `strings` is the simplest, `hashes` uses most of it). Then
`python -m tests.differential --family NAME` plays sequences about it alone, and a run without
`--family` mixes it with the others.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from tests.differential.family import Family

FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (
        import_module(f"{__name__}.{module.name}").FAMILY
        for module in sorted(iter_modules(__path__), key=lambda module: module.name)
    )
}
"""By name."""
