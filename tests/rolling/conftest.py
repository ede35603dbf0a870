"""What drills share: a cluster in containers, started once for all that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rolling.fleet import Fleet
from tests.support.docker import Containers, containers, kvnode_image

__all__ = ["containers", "kvnode_image"]


@pytest.fixture(scope="module")
def shared(kvnode_image: str) -> Iterator[Containers]:
    """Containers of a whole module."""
    made = Containers(kvnode_image)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def fleet(shared: Containers) -> Fleet:
    """A cluster of three that runs the image of the checkout."""
    made = Fleet(shared)
    made.begin()
    return made
