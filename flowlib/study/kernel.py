"""The kernel of a notebook that the runner executes: IPython's, with nothing of what a user or a machine configured.

Configuration (``ipython_config.py``, ``ipython_kernel_config.py``) and startup files (``profile_default/startup``,
``PYTHONSTARTUP``) could put names into a notebook, seed a generator or change how things are shown.
"""

from ipykernel.kernelapp import IPKernelApp


class Kernel(IPKernelApp):
    """IPython's kernel, as it comes."""

    def load_config_file(self, *_, **__) -> None:
        """Read no configuration, of the user, the environment or the machine."""

    def _run_startup_files(self) -> None:
        """Run no startup file."""


if __name__ == "__main__":
    Kernel.launch_instance()
