"""The code part of a key: a module, what it imports of flowlib, their C++ and its headers; and what our sources are."""

import subprocess
import sys
from pathlib import Path

import pytest

from flowlib.runtime import code, paths
from flowlib.runtime.code import UnknownModule, closure, code_hash


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package named flowlib with folders, C++ and a header, that `code` and `paths` take for ours."""
    files = {
        "__init__.py": "",
        "core.py": "from flowlib.deep import step\nfrom flowlib.runtime import files\n",
        "aside.py": "import flowlib.core\n",
        "deep/__init__.py": "",
        "deep/step.py": "def run():\n    from flowlib.deep.inner import (\n        VALUE,\n    )\n",
        "deep/step.cpp": '#include <vector>\n#include "shared.h"\n',
        "deep/shared.h": "int x;\n",
        "deep/inner.py": "VALUE = 1\n",
        "runtime/__init__.py": "",
        "runtime/files.py": "import flowlib.aside\n",
    }
    package = tmp_path / "flowlib"
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.setattr(paths, "sources", lambda of=package, found=paths.sources: found(of))
    forget()
    yield package
    forget()


def forget() -> None:
    for function in (code.known, code.imported, code.code_hash):
        function.cache_clear()


def test_closure_follows_imports_into_folders_and_functions_but_not_into_runtime(other_package: Path):
    assert closure("flowlib.core") == {"flowlib.core", "flowlib.deep.step", "flowlib.deep.inner"}
    assert closure("flowlib.aside") == closure("flowlib.core") | {"flowlib.aside"}


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("core.py", True), ("deep/step.py", True), ("deep/inner.py", True), ("deep/step.cpp", True),
        ("deep/shared.h", True), ("aside.py", False), ("runtime/files.py", False),
    ],
)  # fmt: skip
def test_hash_changes_with_the_code_that_a_module_hangs_on(other_package: Path, file: str, changes: bool):
    before = code_hash("flowlib.core")
    with (other_package / file).open("a") as handle:
        handle.write("\n")
    forget()
    assert (code_hash("flowlib.core") != before) is changes


def test_unknown_modules_are_named():
    with pytest.raises(UnknownModule, match=r"flowlib\.no_such"):
        code_hash("flowlib.no_such")
    with pytest.raises(UnknownModule, match="json"):
        code_hash("json")


@pytest.mark.parametrize(
    "module", ["flowlib.training", "flowlib.study.runner", "flowlib.__main__", "flowlib.explorer.state"]
)
def test_whatever_is_imported_is_in_the_closure(module: str):
    script = f"import sys, {module}; print('\\n'.join(name for name in sys.modules if name.startswith('flowlib.')))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=paths.ROOT)
    folders = {name for name, path in code.known().items() if path.name == "__init__.py"}
    imported = {name for name in answer.stdout.split() if not code.is_runtime(name)} - folders
    assert imported <= closure(module)
    assert imported != set()


def test_every_file_of_the_package_is_a_source():
    """A file of another kind would be in no key and in no wheel."""
    files = {path for path in paths.PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.suffix != ".typed"} == set(paths.sources())
