"""kvnode: a Raft-replicated key-value node that speaks the Redis protocol and heals itself.

Start reading at `kvnode.server`, the composition root; ARCHITECTURE.md walks through the rest.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("kvnode")
except PackageNotFoundError:  # run from a tree that was never installed
    __version__ = "0+unknown"
