"""The study on a Dask cluster: a scheduler and workers that are processes of their own, one of which is killed."""

import json
import operator
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import PATIENCE, copy_of_project

from flowlib import __main__
from flowlib.runtime import compiled, parallel
from flowlib.runtime.parallel import ClusterError, JobError
from flowlib.runtime.paths import ROOT
from flowlib.study import runner

NOTEBOOK = "01_contamination"


class Cluster:
    """A scheduler's address and its workers: by name, the process and the data folder, which is the worker's own."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self.workers: dict[str, subprocess.Popen] = {}

    def artifacts(self, worker: str) -> list[Path]:
        return list((self.folder / worker / "artifacts").glob("*/*.safetensors"))

    def at_work(self, worker: str) -> bool:
        """Whether a worker has finished something and is making something: a lock without its artifact."""
        locks = (self.folder / worker / "artifacts").glob("*/*.lock")
        return bool(self.artifacts(worker)) and any(not lock.with_suffix(".safetensors").exists() for lock in locks)


@contextmanager
def started(log: Path, *arguments: object, cwd: Path | None = None, **variables: object) -> Iterator[subprocess.Popen]:
    """``python ARGUMENTS`` until the block ends, killed then with all its children."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in variables.items()}
    environment.pop(parallel.DASK, None)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        runner.kill_tree(process)


