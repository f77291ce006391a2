"""The shape of the code: short files, folders that say what is in them, each with its tests, and small notebooks."""

import ast
from pathlib import Path

import pytest

from flowlib.runtime.paths import PACKAGE, ROOT, sources
from flowlib.study.parameters import read_cells

LINES_OF_A_FILE, LINES_OF_A_NOTEBOOK, LINES_OF_A_CELL = 400, 250, 40
FOLDERS = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_no_file_is_long():
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {str(path): length for path, length in lengths.items() if length > LINES_OF_A_FILE} == {}


def test_there_are_folders():
    assert {folder.name for folder in FOLDERS} >= {"experiments", "runtime", "study"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_says_what_is_in_it_and_nothing_else(folder: Path):
    (statement,) = ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Constant)
    assert isinstance(statement.value.value, str)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_has_its_tests(folder: Path):
    assert list((ROOT / "tests" / folder.relative_to(PACKAGE)).glob("test_*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_prose_calls_and_figures(path: Path):
    """What decides a result is a function of flowlib, which tests can ask."""
    lengths = [len(text.splitlines()) for kind, text, _ in read_cells(path) if kind == "code"]
    assert sum(lengths) <= LINES_OF_A_NOTEBOOK
    assert max(lengths) <= LINES_OF_A_CELL
