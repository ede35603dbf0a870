"""What all tests share: the repository on the path, and the options."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
if str(REPOSITORY) not in sys.path:
    # `scripts` and `tests.support` are not installed.
    sys.path.insert(0, str(REPOSITORY))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of this test suite."""
    parser.addoption(
        "--against-redis",
        action="store_true",
        help="run the conformance tests against a real redis-server: proves the expectations",
    )
    parser.addoption(
        "--disk-rounds",
        type=int,
        default=5,
        metavar="N",
        help="power losses in each test on a real file system (make torture-disk: many)",
    )
    parser.addoption(
        "--disk-seed", metavar="S", help="of tests on a real file system; printed when one fails"
    )
