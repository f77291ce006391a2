"""Execute one notebook: papermill, in a process of its own that ends with the runner, and a kernel of this very Python.

``python -m flowlib.study.execution SOURCE TARGET PARAMETERS``, the parameters in JSON. The runner holds the other end
of the standard input and writes nothing there: when that closes, this process ends, and its kernel with it.
"""

import json
import os
import sys
import threading

import papermill
import psutil
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from traitlets import default


class ThisPython(KernelSpecManager):
    """Under every name the kernel of this interpreter: one that is installed as ``python3`` may be another Python's."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The kernel of this interpreter."""
        argv = [sys.executable, "-m", "flowlib.study.kernel", "-f", "{connection_file}"]
        return KernelSpec(name=kernel_name, argv=argv, display_name="Python 3", language="python")


class Kernels(AsyncKernelManager):
    """Kernels of this interpreter; made by nbclient, which then shuts down what it made."""

    @default("kernel_spec_manager")
    def of_this_python(self) -> KernelSpecManager:
        return ThisPython()


def execute(source: str, target: str, parameters: dict[str, object]) -> None:
    """Execute a notebook into `target`, which is written cell by cell. Raises papermill's error at a cell's first."""
    try:
        papermill.execute_notebook(
            source,
            target,
            parameters,
            kernel_name="python3",
            language="python",
            kernel_manager_class=Kernels,
        )
    except PapermillExecutionError as error:
        error.traceback = error.traceback or [f"{error.ename}: {error.evalue}"]  # a busy kernel may send none
        raise


def end_with_runner() -> None:
    """Wait for the end of standard input, then end this process and all that it started."""
    os.read(0, 1)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_runner, daemon=True).start()
    execute(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
