"""What must survive: killed runs, full disks, and files that someone made to do harm."""

import ast
import contextlib
import importlib.util
import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PATIENCE
from PIL import Image

from flowlib.detector import storage
from flowlib.detector.context import Expectation
from flowlib.detector.feature_flow import FeatureFlow
from flowlib.detector.model import Detector, DetectorError, Facts, Settings
from flowlib.explorer import sheets
from flowlib.inspection import ingest, scan, verdicts
from flowlib.runtime import artifacts
from flowlib.runtime.artifacts import Artifact
from flowlib.runtime.paths import PACKAGE, ROOT, sources
from flowlib.study import parameters, runner


@pytest.fixture(scope="module")
def kill_study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_study", ROOT / "benchmarks" / "kill_study.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small(
    kill_study: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, str], float]]:
    """A copy of the project with one small notebook, what an undisturbed run of it makes, and its seconds."""
    root = kill_study.copy_of_project(tmp_path_factory.mktemp("study").resolve(), ["01_flows"])
    try:
        yield root, *kill_study.undisturbed(root)
    finally:
        for process in kill_study.processes(root):
            with contextlib.suppress(Exception):
                process.kill()


# --- kill -9 -------------------------------------------------------------------------------------------------------


def test_killed_runs_end_with_the_numbers_of_an_undisturbed_one(kill_study: ModuleType, small):
    """benchmarks/kill_study.py in short; there are more than fifty kills in its table."""
    root, expected, seconds = small
    assert sum(name.endswith(".csv") for name in expected) == 1
    assert sum(name.startswith("data/artifacts/model") for name in expected) == 6
    rows = kill_study.survive(root, expected, seconds, ["runner", "worker", "all"], seed=1)
    assert rows
    assert all(row["same"] for row in rows), rows
    assert not any(row["orphans"] for row in rows), rows


# --- no room, no leave ---------------------------------------------------------------------------------------------


