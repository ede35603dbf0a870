"""What tests of the image share."""

from __future__ import annotations

from tests.support.docker import containers, kvnode_image

__all__ = ["containers", "kvnode_image"]
