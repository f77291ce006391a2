"""Docstrings: their examples run, and their sections have one form."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

from flowlib.runtime.paths import PACKAGE, sources

MODULES = [path for path in sources() if path.suffix == ".py"]
WITH_EXAMPLES = [path for path in MODULES if re.search(r"^\s*>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)]
SECTIONS = "Arguments|Returns|Raises|Writes|Example"
OTHER = re.compile(rf"^\s*(?:Args|{SECTIONS}|Examples|Parameters|Yields):\s*$", re.MULTILINE)
UNDERLINED = re.compile(r"^ *(\w.*)\n *(-{3,})$", re.MULTILINE)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def wrong_sections(docstring: str) -> list[str]:
    """Headings of another form than a known word, underlined in its length."""
    wrong = [found.strip() for found in OTHER.findall(docstring)]
    for title, line in UNDERLINED.findall(docstring):
        if not re.fullmatch(SECTIONS, title) or len(title) != len(line):
            wrong.append(title)
    return wrong


def docstrings(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]


def test_there_are_examples():
    assert len(WITH_EXAMPLES) > 1


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=module_name)
def test_examples_run(path: Path):
    failed, attempted = doctest.testmod(importlib.import_module(module_name(path)))
    assert attempted > 0
    assert failed == 0


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_sections_have_one_form(path: Path):
    assert [wrong for text in docstrings(path) for wrong in wrong_sections(text)] == []


@pytest.mark.parametrize(
    "text", ["Args:\n    x: a number", "Raises:\n    ValueError: no", "Notes\n-----\nx", "Returns\n----\nx"]
)
def test_another_form_is_found(text: str):
    assert wrong_sections(text) != []