def test_no_room_for_artifacts_is_one_clear_error_and_what_was_made_stays(kill_study: ModuleType, small):
    """A whole run of a new seed with room for 40 kB files: it fails, names the folder, and all before is intact."""
    root, expected, _ = small
    if kill_study.made(root) != expected:
        kill_study.undisturbed(root)
    profile = root / "notebooks" / "profiles" / "small.yaml"
    before = profile.read_text()
    (root / "output.txt").unlink()
    notebook = (root / "reports/small/01_flows.ipynb").read_bytes()
    left_by_kills = set(root.glob("data/artifacts/*/.*.partial"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    profile.write_text(f"{before}seeds: [7]\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        run = kill_study.start(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run.wait(timeout=PATIENCE) == 1
    profile.write_text(before)
    told = (root / "output.txt").read_text()
    error, failed, _ = told.splitlines()[-3:]  # the last is the report's page; no kernel speaks in between
    assert f"{root}/data/artifacts/model cannot be written" in error, told
    assert failed.startswith("01_flows: FAILED"), told
    assert "free space or make it writable, or set FLOWLIB_DATA" in told
    assert kill_study.made(root) == expected
    assert (root / "reports/small/01_flows.ipynb").read_bytes() == notebook
    assert set(root.glob("data/artifacts/*/.*.partial")) <= left_by_kills


LIMIT = 40_000  # bytes: a model's file has more, what else a run writes less


def test_no_room_for_a_report_is_one_line(kill_study: ModuleType, small):
    """A file where the report's folder belongs: the nearest to a read-only folder that root, too, is refused."""
    root, _, _ = small
    (root / "reports").rename(root / "kept")
    (root / "reports").write_text("in the way")
    (root / "output.txt").unlink()
    try:
        assert kill_study.start(root).wait(timeout=PATIENCE) == 2
    finally:
        (root / "reports").unlink()
        (root / "kept").rename(root / "reports")
    (told,) = [line for line in (root / "output.txt").read_text().splitlines() if "verified" not in line]
    assert told.startswith("flowlib: reports/small cannot be written (")


def test_a_run_that_was_cut_short_is_not_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Forced, and killed when some of its tables were new: its files are of two runs, and are all made anew."""
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    (tmp_path / "notebooks" / "profiles" / "x.yaml").touch()
    cell = {
        "cell_type": "code",
        "source": "",
        "metadata": {"tags": ["parameters"]},
        "outputs": [],
        "execution_count": None,
    }
    (tmp_path / "notebooks" / "01_a.ipynb").write_text(
        json.dumps({"cells": [cell], "nbformat": 4, "nbformat_minor": 4, "metadata": {}})
    )
    assert runner.run("x", root=tmp_path) == {"01_a": "ok"}
    assert runner.run("x", root=tmp_path) == {"01_a": "up to date"}

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner, "start", killed)
        with pytest.raises(KeyboardInterrupt):
            runner.run("x", force=True, root=tmp_path)
    assert runner.run("x", root=tmp_path) == {"01_a": "ok"}


@pytest.mark.parametrize("name", ["../precious.png", "/{}/precious.png", "a/../../precious.png"])
def test_manifests_that_lead_out_of_their_folder_delete_nothing(name: str, tmp_path: Path):
    precious, out, source = tmp_path / "precious.png", tmp_path / "out", tmp_path / "in"
    precious.write_bytes(b"1234")
    out.mkdir()
    source.mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(source / "a.png")
    row = {"file": name.format(tmp_path), "source": "gone.png", "status": "ok", "fingerprint": "0@0"}
    pd.DataFrame([row], columns=list(ingest.TYPES)).to_csv(out / "manifest.csv", index=False)
    with pytest.raises(
        ingest.IngestError, match=r"manifest\.csv is damaged \(it names .*precious\.png, which is not in its"
    ):
        ingest.ingest(source, out)
    row = {"file": "gone.png", "overlay": name.format(tmp_path), "status": "ok"}
    pd.DataFrame([row], columns=list(verdicts.TYPES)).to_csv(out / "scores.csv", index=False)
    with pytest.raises(verdicts.VerdictsError, match=r"scores\.csv is damaged or not ours \(it names"):
        verdicts.read_table(out)
    assert precious.exists()


# --- a detector that someone sends you -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """A detector, not trained."""
    torch.manual_seed(0)
    flow = FeatureFlow(16).eval()
    expected = Expectation(np.zeros(2 * 16, np.float32), 0.0, -1.0, 1.0)
    return Detector(Settings("pixels"), 1, flow, expected, 10.0, 2.0, np.zeros(3), 1.0, Facts((2, 1), (2, 1), False))


Alter = Callable[[dict[str, np.ndarray], dict[str, Any]], object]
CRAFTED: dict[str, tuple[Alter, str]] = {
    "billions of channels": (lambda a, n: n.update(channels=10**9), "channels"),
    "no channels": (lambda a, n: n.update(channels=[1]), "channels"),
    "another shape": (lambda a, n: a.update({"flow.networks.0.0.bias": np.zeros((2, 3), np.float32)}), "networks.0.0"),
    "another type": (lambda a, n: a.update({"flow.mean": np.zeros(16)}), "flow.mean"),
    "not a number": (lambda a, n: a["flow.mean"].fill(np.nan), "flow.mean"),
    "infinity": (lambda a, n: a["calibration"].fill(np.inf), "calibration"),
    "a flat flow": (lambda a, n: a["flow.deviation"].fill(0), "map of a black image"),
    "other features": (lambda a, n: a.update({"flow.mean": np.zeros(20, np.float32)}), "rotations"),
    "no flow": (lambda a, n: a.pop("flow.mean"), "mean"),
    "text": (lambda a, n: n.update(level="high"), "level"),
    "no context": (lambda a, n: a.pop("expected.weights"), "expected.weights"),
    "another context": (lambda a, n: a.update({"expected.weights": np.zeros(20, np.float32)}), "20"),
    "a context without limits": (lambda a, n: n.pop("low"), "low"),
    "no level": (lambda a, n: n.pop("level"), "level"),
    "no width": (lambda a, n: n.update(width=0), "width"),
    "no scores": (lambda a, n: a.update(calibration=np.zeros(0)), "calibration has shape"),
    "a table of scores": (lambda a, n: a.update(calibration=np.zeros((3, 2))), "calibration has shape"),
    "no facts": (lambda a, n: n.update(facts={}), "facts.images"),
    "other facts": (lambda a, n: n["facts"].update(images=["a"] * 2), "facts.images"),
    "another setting": (lambda a, n: n["settings"].update(command="rm"), "command"),
    "no setting": (lambda a, n: n.update(settings="rm"), "settings"),
    "not a size": (lambda a, n: n["settings"].update(size="many"), "size"),
    "an older version": (lambda a, n: n.update(format=1), "saved by another version"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_detector_is_refused_by_name(name: str, sent: Detector, tmp_path: Path):
    path = storage.save(sent, tmp_path)
    arrays, notes = artifacts.read(path)
    alter, reason = CRAFTED[name]
    alter(arrays, notes)
    artifacts.write(path, Artifact(arrays, notes))
    with pytest.raises(DetectorError) as error:
        storage.load(tmp_path)
    assert str(error.value).startswith(f"{path} is no detector of this version (")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_detector_as_it_was_saved_is_taken(sent: Detector, tmp_path: Path):
    storage.save(sent, tmp_path)
    assert storage.load(tmp_path).facts == sent.facts
    storage.save(replace(sent, settings=Settings("pixels", size=64)), tmp_path)
    assert storage.load(tmp_path).settings.size == 64


@pytest.mark.parametrize("notes", [[], "text", None, {"channels": 1}])
def test_notes_that_are_no_detectors_are_refused(notes: Any, tmp_path: Path):
    artifacts.write(tmp_path / "detector.safetensors", Artifact({"x": np.zeros(1)}, notes))
    with pytest.raises(DetectorError, match=r"detector\.safetensors is no detector of this version"):
        storage.load(tmp_path)


def test_a_huge_detector_is_refused_unread(tmp_path: Path):
    with (tmp_path / "detector.safetensors").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DetectorError, match=r"detector\.safetensors .* MB are more than a detector has"):
        storage.load(tmp_path)


# --- nothing is executed -------------------------------------------------------------------------------------------

YAML = "map: !!python/object/apply:os.system ['touch {}']\nseed: 3\n"


def test_yaml_that_asks_for_python_is_refused(tmp_path: Path):
    trap, path = tmp_path / "trap", tmp_path / "settings.yaml"
    path.write_text(YAML.format(trap))
    readers: list[tuple[Callable[..., Any], str]] = [
        (scan.read_settings, "InspectionError"),
        (lambda path: parameters.read_profile(path, str(path)), "StudyError"),
        (sheets.read_view, "ExplorerError"),
    ]
    for read, error_name in readers:
        with pytest.raises(ValueError, match=str(path)) as error:
            read(path)
        assert type(error.value).__name__ == error_name
    assert not trap.exists()


UNPICKLE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
MODULES = [path for path in sources() if path.suffix == ".py"]


def loads_code(tree: ast.AST) -> list[str]:
    """What in a module's source could unpickle: imports, and calls of torch.load, numpy's load and pandas' readers."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLE]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name for alias in node.names}
            found += [node.module] if node.module.split(".")[0] in UNPICKLE else []
            found += [f"{node.module}.load"] if node.module in ("torch", "numpy", "yaml") and "load" in names else []
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            wrong = {
                "torch.load",
                "np.load",
                "numpy.load",
                "torch.jit.load",
                "yaml.load",
                "yaml.unsafe_load",
                "eval",
                "exec",
            }
            tensors_only = called == "torch.load" and any(
                keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in node.keywords
            )
            harmful = called in wrong or called.endswith(("read_pickle", "read_hdf"))
            found += [called] if harmful and not tensors_only else []
            found += ["allow_pickle" for keyword in node.keywords if keyword.arg == "allow_pickle"]
    return found


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_nothing_unpickles(path: Path):
    assert loads_code(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "import torch\ntorch.load('x')", "np.load('x')", "eval('1')",
        "from torch import load", "read_array(f, allow_pickle=True)", "pd.read_pickle('x')", "yaml.load(text, Loader)",
    ],
)  # fmt: skip
def test_what_unpickles_is_found(source: str):
    assert loads_code(ast.parse(source)) != []


# --- a score is of its image alone ---------------------------------------------------------------------------------


def test_a_conditional_score_does_not_depend_on_batch_or_order(monkeypatch: pytest.MonkeyPatch):
    """As `test_training` has it for the models without labels."""
    from flowlib import training

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (9, 1, 8, 8), dtype=np.uint8), np.arange(9) % 3
    recipe = training.Recipe("Glow", {"levels": 1, "steps": 2, "hidden_channels": 4, "classes": 3}, 6, 4)
    model, _ = training.train(images, recipe, labels=labels)
    scores = training.score(model, images, labels)
    np.testing.assert_allclose(training.score(model, images[::-1], labels[::-1].copy())[::-1], scores, rtol=1e-5)
    monkeypatch.setattr(training, "SCORING_BATCH", 2)
    np.testing.assert_allclose(training.score(model, images, labels), scores, rtol=1e-5)
