"""The runner and its report, on tiny notebooks with real kernels."""

import base64
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import filelock
import nbformat
import psutil
import pytest
import yaml
from conftest import PATIENCE
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

from flowlib import __main__
from flowlib.study import claims, execution, publication, published, report, runner
from flowlib.study.criteria import Amendment, Claim, above
from flowlib.study.parameters import StudyError, plan
from flowlib.study.provenance import ORIGIN
from flowlib.study.report import ReportError

PARAMETERS = """# how it is trained
seed = 0
rate = 1e-3
digits = [1, 8]
cases = {"a": [0.5]}
label = "x"
fast = False
limit = None
report_dir = "reports/quick"
"""
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
RECORDED: dict[str, dict[str, Any]] = {
    "1": {"evidence": {"slope": [0.3, 0.2, 0.4]}, "measured": "0.3 [0.2, 0.4]", "figure": "01_curve.png",
          "note": "2 seeds", "epochs": 0.4},
    "2": {"evidence": {"slope": [0.1, -1, 1]}, "measured": "0.1 [-1, 1]", "figure": "", "note": "", "epochs": None},
}  # fmt: skip
GOOD = f"""import json, os
from pathlib import Path
Path("started.txt").open("a").write(f"{{seed}} {{rate!r}} {{fast}} {{os.environ['OMP_NUM_THREADS']}}\\n")
out = Path(report_dir)
for folder in ("figures", "tables", "claims"):
    (out / folder).mkdir(exist_ok=True)
(out / "figures/01_curve.png").write_bytes({PIXEL!r})
(out / "figures/01_curve.txt").write_text("Nats of <eights>, see " + str(Path.cwd() / "data"))
(out / "tables/01_curve.csv").write_text("case,auroc\\n1,0.98765432\\n")
for number, found in {RECORDED!r}.items():
    (out / f"claims/01_good.{{number}}.json").write_text(json.dumps(found))
assert not fast, "too fast"
print("made", digits)"""
KILLED = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
HANGS = """import os, subprocess, time
from pathlib import Path
Path("pids.txt.new").write_text(f"{os.getpid()} {subprocess.Popen(['sleep', '600']).pid}")
os.replace("pids.txt.new", "pids.txt")
time.sleep(600)"""


def known_claim(number: str, words: str, notebook: str, **more: Any) -> Claim:
    return Claim(number, "4.1", words, "yes", "slope > 0", notebook, above(0, "slope"), **more)


KNOWN = [
    known_claim("1", "ones | stay", "01_good", amended=Amendment("slope < 1 once.", "2026-11-26", "it was odd.")),
    known_claim("2", "eights <fall>", "01_good", simulated=True),
    known_claim("3", "squares", "03_squares"),
]


def write_notebook(
    root: Path, name: str, code: str, parameters: str = PARAMETERS, tags: tuple[str, ...] = ("parameters",)
):
    cells = [
        new_markdown_cell("# Question"),
        new_code_cell(parameters, metadata={"tags": [*tags]}),
        new_code_cell(code),
    ]
    nbformat.write(new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")


def write_profile(root: Path, name: str, **parameters: Any) -> None:
    (root / "notebooks" / "profiles" / f"{name}.yaml").write_text(yaml.safe_dump(parameters))


def make_study(root: Path) -> Path:
    """A study of one good notebook, in a git repository."""
    (root / "notebooks" / "profiles").mkdir(parents=True)
    write_notebook(root, "01_good", GOOD)
    write_profile(root, "quick", seed=3, rate=1, digits=[1, 7])
    (root / ".gitignore").write_text("reports/\nstarted.txt\n")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "study"]):
        subprocess.run([*git, *command], cwd=root, check=True)
    return root


