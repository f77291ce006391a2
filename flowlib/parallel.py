"""Many jobs at once through a `concurrent.futures.Executor`: one process a core, one thread each (measured fastest)."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def processes(workers: int = 0) -> Iterator[Executor]:
    """Processes on this machine, started afresh (spawn) with one thread each; ``workers`` 0 means one a core."""
    previous = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # read by the children before they import torch
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers or cores(), mp_context=context, initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run(function: Callable[..., Any], jobs: Iterable[tuple], executor: Executor, label: str = "jobs") -> list[Any]:
    """``[function(*job) for job in jobs]`` through `executor`, with a progress bar.

    When jobs fail the others are finished first; then one RuntimeError tells how many failed, with the first's cause.
    """
    futures = [executor.submit(function, *job) for job in jobs]
    for _ in tqdm(as_completed(futures), total=len(futures), desc=label, unit="job"):
        pass
    errors = [(number, error) for number, future in enumerate(futures) if (error := future.exception())]
    if errors:
        number, first = errors[0]
        raise RuntimeError(
            f"{label}: {len(errors)} of {len(futures)} jobs failed, the first is number {number}"
        ) from first
    return [future.result() for future in futures]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    """In each new process: one thread, and an end with the parent's, however that comes."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