def until(condition: Callable[[], bool], *logs: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "\n".join(log.read_text()[-2000:] for log in logs)
        time.sleep(0.02)


@contextmanager
def worker(
    cluster: Cluster, name: str, threads: int = 1, cwd: Path | None = None, **variables: object
) -> Iterator[subprocess.Popen]:
    """A worker with a data folder of its own, known to the scheduler when the block begins."""
    import distributed

    folder = cluster.folder / name
    folder.mkdir()
    arguments = ["-m", "dask", "worker", cluster.address, "--name", name, "--nthreads", threads, "--no-nanny"]
    arguments += ["--no-dashboard", "--memory-limit", 0, "--local-directory", folder]
    log = cluster.folder / f"{name}.log"
    with (
        started(log, *arguments, cwd=cwd or folder, FLOWLIB_DATA=folder, **variables) as process,
        distributed.Client(cluster.address, set_as_default=False) as client,
    ):

        def known() -> bool:
            return name in {found["name"] for found in client.scheduler_info(n_workers=-1)["workers"].values()}

        until(known, log)
        yield process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers, each with an empty data folder; all are gone when the tests are."""
    folder = tmp_path_factory.mktemp("cluster")
    file, log = folder / "scheduler.json", folder / "scheduler.log"
    arguments = ["--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file]
    with started(log, "-m", "dask", "scheduler", *arguments, cwd=folder), ExitStack() as stack:
        until(file.exists, log)
        until(lambda: file.read_text().endswith("}"), log)
        found = Cluster(folder, json.loads(file.read_text())["address"])
        for name in ("first", "second"):
            found.workers[name] = stack.enter_context(worker(found, name))
        yield found


def run_study(root: Path, *options: str):
    arguments = ("-m", "flowlib", "run", NOTEBOOK, "--profile", "smoke", "-p", "workers=2", *options)
    return started(root / "run.log", *arguments, cwd=root, FLOWLIB_DATA=root / "data")


def results(root: Path) -> dict[str, bytes]:
    """The tables and claims that a run wrote."""
    report = root / "reports" / "smoke"
    return {path.name: path.read_bytes() for folder in ("tables", "claims") for path in (report / folder).iterdir()}


def test_same_tables_from_processes_and_from_a_cluster_that_loses_a_worker(tmp_path: Path, cluster: Cluster):
    here, there = (copy_of_project(tmp_path / name) for name in ("here", "there"))
    victim, other = cluster.workers["first"], cluster.workers["second"]
    with run_study(here) as local, run_study(there, "--dask", cluster.address) as run:
        while True:  # frozen first, so that it is in the middle of a job for sure
            until(lambda: cluster.at_work("first") or run.poll() is not None, there / "run.log")
            assert run.poll() is None, (there / "run.log").read_text()
            victim.send_signal(signal.SIGSTOP)
            if cluster.at_work("first"):
                break
            victim.send_signal(signal.SIGCONT)
        made_before = len(cluster.artifacts("second"))
        victim.kill()
        assert victim.wait() == -signal.SIGKILL
        assert run.wait(PATIENCE) == 0, (there / "run.log").read_text()
        assert local.wait(PATIENCE) == 0, (here / "run.log").read_text()
    assert other.poll() is None
    assert len(cluster.artifacts("second")) > made_before, "it took over"
    assert not (there / "data" / "artifacts").exists(), "nothing was trained on this side"
    assert any(name.endswith(".csv") for name in results(here))
    assert results(there) == results(here)


def test_a_failed_job_is_named_with_its_traceback_and_the_rest_is_done(cluster: Cluster):
    with parallel.cluster(cluster.address) as executor:
        message = "quotients: 1 of 3 jobs failed, the first is number 1: ZeroDivisionError: division by zero"
        with pytest.raises(JobError, match=message) as error:
            parallel.run(operator.truediv, [(1, 2), (1, 0), (1, 4)], executor, "quotients")
        assert isinstance(error.value.__cause__, ZeroDivisionError)
        assert parallel.run(operator.truediv, [(1, 2), (1, 2)], executor) == [0.5, 0.5]


def test_results_can_be_written_to_and_large_jobs_pass_without_a_warning(
    cluster: Cluster, recwarn: pytest.WarningsRecorder
):
    images = np.arange(12_000_000, dtype=np.uint8)
    with parallel.cluster(cluster.address) as executor:
        (found,) = parallel.run(np.roll, [(images, 1)], executor)
    np.testing.assert_array_equal(found, np.roll(images, 1))
    found += 1
    assert [str(one.message) for one in recwarn if "large graph" in str(one.message)] == []


def test_the_address_stands_in_the_environment(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(parallel.DASK, cluster.address)
    alive = [process.pid for process in cluster.workers.values() if process.poll() is None]
    with parallel.workers() as executor:
        (pid,) = parallel.run(os.getpid, [()], executor)
        assert executor.room() == 2 + len(alive)  # type: ignore[attr-defined]
    assert pid in alive


def test_a_worker_of_several_threads_is_refused(cluster: Cluster):
    with (
        worker(cluster, "threaded", threads=2),
        pytest.raises(ClusterError, match=r"worker tcp://\S+ runs 2 jobs at once: start it with --nthreads 1"),
        parallel.cluster(cluster.address),
    ):
        pass


@pytest.mark.skipif(compiled.library("kernels/steps.cpp") is None, reason="no C++ compiler")
def test_a_worker_without_a_compiler_is_refused(cluster: Cluster, tmp_path: Path):
    with (
        worker(cluster, "plain", cwd=ROOT, CXX="/no/compiler", XDG_CACHE_HOME=tmp_path),
        pytest.raises(ClusterError, match=r"without a compiler, this process .* compiled: give"),
        parallel.cluster(cluster.address),
    ):
        pass


def test_a_worker_of_other_code_is_refused(cluster: Cluster, tmp_path: Path):
    shutil.copytree(ROOT / "flowlib", tmp_path / "flowlib", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "flowlib" / "glow.py").open("a") as file:
        file.write("# changed\n")
    with (
        worker(cluster, "changed", cwd=tmp_path, PYTHONPATH=tmp_path),
        pytest.raises(ClusterError, match=r"flowlib \w{8} \w+, this process .* flowlib \w{8} \w+: give"),
        parallel.cluster(cluster.address),
    ):
        pass


def test_a_worker_without_flowlib_is_refused(cluster: Cluster, tmp_path: Path):
    (tmp_path / "flowlib").mkdir()
    (tmp_path / "flowlib" / "__init__.py").write_text("raise ImportError('none here')")
    with (
        worker(cluster, "bare", cwd=tmp_path, PYTHONPATH=tmp_path),
        pytest.raises(ClusterError, match=r"cannot take part \(.*none here.*\): give it this environment"),
        parallel.cluster(cluster.address),
    ):
        pass


def test_no_scheduler_is_one_line_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for function in ("start", "run"):
        monkeypatch.setattr(runner, function, lambda *_: pytest.fail("started"))
    assert parallel.CONNECT_SECONDS <= 8
    monkeypatch.setattr(parallel, "CONNECT_SECONDS", 0.5)
    with socket.socket() as silent:  # accepts, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(sys, "argv", ["flowlib", "run", NOTEBOOK, "--profile", "smoke", "--dask", address])
        with pytest.raises(SystemExit) as end:
            __main__.main()
    assert end.value.code == 2
    told = capsys.readouterr()
    assert told.out == "", "not even the data"
    (line,) = told.err.splitlines()
    assert line.startswith(f"flowlib: no Dask scheduler answered at {address} within 0.5 s (TimeoutError): start one")
    assert parallel.DASK not in os.environ


def test_addresses_that_are_none_and_a_worker_s_are_refused(cluster: Cluster):
    with parallel.cluster(cluster.address) as executor:
        of_worker, *_ = executor._client.run(lambda dask_worker: dask_worker.address).values()
    for address, reason in (
        ("somewhere", "missing port number"),
        ("http://a:1", "unknown address scheme"),
        (of_worker, "it is a worker"),
    ):
        with pytest.raises(ClusterError, match=reason), parallel.cluster(address):
            pass


def test_without_distributed_the_mend_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"takes distributed .*: pip install -e '\.\[dask\]'"), parallel.cluster("x"):
        pass
