"""What README says of the code is what the code is; licence and citation are there."""

import re
import tomllib

import pytest
import yaml

from flowlib.runtime.code import known
from flowlib.runtime.paths import PACKAGE, ROOT
from flowlib.study.structure import BLOCK, drawing, reduced

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_arrows_that_follow_from_others_are_left_out():
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_drawing_is_of_this_code():
    found = BLOCK.search(README)
    assert found is not None
    assert found[0] == found[1] + drawing() + found[2], "run: python -m flowlib.study.structure"


def test_the_table_names_all_that_is_at_the_top():
    table = README.partition("| in `flowlib` |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`([\w.]+/?)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    top = {f"{path.name}/" if path.is_dir() else path.name for path in PACKAGE.iterdir()}
    assert {name for row in rows for name in row} == top - {"__init__.py", "__pycache__/"}


def test_modules_and_files_that_readme_names_exist():
    """A dotted name is a module's, or of something in a module."""
    names = {f"flowlib{name}" for name in re.findall(r"\bflowlib((?:\.\w+)+)", README)}
    assert sorted(name for name in names if not {name, name.rpartition(".")[0]} & (known().keys() - {"flowlib"})) == []
    paths = set(re.findall(r"(?<![\w/.])(?:flowlib|benchmarks|tests|notebooks)/[\w/.-]*\w", README))
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("file", ["LICENSE", "CITATION.cff"])
def test_readme_links_licence_and_citation(file: str):
    assert f"]({file})" in README[-400:]


def test_citation_is_of_this_study_and_the_thesis():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= found.keys()
    assert found["cff-version"] == "1.2.0"
    assert (str(found["version"]), found["license"]) == (project["version"], project["license"])
    (thesis,) = found["references"]
    assert {"title", "authors", "institution", "year"} <= thesis.keys()
    assert (thesis["type"], thesis["year"]) == ("thesis", 2019)
