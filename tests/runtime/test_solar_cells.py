"""The package of solar cells: fetched once, verified, read without unpacking, and named when it is wrong."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowlib.runtime import solar_cells
from flowlib.runtime.download import DataError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A package of three small pictures, promised by a manifest; a data folder of one's own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(3):
            picture = io.BytesIO()
            Image.fromarray(np.full((4, 5), 50 * number, np.uint8)).save(picture, "PNG")
            archive.writestr(f"elpv_dataset/data/images/cell{number}.png", picture.getvalue())
        lines = [
            "images/cell0.png  0.0  mono",
            "images/cell1.png  0.3333333333333333  poly",
            "images/cell2.png  1.0 mono",
        ]
        archive.writestr("elpv_dataset/data/labels.csv", "\n".join(lines) + "\n")
    content = buffer.getvalue()
    promised = {"requirement": "cells==1", "file": "cells.whl", "bytes": len(content)}
    promised["sha256"] = hashlib.sha256(content).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps({"solar-cells": {"package": promised}}))
    monkeypatch.setattr(solar_cells, "MANIFEST", tmp_path / "manifest.json")
    monkeypatch.setenv("FLOWLIB_DATA", str(tmp_path / "data"))
    return content


def client(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[tuple]:
    """A pip that brings `content`; its calls."""
    calls: list[tuple] = []

    def run(*arguments, cwd: Path):
        calls.append(arguments)
        (cwd / "cells.whl").write_bytes(content)

    monkeypatch.setattr(solar_cells, "run", run)
    return calls


def test_it_is_fetched_once_and_read(package, monkeypatch):
    calls = client(monkeypatch, package)
    images, probability = solar_cells.load(lambda _: None)
    assert images.shape == (3, 1, 4, 5)
    assert images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [0, 50, 100]
    assert probability.tolist() == [0, pytest.approx(1 / 3), 1]
    solar_cells.load(lambda _: None)
    assert len(calls) == 1
    assert calls[0][-1] == "cells==1"


def test_a_corrupted_file_is_replaced(package, monkeypatch, tmp_path):
    calls = client(monkeypatch, package)
    path = solar_cells.ensure(lambda _: None)
    path.write_bytes(package[:-1])
    said: list[str] = []
    assert solar_cells.ensure(said.append) == path
    assert path.read_bytes() == package
    assert "corrupted" in said[0]
    assert len(calls) == 2


def test_what_is_not_promised_is_not_installed(package, monkeypatch, tmp_path):
    client(monkeypatch, package + b"more")
    with pytest.raises(DataError, match=r"cells\.whl is corrupted.*or put cells\.whl in"):
        solar_cells.ensure(lambda _: None)
    assert not list((tmp_path / "data").rglob("*.whl"))


def test_a_client_that_fails_is_named(package, monkeypatch):
    def run(*_, cwd):
        raise DataError("pip ended with status 1: no route")

    monkeypatch.setattr(solar_cells, "run", run)
    with pytest.raises(DataError, match=r"no route.*Connect to a package registry"):
        solar_cells.ensure(lambda _: None)