def manifest_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "reports/quick/manifest.json").read_text())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_study(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose good notebook has run; tests may run it again, but leave it good."""
    root = make_study(tmp_path_factory.mktemp("study"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "7")  # which no kernel may see
        assert runner.run("quick", root=root) == {"01_good": "ok"}
    return root


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sed": 1}, r"quick\.yaml: parameter 'sed' is declared by none of the notebooks: did you mean seed\?"),
        ({"report_dir": "x"}, "the runner sets it"),
        ({"seed": True}, "'seed': input should be a valid integer, not True .*default in 01_good is 0"),
        ({"seed": 1.0}, "valid integer, not 1.0"),
        ({"seed": None}, "valid integer, not None"),
        ({"rate": True}, "valid number, not True"),
        ({"rate": "1e-4"}, r"YAML reads 1e-4 as text: write 1\.0e-4"),
        ({"digits": [1, "8"]}, "'digits': input should be a valid integer, not '8'"),
        ({"digits": 1}, "valid list, not 1"),
        ({"cases": {"a": ["b"]}}, "valid number, not 'b'"),
        ({"label": 1}, "valid string, not 1"),
        ({"fast": 1}, "valid boolean, not 1"),
    ],
)
def test_profile_with_wrong_parameter_starts_no_kernel(root: Path, values: dict[str, Any], message: str):
    write_profile(root, "quick", **values)
    with pytest.raises(StudyError, match=message):
        runner.run("quick", root=root)
    write_profile(root, "quick")
    with pytest.raises(StudyError, match=message.replace(r"quick\.yaml", "override")):
        runner.run("quick", overrides=values, root=root)
    assert not (root / "started.txt").exists()


def test_wrong_request_starts_no_kernel(root: Path):
    for arguments, message in [
        ({"profile": "quik"}, r"unknown profile 'quik': did you mean quick\?"),
        ({"profile": "quick", "notebooks": ["01"]}, r"unknown notebook '01': did you mean 01_good\?"),
        ({"profile": "quick", "notebooks": ["zzz"]}, "unknown notebook 'zzz': there are 01_good"),
        ({"profile": "quick", "jobs": 0}, "jobs must be at least 1, not 0"),
    ]:
        with pytest.raises(StudyError, match=message):
            runner.run(**arguments, root=root)
    (root / "reports/quick").mkdir(parents=True)
    with filelock.FileLock(root / "reports/quick/.lock"), pytest.raises(StudyError, match="another run is writing"):
        runner.run("quick", root=root)
    assert not (root / "started.txt").exists()


@pytest.mark.parametrize(
    ("cell", "tags", "message"),
    [
        (
            "seed = 0\nn = 2 * 5",
            ("parameters",),
            r"02_other\.ipynb: parameters, line 2: `n = 2 \* 5` is not `name = lit",
        ),
        ("a = b = 1", ("parameters",), "`a = b = 1` is not"),
        ("seed: int = 0", ("parameters",), "`seed: int = 0` is not"),
        ("seeds = (1, 2)", ("parameters",), r"`seeds = \(1, 2\)` is not"),
        ("seed =", ("parameters",), r"02_other\.ipynb: parameters, line 1: invalid syntax"),
        ("seed = 0", (), r"02_other\.ipynb: 0 cells are tagged `parameters`"),
    ],
)
def test_notebook_with_wrong_parameters_cell_is_refused(root: Path, cell: str, tags: tuple[str, ...], message: str):
    write_notebook(root, "02_other", "", cell, tags)
    with pytest.raises(StudyError, match=message):
        plan("quick", ["01_good"], root=root)


def test_damaged_files_are_named(root: Path):
    (root / "notebooks/profiles/quick.yaml").write_text("seed: [1")
    with pytest.raises(StudyError, match=r"notebooks/profiles/quick\.yaml is not YAML"):
        plan("quick", root=root)
    (root / "notebooks/profiles/quick.yaml").write_text("- seed")
    with pytest.raises(StudyError, match=r"quick\.yaml: write one `name: value` a line"):
        plan("quick", root=root)
    (root / "notebooks/01_good.ipynb").write_text('{"cells": [')
    with pytest.raises(StudyError, match=r"notebooks/01_good\.ipynb is not a readable notebook"):
        plan("quick", root=root)


def test_each_notebook_is_given_what_it_declares(root: Path):
    write_notebook(root, "02_other", "", "width = 64\nrate = 2")
    write_profile(root, "quick", seed=3, rate=1, width=8)
    good, other = plan("quick", overrides={"rate": 5}, root=root)
    assert good.given == {"seed": 3, "rate": 5.0, "report_dir": "reports/quick"}
    assert other.given == {"width": 8, "rate": 5}
    with pytest.raises(StudyError, match="override: parameter 'width' is declared by none"):
        plan("quick", ["01_good"], {"width": 16}, root=root)


def test_results_and_manifest(finished: Path):
    out = finished / "reports/quick"
    assert (finished / "started.txt").read_text().splitlines()[0] == "3 1.0 False 1"
    assert "made [1, 7]" in (out / "01_good.ipynb").read_text()
    page = (out / "01_good.html").read_text()
    assert "made [1, 7]" in page
    assert 'id="code"' in page
    assert not [path.name for path in out.iterdir() if path.name.startswith(".01")]

    manifest = manifest_of(finished)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=finished, capture_output=True, text=True).stdout.strip()
    assert (manifest["profile"], manifest["commit"], manifest["dirty"]) == ("quick", commit, False)
    assert manifest["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "numpy", "papermill"} <= manifest["versions"].keys()
    assert manifest["device"]["cores"] >= 1
    entry = manifest["notebooks"]["01_good"]
    assert {what: entry[what] for what in ORIGIN} == {what: manifest[what] for what in ORIGIN}
    assert 0 < entry["seconds"] <= manifest["wall_seconds"]
    assert entry["parameters"] == {
        "seed": 3,
        "rate": 1.0,
        "digits": [1, 7],
        "cases": {"a": [0.5]},
        "label": "x",
        "fast": False,
        "limit": None,
        "report_dir": "reports/quick",
    }
    assert entry["outputs"] == [
        "01_good.ipynb",
        "01_good.html",
        "claims/01_good.1.json",
        "claims/01_good.2.json",
        "figures/01_curve.png",
        "figures/01_curve.txt",
        "tables/01_curve.csv",
    ]


def test_only_what_changed_runs_again(finished: Path):
    runs = len((finished / "started.txt").read_text().splitlines())
    notebook = plan("quick", root=finished)[0]
    key = runner.notebook_key(notebook, finished)
    assert key == manifest_of(finished)["notebooks"]["01_good"]["key"]
    (finished / "flowlib").mkdir()
    (finished / "flowlib/glow.py").write_text("K = 32\n")
    assert runner.notebook_key(notebook, finished) != key
    (finished / "flowlib/glow.py").unlink()
    (finished / "requirements.lock").write_text("torch==3\n")
    assert runner.notebook_key(notebook, finished) != key
    (finished / "requirements.lock").unlink()
    assert runner.notebook_key(plan("quick", overrides={"seed": 4}, root=finished)[0], finished) != key

    assert runner.run("quick", root=finished) == {"01_good": "up to date"}
    assert len((finished / "started.txt").read_text().splitlines()) == runs

    entry, figure = manifest_of(finished)["notebooks"]["01_good"], finished / "reports/quick/figures/01_curve.png"
    assert runner.up_to_date(entry, key, figure.parent.parent)
    assert not runner.up_to_date(entry | {"status": "failed"}, key, figure.parent.parent)
    figure.rename(figure.with_suffix(".away"))
    assert not runner.up_to_date(entry, key, figure.parent.parent)
    figure.with_suffix(".away").rename(figure)


def test_failures_leave_earlier_results_and_other_notebooks_alone(finished: Path, capsys: pytest.CaptureFixture[str]):
    out = finished / "reports/quick"
    good = (out / "01_good.ipynb").read_bytes()
    write_notebook(finished, "02_killed", KILLED)
    write_notebook(finished, "03_fine", "print(seed)", "seed = 0")
    statuses = runner.run("quick", overrides={"fast": True}, jobs=2, root=finished)
    assert statuses == {"01_good": "failed", "02_killed": "failed", "03_fine": "ok"}
    printed = capsys.readouterr().err
    assert "AssertionError: too fast" in printed
    assert "02_killed: FAILED" in printed
    assert (out / "01_good.ipynb").read_bytes() == good
    assert "too fast" in (out / "01_good.failed.ipynb").read_text()
    assert (out / "02_killed.failed.ipynb").exists()
    assert not (out / "02_killed.ipynb").exists()
    assert (out / "03_fine.ipynb").exists()
    assert manifest_of(finished)["dirty"]
    assert [entry["status"] for entry in manifest_of(finished)["notebooks"].values()] == ["failed", "failed", "ok"]

    index = report.write_index(out, KNOWN).read_text()
    assert "01_good, 02_killed failed" in index
    assert 'href="02_killed.failed.ipynb"' in index
    with pytest.raises(ReportError, match="not fit to publish: 01_good, 02_killed failed"):
        publication.publish("quick", finished, KNOWN)

    assert runner.run("quick", ["01_good"], root=finished) == {"01_good": "ok"}
    assert not (out / "01_good.failed.ipynb").exists()
    assert manifest_of(finished)["notebooks"]["02_killed"]["status"] == "failed"
    for path in [*(finished / "notebooks").glob("0[23]_*"), out / "02_killed.failed.ipynb"]:
        path.unlink()


def test_an_error_without_a_traceback_is_named(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: Any, **__: Any) -> None:
        raise PapermillExecutionError(1, 3, "x", "AssertionError", "too fast", [])

    monkeypatch.setattr(execution.papermill, "execute_notebook", fails)
    with pytest.raises(PapermillExecutionError, match="AssertionError: too fast"):
        execution.execute("a.ipynb", "b.ipynb", {})


def test_signals_are_caught():
    before = signal.getsignal(signal.SIGINT)
    with runner.caught_signals() as caught:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
    assert caught == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    assert signal.getsignal(signal.SIGINT) is before


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_interrupted_run_leaves_no_process(root: Path):
    write_notebook(root, "01_good", HANGS)
    pids: list[int] = []
    returned = threading.Event()

    def interrupt() -> None:
        while not (root / "pids.txt").exists():
            time.sleep(0.1)
        pids.extend(int(pid) for pid in (root / "pids.txt").read_text().split())
        os.kill(os.getpid(), signal.SIGTERM)
        if not returned.wait(PATIENCE):  # so that a runner deaf to signals fails the test rather than hangs it
            os.kill(pids[0], signal.SIGKILL)

    def uncaught(*_: Any) -> None:
        raise AssertionError("the runner did not catch the signal")

    before = signal.signal(signal.SIGTERM, uncaught)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(SystemExit) as ended:
            runner.run("quick", root=root)
        assert ended.value.code == 128 + signal.SIGTERM
        assert len(pids) == 2
        end = time.monotonic() + PATIENCE
        while any(is_alive(pid) for pid in pids):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert [path.name for path in (root / "reports/quick").iterdir() if path.name != ".lock"] == []
    finally:
        returned.set()
        signal.signal(signal.SIGTERM, before)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_index_and_publication(finished: Path):
    assert runner.run("quick", root=finished, force=True) == {"01_good": "ok"}
    manifest = manifest_of(finished)
    assert [*manifest["notebooks"]] == ["01_good"]  # and none that was recorded once and has been removed since

    index = report.write_index(finished / "reports/quick", KNOWN).read_text()
    count = (
        "Of 3 claims of the thesis: 1 reproduced, 0 partly, 0 not reproduced, 1 undecided, 1 not run; "
        "1 of the verdicts are on simulation only."
    )
    assert count in index
    assert '<tr class="undecided">' in index
    assert "? undecided, on simulation only" in index
    assert "<i>Until 2026-11-26: slope &lt; 1 once. Changed because it was odd.</i>" in index
    assert "<td>not reproduced</td><td>undecided, on simulation only</td>" in index
    assert claims.footnote() in index
    assert "eights &lt;fall&gt;" in index
    assert 'href="#01_curve"' in index
    assert 'id="01_curve"' in index
    assert 'src="figures/01_curve.png"' in index
    assert "<figcaption>Nats of &lt;eights&gt;" in index
    assert '<td class="number">0.9877</td>' in index

    (finished / "reports/figures").mkdir()
    for name in ("01_old.png", "02_other.png"):
        (finished / "reports/figures" / name).write_bytes(PIXEL)
    front = finished / "README.md"
    front.write_text("# Study\n<!-- claims -->\nold rows\n<!-- /claims -->\nend\n")
    readme = publication.publish("quick", finished, KNOWN)
    text = readme.read_text()
    assert front.read_text().startswith(f"# Study\n<!-- claims -->\n{count}\n")
    assert (
        "measured</summary>\n\n| the thesis says |" in front.read_text()
    )  # Markdown inside HTML needs the blank lines
    assert "| ones \\| stay | 0.3 \\[0.2, 0.4\\] | quick | 0.4 † | ● reproduced |\n" in front.read_text()
    assert front.read_text().endswith("model.\n\n</details>\n<!-- /claims -->\nend\n")
    assert not any(gone in front.read_text() for gone in ("old rows", "squares"))  # and no claim that was not run
    assert readme == finished / "reports/README.md"
    assert (
        r"| 1 | 4.1 | ones \| stay | slope > 0 *Until 2026-11-26: slope &lt; 1 once. Changed because it was odd.* "
        r"| yes | 0.3 \[0.2, 0.4\] (2 seeds) [figure](figures/01_curve.png) | 0.4 † | ● reproduced | quick |"
    ) in text
    assert "| 2 | eights &lt;fall> | not reproduced | undecided, on simulation only |" in text
    one = "| 2 | undecided, on simulation only | slope | 0.1 \\[-1, 1\\] | above 0 | over 100 | seeds and test images |"
    assert f"### What would decide\n\n{report.OPEN_CONDITIONS}\n\n" in text
    assert one in text
    assert all(f"<td>{cell}</td>" in index for cell in ("slope", "0.1 [-1, 1]", "above 0", "over 100"))
    assert "[table](tables/claims.csv)" in text
    evidence = (finished / "reports/tables/claims.csv").read_text().splitlines()
    assert evidence[:2] == ["profile,claim,evidence,value,low,high,epochs", "quick,1,slope,0.3,0.2,0.4,0.4"]
    assert "Each notebook is shown of the largest profile that it was run in: quick (01)." in text
    assert "profiles disagree" not in text
    assert "](figures/01_curve.png)" in text
    assert "([table](tables/01_curve.csv))" in text
    assert "eights &lt;fall>" in text
    assert "03_squares" not in text + index
    assert str(finished) not in text
    assert "see data" in text
    for fact in (
        "seed 3",
        manifest["commit"],
        manifest["versions"]["torch"],
        manifest["device"]["cpu"],
        manifest["started"],
    ):
        assert fact in text
    assert sorted(path.name for path in (finished / "reports/figures").iterdir()) == ["01_curve.png", "02_other.png"]
    assert (finished / "reports/tables/01_curve.csv").read_text() == "case,auroc\n1,0.98765432\n"


def test_a_larger_profile_is_shown_where_it_was_run_and_disagreements_are_told(finished: Path):
    (finished / "reports/quick/claims/02_other.2b.json").write_text("{}")  # of no claim
    assert runner.run("quick", root=finished, force=True) == {"01_good": "ok"}
    publication.publish("quick", finished, KNOWN)
    whole = finished / "reports/thesis"
    shutil.copytree(finished / "reports/quick", whole)
    manifest = json.loads((whole / "manifest.json").read_text()) | {"profile": "thesis"}
    (whole / "manifest.json").write_text(json.dumps(manifest))
    (whole / "figures/01_curve.png").write_bytes(b"the larger one's")
    surer = {"evidence": {"slope": [0.1, 0.05, 0.2]}, "measured": "0.1 [0.05, 0.2]", "epochs": 20}
    (whole / "claims/01_good.2.json").write_text(json.dumps(RECORDED["2"] | surer))
    text = publication.publish("thesis", finished, KNOWN).read_text()
    assert text == publication.publish("quick", finished, KNOWN).read_text(), "whichever is published last"
    assert (finished / "reports/figures/01_curve.png").read_bytes() == b"the larger one's"
    assert "Each notebook is shown of the largest profile that it was run in: thesis (01)." in text
    assert "2 claims were run in several profiles, 1 of them with one verdict in all. The others:" in text
    assert "What would decide" not in text  # the larger run has decided
    assert "| 2 | eights &lt;fall> | quick | 0.1 \\[-1, 1\\] |  | ? undecided, on simulation only |\n| 2 |" in text
    assert "thesis | 0.1 \\[0.05, 0.2\\] | 20 | ● reproduced, on simulation only |\n" in text
    kept = finished / "reports/published"
    assert str(finished) not in (kept / "thesis.json").read_text()
    assert [*published.read(finished / "reports")] == ["thesis", "quick"]

    asks_more = [*KNOWN[:1], dataclasses.replace(KNOWN[1], conditions=above(0, "slope", "offset")), KNOWN[2]]
    with pytest.raises(
        ReportError, match=r"thesis\.json lacks the evidence 'offset', which a claim asks for by now: run"
    ):
        publication.publish("quick", finished, asks_more)
    (whole / "claims/01_good.2.json").unlink()  # as of a claim that came later than the larger run
    text = publication.publish("thesis", finished, KNOWN).read_text()
    assert "| ? undecided, on simulation only | quick |" in text
    assert "1 claims were run in several profiles, 1 of them with one verdict in all." in text
    (kept / "quick.json").write_text("{")
    with pytest.raises(ReportError, match=r"reports/published/quick\.json is damaged"):
        publication.publish("quick", finished, KNOWN)


def test_notebooks_of_two_machines_say_which_is_whose(tmp_path: Path):
    """A run of one notebook elsewhere leaves what an earlier manifest says of the others with them."""
    entry = {"environment": {}, "outputs": [], "parameters": {}, "seconds": 5.0, "commit": "a1", "dirty": False}
    cpu, gpu = ({"gpu": gpu, "cpu": "Xeon", "cores": 2} for gpu in (None, "H200"))
    run = {"profile": "thesis", "started": "today", "wall_seconds": 5.0}
    before = run | {"device": cpu, "versions": {"torch": "1"}, "notebooks": {"01_a": entry, "02_b": entry}}
    published.keep(tmp_path, tmp_path, before, [])
    assert [fact for fact in report.facts(before) if "Device" in fact] == ["Device: Xeon, 2 cores"]
    after = run | {"device": gpu, "versions": {"torch": "2"}, "notebooks": {"02_b": entry}}
    published.keep(tmp_path, tmp_path, after, [])
    facts = report.facts(published.read(tmp_path)["thesis"])
    assert [fact for fact in facts if fact.startswith(("Device", "Versions"))] == [
        "Device of 01: Xeon, 2 cores",
        "Device of 02: H200, Xeon, 2 cores",
        "Versions of 01: torch 1",
        "Versions of 02: torch 2",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.98765432", "0.9877"), ("-12345.678", "-12350"), ("1.2345678e-05", "1.235e-05"), ("0.50", "0.5"),
        ("1234567", "1234567"), ("-3", "-3"), ("1e6", "1e+06"), ("", ""), ("nan", "nan"), ("1.2.3", "1.2.3"),
        ("0.123456 [0.1, 0.2]", "0.123456 [0.1, 0.2]"),
    ],
)  # fmt: skip
def test_tables_of_the_index_have_four_digits(text: str, shown: str):
    """Counts are exact; whatever is no number stays as it is."""
    assert report.four_digits(text) == shown


def test_missing_and_damaged_manifest_are_named(tmp_path: Path):
    with pytest.raises(ReportError, match=f"python -m flowlib run --profile {tmp_path.name}"):
        report.write_index(tmp_path, KNOWN)
    (tmp_path / "manifest.json").write_text('{"profile": ')
    with pytest.raises(ReportError, match=r"manifest\.json is damaged .*: delete it"):
        report.read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--profile", "no-such"], "unknown profile 'no-such'"),
        (["run", "-p", "seed"], "-p 'seed': write NAME=VALUE"),
        (["publish", "--profile", "no-such"], "reports/no-such holds no run"),
    ],
)
def test_command_line_errors_are_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["flowlib", *arguments])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in printed
    assert printed.count("\n") == 1


def test_overrides_are_yaml():
    pairs = ["seed=3", "rate=1.0e-3", "digits=[1, 8]", "label=a=b", "fast=true"]
    assert __main__.parse_overrides(pairs) == {"seed": 3, "rate": 1e-3, "digits": [1, 8], "label": "a=b", "fast": True}
