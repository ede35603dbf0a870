"""The style of the house, where a linter has no rule for it."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PRODUCT = ("kvnode", "raft", "wal", "scripts")
FUNCTION_LINES_MAX = 70
UNITS = {
    "FILES",
    *("BYTES", "KIB", "MIB", "MB", "MS", "SECONDS", "PERCENT"),
    *(
        "ARGUMENTS",
        "BATCHES",
        "CHARACTERS",
        "CLIENTS",
        "COMMANDS",
        "CONNECTIONS",
        "REFUSALS",
        "WORKERS",
        "REQUESTS",
        "ENTRIES",
        "EXITS",
        "RESTARTS",
        "GROUPS",
    ),
    *(
        "HASHES",
        "IDS",
        "KEYS",
        "LINES",
        "MEMBERS",
        "MESSAGES",
        "OPS",
        "PARAMETERS",
        "READS",
        "RECORDS",
    ),
    *("ROWS", "SAMPLES", "STEPS", "TICKS", "TRANSACTIONS", "WATCHES", "READERS", "PEERS"),
    "ROUNDS",
}
"""What a bound can be counted in. A new unit is welcome here; a bound without one is not."""
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
PRIVATE_PATH = re.compile(r"(?<![\w.$~-])/(?:work|root|Users)/\w")


def tracked() -> list[Path]:
    """All files under version control that still exist."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    paths = [REPOSITORY / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def lines_of(function: Function) -> int:
    """Lines of a function without its docstring: teaching costs nothing."""
    first = function.body[0]
    has_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = 0
    if has_text and ast.get_docstring(function) is not None:
        docstring = (first.end_lineno or 0) - first.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name_of(path)}:{function.lineno} {function.name} has {lines_of(function)} lines"
        for path in sources(*PRODUCT)
        for function in functions(parse(path))
        if lines_of(function) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_every_module_opens_with_a_docstring() -> None:
    silent = [
        name_of(path)
        for path in sources(*PRODUCT, "tests")
        if ast.get_docstring(parse(path)) is None and path.read_text().strip()
    ]
    assert silent == []


def test_only_the_command_line_prints() -> None:
    printing = [
        f"{name_of(path)}:{node.lineno}"
        for path in sources("kvnode", "raft", "wal")
        if path.name != "cli.py"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert printing == []


def test_every_limit_names_its_unit() -> None:
    tree = parse(REPOSITORY / "kvnode" / "limits.py")
    names = [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert names
    unitless = [name for name in names if not UNITS & set(name.split("_"))]
    assert unitless == []


def test_every_scenario_begins_with_a_sentence() -> None:
    mute = [
        name_of(path)
        for path in sorted((REPOSITORY / "tests" / "scenarios").rglob("*.txt"))
        if not re.match(r"# \S.{10,}", path.read_text())
    ]
    assert mute == []


def test_nothing_is_marked_as_unfinished() -> None:
    marked = [
        f"{name_of(path)}:{number}"
        for path in tracked()
        if path.suffix in {".py", ".go", ".md", ".toml", ".yml", ".yaml", ".sh", ""}
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert marked == []


def test_no_path_of_somebodys_machine_is_committed() -> None:
    private = [
        f"{name_of(path)}:{number}"
        for path in tracked()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if PRIVATE_PATH.search(line)
    ]
    assert private == []


def test_packages_are_all_named_in_the_project_file() -> None:
    """Automatic discovery is off, so a package that is not named is not installed."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    found = {
        ".".join(path.parent.relative_to(REPOSITORY).parts)
        for path in sources("kvnode", "raft", "wal")
        if path.name == "__init__.py"
    }
    missing = sorted(package for package in found if f'"{package}"' not in text)
    assert missing == []


def test_the_wheel_names_every_package() -> None:
    """One that is missing there is missing for whoever installs kvnode, and for nobody else."""
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    made = {
        ".".join(path.parent.relative_to(REPOSITORY).parts)
        for root in ("kvnode", "raft", "wal")
        for path in (REPOSITORY / root).rglob("__init__.py")
    }
    assert set(document["tool"]["setuptools"]["packages"]) == made
