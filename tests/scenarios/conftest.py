"""Every `*.txt` below this directory is one test; its first directory names what runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.raft.runner import RaftScenario
from tests.support.scenario import Runner, ScenarioFailed, check

RUNNERS: dict[str, Callable[[], Runner]] = {
    "raft": lambda: RaftScenario().run,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the rewrite flag (give it together with the path `tests/scenarios`)."""
    parser.addoption(
        "--rewrite-scenarios",
        action="store_true",
        help="write down what the scenarios print now; read the difference before committing",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.File | None:
    """Collect scenario files."""
    if file_path.suffix == ".txt" and file_path.parent.name in RUNNERS:
        return ScenarioFile.from_parent(parent, path=file_path)
    return None


class ScenarioFile(pytest.File):
    """One file, one item."""

    def collect(self) -> Iterator[pytest.Item]:
        yield ScenarioItem.from_parent(self, name=self.path.stem)


class ScenarioItem(pytest.Item):
    """Runs the file and compares."""

    def runtest(self) -> None:
        rewrite = bool(self.config.getoption("--rewrite-scenarios", default=False))
        check(self.path, RUNNERS[self.path.parent.name](), rewrite=rewrite)

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **options: Any
    ) -> Any:
        if isinstance(excinfo.value, ScenarioFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **options)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"scenario {self.name}"
