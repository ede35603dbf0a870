"""Plants a mistake: a few words of one function are replaced while its module is being imported.

Nothing on the disk changes, and nothing is guessed: the words must be there exactly once, in the
function that the mistake names. If the code has moved on, planting fails, and says where.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[3]


class Edit(NamedTuple):
    """One replacement.

    Attributes:
        module: its dotted name.
        function: qualified name in that module, as "Wal.append".
        before: words that are in it exactly once.
        after: what stands there instead.
    """

    module: str
    function: str
    before: str
    after: str


class CannotPlant(Exception):
    """The code is not what the mistake was written for."""


def source_path(module: str) -> Path:
    """Return the file of a module of this repository, without importing it."""
    path = REPOSITORY.joinpath(*module.split(".")).with_suffix(".py")
    if not path.is_file():
        raise CannotPlant(f"there is no module {module}")
    return path


def planted_source(module: str, edits: Iterable[Edit]) -> str:
    """Return the source of a module with all edits made.

    Raises:
        CannotPlant: a function is gone, or its words are not there exactly once.
    """
    source = source_path(module).read_text()
    for edit in edits:
        lines = source.splitlines(keepends=True)
        start, end = _lines_of(source, edit)
        body = "".join(lines[start:end])
        count = body.count(edit.before)
        if count != 1:
            raise CannotPlant(f"{module}.{edit.function} has {edit.before!r} {count} times")
        lines[start:end] = [body.replace(edit.before, edit.after)]
        source = "".join(lines)
    return source


def _lines_of(source: str, edit: Edit) -> tuple[int, int]:
    """Return the lines of a function, from 0, the end excluded."""
    nodes: Sequence[ast.stmt] = ast.parse(source).body
    found: ast.stmt | None = None
    for name in edit.function.split("."):
        for node in nodes:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                found, nodes = node, node.body
                break
        else:
            raise CannotPlant(f"there is no {edit.function} in {edit.module}")
    assert found is not None
    return found.lineno - 1, found.end_lineno or found.lineno


class _Loader(SourceFileLoader):
    """Compiles what it is given instead of the file. Never cached."""

    def __init__(self, module: str, source: str) -> None:
        super().__init__(module, str(source_path(module)))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class Plant(MetaPathFinder):
    """The edits of one mistake, on their way into this process.

    Attributes:
        pending: modules that were not imported yet.
    """

    def __init__(self, edits: Iterable[Edit]) -> None:
        edits = list(edits)
        self.sources = {
            module: planted_source(module, (edit for edit in edits if edit.module == module))
            for module in {edit.module for edit in edits}
        }
        self.pending = set(self.sources)

    def install(self) -> None:
        """Catch the imports from now on.

        Raises:
            CannotPlant: a module was imported already, without the mistake.
        """
        early = self.pending & set(sys.modules)
        if early:
            raise CannotPlant(f"imported too early: {sorted(early)}")
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks."""
        if fullname not in self.sources:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = _Loader(fullname, self.sources[fullname])
            self.pending.discard(fullname)
        return spec
