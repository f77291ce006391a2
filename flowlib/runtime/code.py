"""The code that a result hangs on, for its key: a module of flowlib, all that it imports of flowlib, and their C++.

Computed from the import statements, wherever in a module they stand, and never kept by hand. `flowlib.runtime` is not
in it: how things are kept, fetched and run at once changes no number.
"""

import ast
import hashlib
import re
from collections.abc import Container, Iterator
from functools import cache
from pathlib import Path

from flowlib.runtime import paths

HASHED: dict[str, tuple[str, ...]] = {}  # the modules of every hash that this process has asked for


class UnknownModule(LookupError):
    """No module of flowlib has this name."""


@cache
def code_hash(*modules: str) -> str:
    """SHA-256 of the source of modules, by name, and of all that they import of flowlib: a change of code is a change
    of key. Raises UnknownModule."""
    digest = hashlib.sha256()
    for module in sorted(closure(*modules)):
        for path in files_of(module):
            digest.update(f"{module} {path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    HASHED[digest.hexdigest()] = modules
    return digest.hexdigest()


def closure(*modules: str) -> set[str]:
    """Names of modules and of all that they import of flowlib, directly or not, but `flowlib.runtime`."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found and not is_runtime(module):
            found.add(module)
            waiting += imported(module)
    return found


def is_runtime(module: str) -> bool:
    return f"{module}.".startswith("flowlib.runtime.")


def files_of(module: str) -> Iterator[Path]:
    """A module's file, the C++ file of its name where there is one, and the headers that this includes."""
    path = known().get(module)
    if path is None:
        raise UnknownModule(f"{module} is no module of flowlib")
    yield path
    yield from with_headers(path.with_suffix(".cpp"))


def with_headers(source: Path) -> Iterator[Path]:
    """A C++ file, where there is one, and the headers beside it that it includes, directly or not."""
    waiting, seen = [source], set()
    while waiting:
        path = waiting.pop()
        if path not in seen and path.exists():
            seen.add(path)
            yield path
            waiting += [path.parent / name for name in re.findall(r'#include "([^"]+)"', path.read_text())]


@cache
def imported(module: str) -> set[str]:
    """Modules of flowlib that a module's import statements name. Raises UnknownModule."""
    if module not in known():
        raise UnknownModule(f"{module} is no module of flowlib")
    return set(named_in(known()[module].read_text(encoding="utf-8"), known()))


def named_in(text: str, modules: Container[str]) -> Iterator[str]:
    """Those of `modules` that the import statements of a Python source name, which are absolute ones (`ruff`)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            within = [name for name in inside if name in modules]
            yield from within
            if len(within) < len(inside):  # something that the module itself holds
                yield str(node.module)


@cache
def known() -> dict[str, Path]:
    """Every module of flowlib by name."""
    found = {}
    for path in paths.sources():
        if path.suffix == ".py":
            parts = path.relative_to(paths.PACKAGE.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found
