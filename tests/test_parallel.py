"""Jobs come back in order, failures are named, and no worker outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import psutil
import pytest
import torch

from flowlib import parallel


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
    with ThreadPoolExecutor(2) as threads, pytest.raises(RuntimeError) as error:
        parallel.run(job, jobs, threads, "divisions")
    assert str(error.value) == "divisions: 2 of 5 jobs failed, the first is number 1"
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert sorted(done) == [1, 2, 3]


def test_failure_in_a_process_is_named_and_the_pool_goes_on(pool: Executor):
    with pytest.raises(RuntimeError, match="jobs: 1 of 2 jobs failed, the first is number 1") as error:
        parallel.run(reciprocal, [(2,), (0,)], pool)
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert parallel.run(reciprocal, [(2,)], pool) == [0.5]


PARENT = """
import sys, time
from flowlib import parallel
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
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []
    finally:
        parent.kill()
        parent.communicate()
        for child in children:
            if child.is_running():
                child.kill()
