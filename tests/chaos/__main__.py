"""`python -m tests.chaos` is the chaos smoke."""

from __future__ import annotations

import sys

from tests.chaos.smoke import main

if __name__ == "__main__":
    sys.exit(main())
