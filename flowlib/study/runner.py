"""Run the study's notebooks: check every parameter first, execute them, keep what succeeded.

Notebooks are ``notebooks/NN_name.ipynb``; one cell of each is tagged ``parameters`` and holds literals only. A profile
is a flat papermill parameter file, ``notebooks/profiles/PROFILE.yaml``, shared by all notebooks. A run fills
``reports/PROFILE/``: executed notebooks, their HTML, the ``figures``, ``tables`` and ``claims`` that they write, and
``manifest.json``, which says from what (`flowlib.study.provenance`, `flowlib.study.environment`).
"""

import contextlib
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import psutil
from tqdm import tqdm

from flowlib.runtime.files import mend, write_text
from flowlib.runtime.paths import ROOT, sources
from flowlib.study import environment
from flowlib.study.pages import notebook_page
from flowlib.study.parameters import Notebook, StudyError, plan, read_cells
from flowlib.study.provenance import ORIGIN, provenance
from flowlib.study.report import read_manifest


@dataclass(frozen=True)
class Attempt:
    """A notebook being executed: its process, when it began, and the times of the files it had made before."""

    notebook: Notebook
    process: subprocess.Popen[bytes]
    began: float
    started: str
    before: dict[str, int]


def run(
    profile: str,
    notebooks: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    jobs: int = 1,
    force: bool = False,
    root: Path = ROOT,
) -> dict[str, str]:
    """Execute notebooks into ``reports/<profile>/`` and return the status of each: "ok", "failed" or "up to date".

    A notebook is up to date when its key (`notebook_key`) is in the manifest with status ok and all it made is still
    there; ``force`` runs it anyway. A failed notebook leaves ``NN_name.failed.ipynb`` beside its last good one and does
    not stop the others. Ctrl-C, SIGTERM and SIGHUP end every kernel; what had finished by then stays recorded.

    Arguments
    ---------
    profile: name of a file in ``notebooks/profiles``, without ``.yaml``.
    notebooks: names (``01_contamination``) to run; all when None or empty.
    overrides: parameter values that win over the profile's; each must be declared by a selected notebook.
    jobs: how many notebooks run at once, each in its own process.

    Raises
    ------
    StudyError: before any kernel starts, for whatever `plan` refuses, ``jobs < 1``, or while another run is writing the
        same report; and when the report cannot be written (no space, no leave), with every kernel ended.
    """
    if jobs < 1:
        raise StudyError(f"jobs must be at least 1, not {jobs}")
    planned = plan(profile, notebooks, overrides, root)
    report_dir = root / "reports" / profile
    try:
        report_dir.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(report_dir / ".lock", timeout=0), caught_signals() as signals:
            return execute(planned, report_dir, root, jobs, force, signals)
    except filelock.Timeout:
        raise StudyError(f"another run is writing reports/{profile}: wait for it, or end it") from None
    except OSError as error:
        raise StudyError(f"reports/{profile} cannot be written ({error}): {mend(error)}") from error


def execute(
    planned: Sequence[Notebook], report_dir: Path, root: Path, jobs: int, force: bool, signals: Sequence[int]
) -> dict[str, str]:
    """Run what is not up to date, at most ``jobs`` at once; the manifest is rewritten after each notebook."""
    entries = read_manifest(report_dir).get("notebooks", {})
    entries = {name: entry for name, entry in entries.items() if (root / "notebooks" / f"{name}.ipynb").exists()}
    keys = {notebook.name: notebook_key(notebook, root) for notebook in planned}
    statuses = {}
    for name, key in keys.items():
        if not force and up_to_date(entries.get(name, {}), key, report_dir):
            statuses[name] = "up to date"
            tell(f"{name}: up to date")
    waiting = [notebook for notebook in planned if notebook.name not in statuses]
    if not waiting:
        return statuses
    began = time.monotonic()
    facts = {"profile": report_dir.name, **provenance(root), "started": now(), "wall_seconds": 0.0}
    running: list[Attempt] = []
    bar = tqdm(total=len(waiting), desc=report_dir.name, unit="notebook", disable=None)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                if entries.get(waiting[0].name, {}).get("key"):  # from now on its files may be of two runs
                    entries[waiting[0].name]["key"] = ""
                    write_manifest(report_dir, facts, entries)
                running.append(start(waiting.pop(0), report_dir, root))
            time.sleep(0.1)
            if signals:
                raise SystemExit(128 + signals[0])
            for attempt in [attempt for attempt in running if attempt.process.poll() is not None]:
                name = attempt.notebook.name
                origin = {what: facts[what] for what in ORIGIN}
                entries[name] = finish(attempt, report_dir) | {"key": keys[name]} | origin
                statuses[name] = entries[name]["status"]
                facts["wall_seconds"] = round(time.monotonic() - began, 1)
                write_manifest(report_dir, facts, entries)
                running.remove(attempt)
                bar.update()
            if not bar.disable:
                bar.set_postfix_str(", ".join(progress(attempt, report_dir) for attempt in running))
    finally:
        bar.close()
        for attempt in running:
            kill_tree(attempt.process)
            for path in scratch(attempt.notebook.name, report_dir):
                path.unlink(missing_ok=True)
    return {name: statuses[name] for name in keys}


