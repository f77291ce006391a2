"""Installed as a wheel: every source is in it, and outside of a checkout flowlib says what needs one."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from flowlib.runtime import paths


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a wheel of this project is unpacked into."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "project"
    copy.mkdir()
    shutil.copytree(paths.PACKAGE, copy / "flowlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (paths.ROOT / name).exists():
            shutil.copy(paths.ROOT / name, copy)
    script = f"import setuptools.build_meta as backend; backend.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=copy)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site-packages")
    return folder / "site-packages"


def call(installed: Path, folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the wheel's flowlib, in a folder that holds nothing."""
    environment = {name: value for name, value in os.environ.items() if name not in ("FLOWLIB_DATA", "PYTHONPATH")}
    environment |= {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


def test_a_wheel_holds_every_source(installed: Path):
    for path in paths.sources():
        assert (installed / path.relative_to(paths.ROOT)).read_bytes() == path.read_bytes()


def test_the_package_is_the_wheels_and_keeps_things_in_the_users_cache(installed: Path, tmp_path: Path):
    """Models and maps of fit and score go to `artifacts.folder`, below the data folder."""
    script = "from flowlib.runtime import paths; print(paths.PACKAGE, paths.is_checkout(), paths.data_folder())"
    answer = call(installed, tmp_path, script)
    assert answer.stdout.split() == [str(installed / "flowlib"), "False", str(tmp_path / "cache" / "flowlib" / "data")]


@pytest.mark.parametrize("command", ["run", "publish", "data"])
def test_what_needs_a_checkout_says_so(command: str, installed: Path, tmp_path: Path):
    script = f"import sys; sys.argv = ['flowlib', {command!r}]; from flowlib.__main__ import main; main()"
    answer = call(installed, tmp_path, script)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "needs a checkout of the study" in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert [*tmp_path.iterdir()] == []
