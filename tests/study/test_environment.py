"""What people's machines hold that must not change a result: other kernels, configuration, variables, templates."""

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from flowlib.study import environment, runner
from flowlib.study.report import facts, read_manifest

CODE = """import json, os, sys
from pathlib import Path
import pandas as pd
from flowlib.figures import contamination, style
seen = {name: os.environ.get(name) for name in ("OTHER_KERNEL", "MPLBACKEND", "OMP_NUM_THREADS")}
seen |= {"python": sys.executable, "planted": sorted({"by_startup", "by_config", "by_python"} & set(globals()))}
seen |= {"optimize": sys.flags.optimize, "encoding": open(os.devnull).encoding}
Path("seen.json").write_text(json.dumps(seen))
scores = pd.DataFrame({"group": ["a"] * 5 + ["b"] * 5, "image": [*range(5)] * 2, "nll": [*range(10)]})
style.save(contamination.two_classes(scores, "a", "b"), report_dir, "01_x", scores, "Words & <signs>.")"""


def run_study(root: Path) -> dict[str, Any]:
    """Run a study of one notebook that saves a figure; what its kernel saw."""
    (root / "notebooks" / "profiles").mkdir(parents=True)
    (root / "notebooks" / "profiles" / "quick.yaml").touch()
    cells = [new_code_cell("report_dir = 'x'", metadata={"tags": ["parameters"]}), new_code_cell(CODE)]
    nbformat.write(new_notebook(cells=cells), root / "notebooks" / "01_a.ipynb")
    assert runner.run("quick", root=root) == {"01_a": "ok"}
    return json.loads((root / "seen.json").read_text())


def spoil(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which all that can be configured is configured otherwise."""
    files = {
        "jupyter/kernels/python3/kernel.json": json.dumps(
            {
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "env": {"OTHER_KERNEL": "yes"},
                "display_name": "Python 3",
                "language": "python",
            }
        ),
        "jupyter/nbconvert/templates/lab/index.html.j2": "a page of another kind",
        "ipython/profile_default/startup/00.py": "by_startup = 1",
        "ipython/profile_default/ipython_kernel_config.py": "c.IPKernelApp.exec_lines = ['by_config = 1']",
        "startup.py": "by_python = 1",
        "matplotlibrc": "figure.facecolor: red\nsavefig.transparent: True\naxes.linewidth: 9\n",
    }
    for place, name in ((root, "matplotlibrc"), *((folder, name) for name in files)):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(files[name])
    for name, value in {
        "JUPYTER_PATH": folder / "jupyter",
        "JUPYTER_DEFAULT_PROVISIONER_NAME": "elsewhere",
        "IPYTHONDIR": folder / "ipython",
        "PYTHONSTARTUP": folder / "startup.py",
        "PYTHONOPTIMIZE": 2,
        "PYTHONUTF8": 0,
        "LC_ALL": "POSIX",
        "PYTHONCOERCECLOCALE": 0,
        "MPLBACKEND": "Agg",
        "MATPLOTLIBRC": folder / "matplotlibrc",
        "OMP_NUM_THREADS": 7,
        "ATEN_CPU_CAPABILITY": "default",
    }.items():
        monkeypatch.setenv(name, str(value))


def test_a_notebook_is_run_alike_in_every_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain, other = tmp_path / "plain", tmp_path / "other"
    expected = run_study(plain)
    spoil(tmp_path / "spoilt", other, monkeypatch)
    assert run_study(other) == expected
    assert expected == {
        "OTHER_KERNEL": None,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": "1",
        "python": sys.executable,
        "planted": [],
        "optimize": 0,
        "encoding": "utf-8",
    }
    reports = [root / "reports" / "quick" for root in (plain, other)]
    figures = [report / "figures" / "01_x.png" for report in reports]
    assert figures[0].read_bytes() == figures[1].read_bytes()
    for report in reports:
        cells = nbformat.read(report / "01_a.ipynb", as_version=4).cells
        kinds = [[*output.data] for cell in cells for output in cell.outputs if output.output_type == "display_data"]
        assert kinds == [["image/png", "text/plain"]]
        page = (report / "01_a.html").read_text()
        assert page.count("<img") == 1
        assert 'alt="Words &amp; &lt;signs&gt;."' in page
        assert 'id="code"' in page
    manifest = read_manifest(reports[1])
    assert manifest["notebooks"]["01_a"]["environment"]["ATEN_CPU_CAPABILITY"] == "default"
    (told,) = [fact for fact in facts(manifest) if fact.startswith("Set in the environment")]
    assert "ATEN_CPU_CAPABILITY" in told
    assert "OMP_NUM_THREADS" not in told


def test_what_may_change_a_result_is_recorded(monkeypatch: pytest.MonkeyPatch):
    for name in ("CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "TORCH_CUDNN_V8_API_DISABLED", "PYTHONPATH"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CUDAFLAVOUR", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    recorded = environment.recorded()
    assert {"CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "TORCH_CUDNN_V8_API_DISABLED"} <= recorded.keys()
    assert recorded["OMP_NUM_THREADS"] == "1"
    assert not {"HOME", "CUDAFLAVOUR"} & recorded.keys()
    assert {"PYTHONPATH", "CUDA_VISIBLE_DEVICES"} <= set(environment.chosen(recorded))
    assert "OMP_NUM_THREADS" not in environment.chosen(recorded)
