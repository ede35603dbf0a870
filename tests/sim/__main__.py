"""`python -m tests.sim` runs the simulator."""

from __future__ import annotations

import sys

from tests.sim.campaign import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
