"""Many jobs at once through a `concurrent.futures.Executor`.

`workers` gives it: processes on this machine, one a core with one thread each (measured fastest), or the workers of a
Dask cluster. Jobs that read or write files belong on this machine, with `processes`.
"""

import asyncio
import hashlib
import multiprocessing
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from contextlib import contextmanager, suppress
from importlib.metadata import version
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

from tqdm.auto import tqdm

from flowlib.runtime.paths import PACKAGE, sources

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
DASK = "FLOWLIB_DASK"  # environment variable: the address of a Dask scheduler
CONNECT_SECONDS = 8


def loaded() -> str:
    """What numbers hang on: versions, and the first digits of the SHA-256 of flowlib's source files."""
    files = ((path.relative_to(PACKAGE).as_posix(), path.read_bytes()) for path in sources())
    source = hashlib.sha256(b"\0".join(name.encode() + content for name, content in files)).hexdigest()
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch"))
    return f"Python {platform.python_version()}, {packages}, flowlib {source[:8]}"


LOADED = loaded()  # when this process began, which is what it runs: files may change under it


class JobError(RuntimeError):
    """Jobs failed: the message says how many and how the first did; its cause is that error, with its traceback."""


class ClusterError(RuntimeError):
    """The Dask cluster cannot be used; the message says why and what to do."""


@contextmanager
def workers(number: int = 0) -> Iterator[Executor]:
    """The Dask cluster whose scheduler's address stands in ``FLOWLIB_DASK``, else `processes` here, that many."""
    address = os.environ.get(DASK)
    with cluster(address) if address else processes(number) as executor:
        yield executor


@contextmanager
def processes(number: int = 0) -> Iterator[Executor]:
    """Processes on this machine, started afresh (spawn) with one thread each; 0 means one a core.

    They do not run the caller's script again, so that it needs no ``if __name__ == "__main__"``: jobs are functions
    that can be imported.
    """
    previous = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # read by the children before they import torch
    pool = ProcessPoolExecutor(number or cores(), mp_context=_Spawning(), initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Process(SpawnProcess):
    def start(self) -> None:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")  # of no file, so that the child has none to run
        try:
            super().start()
        finally:
            sys.modules["__main__"] = main


class _Spawning(SpawnContext):
    Process = _Process


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """The workers of the Dask cluster whose scheduler is at `address`, such as ``tcp://10.0.0.1:8786``.

    The jobs of a worker that dies run again on another; a job during which four workers died is given up.

    Raises ClusterError when `distributed` is not installed, no scheduler answers, or a worker would give other numbers:
    it has other versions or other code than this process, or runs several jobs at once, which share a random state.
    """
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise ClusterError(f"a Dask cluster takes distributed ({error}): pip install -e '.[dask]'") from None
    with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has a running event loop
        failure = thread.submit(asyncio.run, _knock(address)).exception()
    if failure is not None:  # asked first: a Client that finds none takes a while to be rid of, and complains
        raise ClusterError(
            f"no Dask scheduler answered at {address} within {CONNECT_SECONDS} s ({_line(failure)}): "
            f"start one with `dask scheduler`, or leave out --dask and {DASK}"
        )
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):  # jobs bring their images
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        executor = client.get_executor(pure=False)  # equal jobs are jobs of their own
        executor.room = lambda: 2 + sum(client.nthreads().values())
        try:
            _check(_joined(client), address)
            yield executor
        finally:
            executor.shutdown(wait=False)  # what is still open is cancelled
            client.close()


def run(function: Callable[..., Any], jobs: Iterable[tuple], executor: Executor, label: str = "jobs") -> list[Any]:
    """``[function(*job) for job in jobs]`` through `executor`, with a progress bar where someone looks on.

    An executor with a function ``room`` has at most so many open jobs: a Dask scheduler keeps those it is given, with
    their images, in memory. When jobs fail the others are finished first; then one JobError tells how many failed, with
    the first's cause.
    """
    jobs = list(jobs)
    room = getattr(executor, "room", lambda: len(jobs))
    futures: list[Future] = []
    unfinished: set[Future] = set()
    with tqdm(total=len(jobs), desc=label, unit="job", disable=not watched()) as bar:
        for job in jobs:
            while len(unfinished) >= max(1, room()):
                done, unfinished = wait(unfinished, return_when=FIRST_COMPLETED)
                bar.update(len(done))
            futures.append(executor.submit(function, *job))
            unfinished.add(futures[-1])
        for _ in as_completed(unfinished):
            bar.update()
    errors = [(number, error) for number, future in enumerate(futures) if (error := _failure(future))]
    if errors:
        number, first = errors[0]
        count = f"{len(errors)} of {len(futures)} jobs failed, the first is number {number}"
        raise JobError(f"{label}: {count}: {_line(first)}") from first
    return [future.result() for future in futures]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def _knock(address: str) -> None:
    """An error of any kind unless a Dask scheduler answers at `address` in time."""
    from distributed import Security, rpc

    async with rpc(address, connection_args=Security().get_connection_args("client")) as server:
        answer = await asyncio.wait_for(server.identity(), CONNECT_SECONDS)
    if answer["type"] != "Scheduler":
        raise ValueError(f"it is a {answer['type'].lower()}")


def _failure(future: Future) -> BaseException | None:
    return (
        CancelledError("given up by its executor, whose cluster may be gone")
        if future.cancelled()
        else future.exception()
    )


def _line(error: BaseException) -> str:
    """An error's type and message on one line."""
    return " ".join([f"{type(error).__name__}:", *str(error).split()]).removesuffix(":")


def watched() -> bool:
    """Whether someone sees a bar: in a terminal, or in a notebook whose frontend takes input, as papermill does not."""
    if sys.stderr.isatty():
        return True
    with suppress(KeyError, AttributeError):
        return bool(sys.modules["IPython"].get_ipython().kernel.get_parent()["content"]["allow_stdin"])
    return False


# --- on a worker -----------------------------------------------------------------------------------------------------


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


def _join(dask_worker: Any) -> tuple[str, int]:
    """In each worker of a cluster: one thread for torch; what it computes with, and how many jobs it runs at once."""
    import torch

    torch.set_num_threads(1)
    return _computes_with(), dask_worker.state.nthreads


def _computes_with() -> str:
    from flowlib.runtime import compiled

    return f"{LOADED} {'compiled' if compiled.library('kernels/steps.cpp') else 'without a compiler'}"


def _joined(client: Any) -> dict[str, Any]:
    """What each worker of a client's cluster answers to `_join`: an error, too."""
    try:
        return client.run(_join, on_error="return")
    except OSError as error:
        raise ClusterError(f"the Dask scheduler was lost ({_line(error)}): start it again, and its workers") from None


def _check(found: dict[str, Any], address: str) -> None:
    """ClusterError for a worker that does not fit, by what it answered to `_join`, and a line where there is none."""
    if not found:
        mend = f"`dask worker {address} --nthreads 1 --nworkers N`"
        print(f"{address} has no worker, jobs wait for one: start it with {mend}", file=sys.stderr)
    for worker, answer in found.items():
        match answer:
            case OSError():  # it is ending; its jobs go to others
                continue
            case Exception():
                raise ClusterError(f"worker {worker} cannot take part ({_line(answer)}): give it this environment")
            case (code, _) if code != (here := _computes_with()):
                mend = "give it this checkout and environment, and restart it"
                raise ClusterError(f"worker {worker} has {code}, this process {here}: {mend}")
            case (_, threads) if threads != 1:
                raise ClusterError(f"worker {worker} runs {threads} jobs at once: start it with --nthreads 1")
