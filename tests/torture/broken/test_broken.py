"""Every mistake can still be planted, some are, and what the campaign says can be believed."""

from __future__ import annotations

import ast
import importlib
import time
from functools import cache
from pathlib import Path
from random import Random

import pytest

from tests.torture.broken.__main__ import TABLE_BEGINS, judge, run, table
from tests.torture.broken.plant import (
    REPOSITORY,
    CannotPlant,
    Edit,
    Plant,
    planted_source,
    source_path,
)
from tests.torture.broken.variants import HEALTHY, VARIANTS

SAMPLE = 4
EDIT = Edit("wal.fs", "write_all", "while written < len(data):", "while False:")


@cache
def names_in(path: str) -> set[str]:
    """Names of the functions at the top of a test module, or of the one test in a scenario."""
    if path.endswith(".txt"):
        return {Path(path).stem} if (REPOSITORY / path).is_file() else set()
    body = ast.parse((REPOSITORY / path).read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_mistake_still_fits_the_code(name: str) -> None:
    sources = Plant(VARIANTS[name].edits).sources
    assert sources
    for module, source in sources.items():
        compile(source, module, "exec")
        assert source != source_path(module).read_text()


@pytest.mark.parametrize("name", VARIANTS)
def test_each_mistake_has_tests_that_exist(name: str) -> None:
    assert VARIANTS[name].tests
    for test in (HEALTHY, *VARIANTS[name].tests):
        path, _, function = test.partition("::")
        assert function in names_in(path), test


def test_the_readme_has_the_table() -> None:
    readme = Path(__file__).with_name("README.md").read_text()
    written = readme.partition(TABLE_BEGINS)[2].strip()
    assert written == table().strip(), "python -m tests.torture.broken --write"


@pytest.mark.timeout(400)
def test_a_sample_of_mistakes_is_caught() -> None:
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    findings = [run(name) for name in Random(seed).sample(list(VARIANTS), SAMPLE)]
    assert [str(finding) for finding in findings if not finding.caught] == []


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (EDIT._replace(module="wal.gone"), "no module wal.gone"),
        (EDIT._replace(function="write_some"), "no write_some in wal.fs"),
        (EDIT._replace(function="PosixFileSystem.gone"), "no PosixFileSystem.gone"),
        (EDIT._replace(before="while not written:"), "0 times"),
        (EDIT._replace(before="written"), "times"),
    ],
)
def test_a_mistake_that_does_not_fit_is_refused(edit: Edit, complaint: str) -> None:
    with pytest.raises(CannotPlant, match=complaint):
        Plant([edit])


def test_words_are_looked_for_in_their_function_only() -> None:
    """`fs.fdatasync(fd)` is in other functions of the module, too."""
    before = source_path("wal.state").read_text()
    edit = Edit("wal.state", "StateFiles.save", "self._write(path)", "pass")
    after = planted_source("wal.state", [edit])
    assert before.count("self._write(path)") > 1
    assert after.count("self._write(path)") == before.count("self._write(path)") - 1


def test_a_module_that_was_imported_before_the_mistake_is_refused() -> None:
    importlib.import_module("wal.fs")
    with pytest.raises(CannotPlant, match="too early"):
        Plant([EDIT]).install()


def test_a_variant_is_caught_only_if_all_its_tests_fail() -> None:
    healthy = {HEALTHY: "passed"}
    one, two = "a.py::test_one", "a.py::test_two"
    assert judge("x", [one, two], {**healthy, one: "failed", f"{two}[1]": "failed"}).caught
    assert judge("x", [one], {**healthy, f"{one}[1]": "passed", f"{one}[2]": "failed"}).caught
    assert judge("x", [one, two], {**healthy, one: "failed", two: "passed"}).missed == (two,)


def test_a_run_without_failures_of_its_own_is_void() -> None:
    one = "a.py::test_one"
    assert "did not run" in judge("x", [one], {HEALTHY: "passed"}).void
    assert "did not run" in judge("x", [one], {HEALTHY: "passed", one: "error"}).void
    assert "does not pass" in judge("x", [one], {HEALTHY: "failed", one: "failed"}).void
    assert not judge("x", [one], {one: "failed"}).caught