def write_manifest(report_dir: Path, facts: Mapping[str, Any], entries: Mapping[str, Any]) -> None:
    manifest = {**facts, "notebooks": dict(sorted(entries.items()))}
    write_text(report_dir / "manifest.json", json.dumps(manifest, indent=2) + "\n")


def start(notebook: Notebook, report_dir: Path, root: Path) -> Attempt:
    """Start papermill on a notebook, in a session of its own so that Ctrl-C reaches the runner alone."""
    tell(f"{notebook.name}: started")
    partial, log = scratch(notebook.name, report_dir)
    partial.unlink(missing_ok=True)
    source, target = (str(path.relative_to(root)) for path in (notebook.path, partial))
    command = [sys.executable, "-m", "flowlib.study.execution", source, target, json.dumps(notebook.given)]
    before = written(notebook.name, report_dir)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment.of_kernels(),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return Attempt(notebook, process, time.monotonic(), now(), before)


def finish(attempt: Attempt, report_dir: Path) -> dict[str, Any]:
    """Put an ended notebook's files in place and return its manifest entry.

    The exit code decides: a kernel that was killed leaves cells that all look completed.
    """
    name, exit_code = attempt.notebook.name, attempt.process.returncode
    assert attempt.process.stdin is not None
    attempt.process.stdin.close()
    seconds = time.monotonic() - attempt.began
    partial, log = scratch(name, report_dir)
    failed = report_dir / f"{name}.failed.ipynb"
    outputs = []
    if exit_code == 0:
        write_text(report_dir / f"{name}.html", notebook_page(partial))
        partial.replace(report_dir / f"{name}.ipynb")
        failed.unlink(missing_ok=True)
        after = written(name, report_dir)
        outputs = [
            f"{name}.ipynb",
            f"{name}.html",
            *(file for file in after if after[file] != attempt.before.get(file)),
        ]
        tell(f"{name}: finished in {seconds:.0f} s")
    else:
        if partial.exists():
            partial.replace(failed)
        text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
        text = text[max(0, text.rfind("Exception encountered at")) :]  # where papermill's own stack ends
        lines = [line for line in re.split(r"[\r\n]+", text) if line.strip() and not line.startswith("Executing:")]
        tell(
            "\n".join(
                [*lines[-30:], f"{name}: FAILED after {seconds:.0f} s (exit code {exit_code}), see {failed.name}"]
            )
        )
    log.unlink()
    return {
        "status": "ok" if exit_code == 0 else "failed",
        "started": attempt.started,
        "seconds": round(seconds, 1),
        "parameters": attempt.notebook.declared | attempt.notebook.given,
        "environment": environment.recorded(),
        "outputs": outputs,
    }


def scratch(name: str, report_dir: Path) -> tuple[Path, Path]:
    """Where a notebook is executed, and its log, until it has ended."""
    return report_dir / f".{name}.ipynb", report_dir / f".{name}.log"


def written(name: str, report_dir: Path) -> dict[str, int]:
    """A notebook's files in figures, tables and claims (they begin with its two digits), with their times in ns."""
    files = [path for folder in ("figures", "tables", "claims") for path in (report_dir / folder).glob(f"{name[:2]}_*")]
    return {path.relative_to(report_dir).as_posix(): path.stat().st_mtime_ns for path in sorted(files)}


def up_to_date(entry: Mapping[str, Any], key: str, report_dir: Path) -> bool:
    same = entry.get("status") == "ok" and entry.get("key") == key
    return same and all((report_dir / file).exists() for file in entry["outputs"])


def notebook_key(notebook: Notebook, root: Path) -> str:
    """SHA-256 of all that determines a notebook's results: its cells and parameters, flowlib's code, the versions."""
    parameters = notebook.declared | notebook.given
    digest = hashlib.sha256(json.dumps([read_cells(notebook.path), parameters], sort_keys=True).encode())
    for path in [*sources(root / "flowlib"), root / "requirements.lock"]:
        if path.exists():
            digest.update(path.relative_to(root).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def progress(attempt: Attempt, report_dir: Path) -> str:
    """A notebook's name and how many of its cells are done, ``01_contamination 5/14``, by papermill's own bar."""
    _, log = scratch(attempt.notebook.name, report_dir)
    cells = re.findall(r"\| *(\d+/\d+) \[", log.read_text(encoding="utf-8", errors="replace"))
    return f"{attempt.notebook.name} {cells[-1] if cells else ''}"


def tell(line: str) -> None:
    """Print to stderr, above the progress bar where there is one."""
    tqdm.write(line, file=sys.stderr)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C, SIGTERM and SIGHUP in a list, to be acted on where no process is half started."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, lambda received, _: caught.append(received)) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all its descendants: a kernel has a session of its own, which no signal to a group reaches."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        for member in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()
    if process.stdin:
        process.stdin.close()
