"""The files that make the environment agree, and the notebooks are committed as the runner expects them."""

import importlib
import re
import subprocess
import tomllib
from typing import Any

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

from flowlib.runtime.paths import ROOT
from flowlib.study.parameters import declared_parameters

CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "playwright": "playwright-python",
    "seaborn": "seaborn-base",
    "torch": "pytorch",
}
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def requirements(project: dict[str, Any]) -> list[Requirement]:
    """Of all that a newcomer gets; the peers of the benchmarks are asked for by name."""
    extras = [
        line for name, lines in project["optional-dependencies"].items() for line in lines if name != "benchmarks"
    ]
    return [Requirement(line) for line in project["dependencies"] + extras]


def test_conda_environment_has_the_packages_of_pyproject(project: dict[str, Any], requirements: list[Requirement]):
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = {line for line in dependencies if isinstance(line, str)} - {"pip"}
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    expected = {f"{CONDA_NAMES.get(one.name, one.name)}{one.specifier}" for one in requirements}
    expected.add(f"python{project['requires-python']}")
    assert conda | {*pip} == expected | {"-e ."}


def test_lock_pins_every_requirement_in_its_range(requirements: list[Requirement]):
    text = (ROOT / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, flags=re.MULTILINE))
    wrong = [str(one) for one in requirements if pins.get(one.name) not in one.specifier]
    assert wrong == []


def test_lock_names_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in text
    assert re.findall(r"^.*(?:://|--index-url|--find-links|--trusted-host).*$", text, flags=re.MULTILINE) == []


def test_there_are_notebooks():
    assert NOTEBOOKS != []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    ran = [cell.source for cell in cells if cell.get("outputs") or cell.get("execution_count") is not None]
    assert ran == []
    assert declared_parameters(path) != {}


@pytest.mark.parametrize("page", ["README.md", "reports/README.md", "reports/speed/README.md", "data/README.md"])
def test_links_lead_to_what_is_committed(page: str):
    """A file that git ignores is there for its maker only."""
    path = ROOT / page
    targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", path.read_text())
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert missing == []
    if (ROOT / ".git").exists():
        paths = "\0".join(str((path.parent / target).resolve()) for target in [path.name, *targets])
        ignored = subprocess.run(
            ["git", "check-ignore", "--stdin", "-z"], cwd=ROOT, input=paths, capture_output=True, text=True
        )
        assert ignored.stdout == ""


def test_the_planted_faults_are_of_this_code(monkeypatch: pytest.MonkeyPatch):
    """benchmarks/mutations.py plants them in lines that are there, and asks tests that are."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    faults = importlib.import_module("mutations")
    faults.check_texts(faults.FAULTS)
    missing = [name for fault in faults.FAULTS for name in fault.tests if not (ROOT / "tests" / name).is_file()]
    assert missing == []
