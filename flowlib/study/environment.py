"""The environment variables of the notebooks' kernels: what would change a result is set, and the rest is recorded.

Kernels read no configuration of IPython and run no startup file (`flowlib.study.kernel`), and figures take nothing from
a matplotlibrc (`flowlib.figures.style`).
"""

import os
import re

# One thread a process, set before a kernel imports torch: threads that spin on shared cores cost more than they give.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
SET = dict.fromkeys(THREADS, "1") | {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # as in JupyterLab
    "PYTHONUTF8": "1",  # files are read and written alike in every locale
    "JUPYTER_DEFAULT_PROVISIONER_NAME": "local-provisioner",  # kernels run on this machine
}
LEFT_OUT = ("PYTHONOPTIMIZE",)  # it drops assertions
# Processors, libraries and code that someone chose: theirs to choose, and for a reader to know.
RECORDED = re.compile(
    r"(ATEN|BLIS|CUBLAS|CUDA|CUDNN|DNNL|GOMP|KMP|MKL|NPY|NVIDIA|OMP|ONEDNN|OPENBLAS|PYTORCH|TORCH\w*?)_\w+"
    r"|CXX|FLOWLIB_DASK|LD_LIBRARY_PATH|LD_PRELOAD|PYTHONPATH"
)


def of_kernels() -> dict[str, str]:
    """All environment variables that a kernel is given."""
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT} | SET


def recorded() -> dict[str, str]:
    """Those for a run's manifest, which may change a result: what is set here, and what was found."""
    return {name: value for name, value in sorted(of_kernels().items()) if name in SET or RECORDED.fullmatch(name)}


def chosen(variables: dict[str, str]) -> list[str]:
    """Names of recorded variables that are not set here."""
    return [name for name in variables if name not in SET]
