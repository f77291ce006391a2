"""Jobs come back in order, failures are named, and no worker outlives its parent."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from conftest import PATIENCE
from jupyter_client.manager import start_new_kernel

from flowlib import __main__
from flowlib.inspection.media import MediaError
from flowlib.runtime import parallel
from flowlib.runtime.parallel import JobError


def slow_square(x: int) -> int:
    time.sleep(0.02 * (5 - x))
    return x * x


def environment(_: int) -> tuple[int, list[str | None], int]:
    time.sleep(0.2)  # so that every worker gets one
    return os.getpid(), [os.environ.get(name) for name in parallel.THREAD_VARIABLES], torch.get_num_threads()


def reciprocal(x: int) -> float:
    return 1 / x


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "7")
        patch.delenv("MKL_NUM_THREADS", raising=False)
        with parallel.processes(2) as executor:
            executor.submit(abs, -1).result()
            assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
            yield executor
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert "MKL_NUM_THREADS" not in os.environ


def test_workers_are_processes_of_one_thread(pool: Executor):
    found = parallel.run(environment, [(number,) for number in range(4)], pool)
    assert os.getpid() not in {pid for pid, *_ in found}
    assert len({pid for pid, *_ in found}) <= 2
    for _, variables, threads in found:
        assert variables == ["1", "1", "1"]
        assert threads == 1


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_results_keep_the_order_of_the_jobs(kind: str, pool: Executor):
    jobs = [(number,) for number in range(5)]
    if kind == "processes":
        assert parallel.run(slow_square, jobs, pool) == [0, 1, 4, 9, 16]
    else:
        with ThreadPoolExecutor(5) as threads:
            assert parallel.run(slow_square, jobs, threads) == [0, 1, 4, 9, 16]


def test_no_jobs(pool: Executor):
    assert parallel.run(slow_square, [], pool) == []


def test_the_others_finish_when_one_fails_and_it_is_named():
    done = []

    def job(x: int, divisor: int) -> None:
        time.sleep(0.02 * x)
        done.append(x / divisor)

    jobs = [(1, 1), (2, 0), (3, 1), (0, 0), (4, 2)]
    with ThreadPoolExecutor(2) as threads, pytest.raises(JobError) as error:
        parallel.run(job, jobs, threads, "divisions")
    message = "divisions: 2 of 5 jobs failed, the first is number 1: ZeroDivisionError: division by zero"
    assert str(error.value) == message
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert sorted(done) == [1, 2, 3]


def test_failure_in_a_process_is_named_with_its_traceback_and_the_pool_goes_on(pool: Executor):
    with pytest.raises(JobError, match="jobs: 1 of 2 jobs failed, the first is number 1: ZeroDivision") as error:
        parallel.run(reciprocal, [(2,), (0,)], pool)
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert "in reciprocal\n    return 1 / x" in "".join(traceback.format_exception(error.value))
    assert parallel.run(reciprocal, [(2,)], pool) == [0.5]


def test_jobs_given_up_by_the_executor_are_failures():
    class GivesUp(Executor):
        def submit(self, function, /, *args, **kwargs):
            future: Future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    with pytest.raises(JobError, match="1 of 1 jobs failed, the first is number 0: CancelledError"):
        parallel.run(reciprocal, [(2,)], GivesUp())


def test_an_executor_with_little_room_has_few_open_jobs():
    futures: list[Future] = []
    counts = []

    class Counts(ThreadPoolExecutor):
        def room(self) -> int:
            return 3

        def submit(self, function, /, *args, **kwargs):
            futures.append(super().submit(function, *args, **kwargs))
            counts.append(sum(not future.done() for future in futures))
            return futures[-1]

    with Counts(5) as executor:
        assert parallel.run(slow_square, [(number,) for number in range(5)], executor) == [0, 1, 4, 9, 16]
    assert max(counts) == 3


def damaged(path: str) -> None:
    raise MediaError(f"{path} is cut off:\nrestore it")


def test_on_the_command_line_an_error_of_ours_in_a_worker_is_one_line(
    pool: Executor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(__main__, "app", lambda: parallel.run(damaged, [("a.mp4",), ("b.mp4",)], pool, "videos"))
    with pytest.raises(SystemExit) as end:
        __main__.main()
    assert end.value.code == 2
    first = "MediaError: a.mp4 is cut off: restore it"
    assert capsys.readouterr().err == f"flowlib: videos: 2 of 2 jobs failed, the first is number 0: {first}\n"
    monkeypatch.setattr(__main__, "app", lambda: parallel.run(reciprocal, [(0,)], pool))
    with pytest.raises(JobError):  # not ours: its traceback is of use
        __main__.main()


def test_processes_are_the_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(parallel.DASK, raising=False)
    with parallel.workers(1) as executor:
        assert isinstance(executor, ProcessPoolExecutor)
        assert executor._max_workers == 1  # type: ignore[attr-defined]


def test_no_bar_where_nobody_looks_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    with ThreadPoolExecutor(1) as threads:
        parallel.run(reciprocal, [(2,)], threads, "quiet")
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        parallel.run(reciprocal, [(2,)], threads, "seen")
        assert "seen: 100%" in capsys.readouterr().err


def test_a_bar_in_a_live_notebook_and_none_in_a_report():
    code = """
from concurrent.futures import ThreadPoolExecutor
from flowlib.runtime import parallel
with ThreadPoolExecutor(1) as threads:
    parallel.run(abs, [(-1,)], threads, "labelled")"""
    seen: list[str] = []
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        for takes_input in (False, True):  # as papermill asks a kernel, and as JupyterLab does
            seen.clear()
            reply = client.execute_interactive(
                code,
                allow_stdin=takes_input,
                stdin_hook=lambda _: None,
                timeout=PATIENCE,
                output_hook=lambda message: seen.append(message["msg_type"]),
            )
            assert reply["content"]["status"] == "ok"
            assert ("display_data" in seen) == takes_input
            assert "stream" not in seen
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


PARENT = """
import sys, time
from flowlib.runtime import parallel
if __name__ == "__main__":
    with parallel.processes(2) as pool:
        jobs = [pool.submit(time.sleep, seconds) for seconds in (0, 600, 600)]
        jobs[0].result()
        print("working", flush=True)
        time.sleep(600)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    children: list[psutil.Process] = []
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "working\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len([child for child in children if "spawn_main" in " ".join(child.cmdline())]) == 2
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        _, alive = psutil.wait_procs(children, timeout=PATIENCE)
        assert alive == []
    finally:
        parent.kill()
        parent.communicate()
        for child in children:
            if child.is_running():
                child.kill()


@pytest.mark.parametrize("piped", [False, True])
def test_a_script_needs_no_guard(tmp_path: Path, piped: bool) -> None:
    """Processes do not run it again; neither is one missed that has no file, or has it no more."""
    script = tmp_path / "script.py"
    script.write_text(
        "import math, os\nfrom flowlib.runtime import parallel\n"
        f"{'' if piped else f'os.unlink({str(script)!r})'}\n"
        "with parallel.processes(1) as pool:\n    print(parallel.run(math.sqrt, [(4,)], pool))\n"
    )
    command = [sys.executable, "-" if piped else str(script)]
    run = subprocess.run(command, input=script.read_text(), capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "[2.0]\n", "")
