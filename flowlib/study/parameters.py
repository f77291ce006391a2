"""What is to be run: notebooks and their parameters, checked before any kernel starts."""

import ast
import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import yaml
from pydantic import TypeAdapter, ValidationError

from flowlib.runtime.paths import ROOT, is_checkout


class StudyError(ValueError):
    """What was asked for cannot be run; the message names the file and argument, and what to write instead."""


@dataclass(frozen=True)
class Notebook:
    """A notebook to run: its file, every parameter it declares with its default, and the values it is given."""

    path: Path
    declared: dict[str, Any]
    given: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.stem


def need_checkout() -> None:
    """Raises StudyError where flowlib was installed as a wheel: notebooks, data manifest and reports are not in one."""
    if not is_checkout():
        raise StudyError(f"this needs a checkout of the study, and {ROOT} is none: clone it, and run flowlib there")


def plan(
    profile: str, notebooks: Sequence[str] | None = None, overrides: Mapping[str, Any] | None = None, root: Path = ROOT
) -> list[Notebook]:
    """Choose the notebooks and settle their parameters, without starting anything.

    Raises
    ------
    StudyError: an unknown profile, notebook or parameter (near matches are named), a parameter whose type is not that
        of its declared default, or a notebook whose parameters cell is missing or holds more than literals.
    """
    files = {path.stem: path for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    profiles = {path.stem: path for path in (root / "notebooks" / "profiles").glob("*.yaml")}
    if profile not in profiles:
        raise StudyError(f"unknown profile {profile!r}: {near(profile, profiles)}")
    for name in notebooks or ():
        if name not in files:
            raise StudyError(f"unknown notebook {name!r}: {near(name, files)}")
    selected = list(dict.fromkeys(notebooks or files))
    declared = {name: declared_parameters(path) for name, path in files.items()}

    place = f"notebooks/profiles/{profile}.yaml"
    sources = [  # where values come from, the values, and the notebooks of which one must declare each
        (place, read_profile(profiles[profile], place), list(files)),
        ("override", overrides or {}, selected),
    ]
    given: dict[str, dict[str, Any]] = {name: {} for name in selected}
    for source, values, candidates in sources:
        known = {parameter for name in candidates for parameter in declared[name]} - {"report_dir"}
        for parameter, value in values.items():
            if parameter not in known:
                mend = "the runner sets it" if parameter == "report_dir" else near(parameter, known)
                raise StudyError(f"{source}: parameter {parameter!r} is declared by none of the notebooks: {mend}")
            for name in candidates:
                if parameter in declared[name]:
                    fitting = checked(source, name, parameter, value, declared[name][parameter])
                    if name in given:
                        given[name][parameter] = fitting
    for name in selected:
        if "report_dir" in declared[name]:
            given[name]["report_dir"] = f"reports/{profile}"
    return [Notebook(files[name], declared[name], given[name]) for name in selected]


def near(name: str, known: Iterable[str]) -> str:
    """The known names most like a mistyped one, or all of them when none is."""
    known = sorted(known)
    close = [other for other in known if name and other.startswith(name)] or difflib.get_close_matches(name, known)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known) or 'none'}"


def declared_parameters(path: Path) -> dict[str, Any]:
    """Names and literal defaults of a notebook's parameters cell; StudyError names the line that is not one."""
    place = f"notebooks/{path.name}"
    tagged = [text for kind, text, tags in read_cells(path) if kind == "code" and "parameters" in tags]
    if len(tagged) != 1:
        raise StudyError(f"{place}: {len(tagged)} cells are tagged `parameters`: tag exactly one")
    try:
        statements = ast.parse(tagged[0]).body
    except SyntaxError as error:
        raise StudyError(f"{place}: parameters, line {error.lineno}: {error.msg}") from None
    values: dict[str, Any] = {}
    for statement in statements:
        try:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=literal):
                    values[name] = ast.literal_eval(literal)
                    strict_type(values[name])
                case _:
                    raise ValueError
        except ValueError:
            raise StudyError(
                f"{place}: parameters, line {statement.lineno}: `{ast.unparse(statement)}` is not `name = literal` "
                "(a number, text, True, False, None, or a list or dict of these)"
            ) from None
    return values


def read_cells(path: Path) -> list[tuple[str, str, list[str]]]:
    """(type, text, tags) of each cell of a notebook; StudyError when the file is not one."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [(cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in cells]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"notebooks/{path.name} is not a readable notebook ({error!r}): restore it") from None


def read_profile(path: Path, place: str) -> dict[str, Any]:
    """The parameters of a profile file; StudyError when it is not one flat YAML mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{place} is not YAML: {' '.join(str(error).split())}") from None
    if not (isinstance(values, dict) and all(isinstance(name, str) for name in values)):
        raise StudyError(f"{place}: write one `name: value` a line")
    return values


def strict_type(default: Any) -> Any:
    """The type that a value must have to stand in for a default: its own, element by element for lists and dicts.

    None says nothing of the type meant, so it stands for any; an empty list or dict for one of any elements.
    """
    if default is None:
        return Any
    if isinstance(default, bool | int | float | str):
        return type(default)
    if isinstance(default, list | dict):
        elements = default.values() if isinstance(default, dict) else default
        element = Union[tuple(strict_type(value) for value in elements)] if elements else Any  # noqa: UP007
        return dict[str, element] if isinstance(default, dict) else list[element]  # type: ignore[valid-type]
    raise ValueError(f"no parameter can be a {type(default).__name__}")


def checked(source: str, notebook: str, parameter: str, value: Any, default: Any) -> Any:
    """The value, if it has the type of the declared default (an int may stand for a float); else StudyError."""
    try:
        return TypeAdapter(strict_type(default)).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{source}: parameter {parameter!r}: {first['msg'].lower()}, not {first['input']!r}"
        message += f" (the default in {notebook} is {default!r})"
        if isinstance(first["input"], str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", first["input"]):
            message += f"; YAML reads {first['input']} as text: write {re.sub('[eE]', '.0e', first['input'])}"
        raise StudyError(message) from None
