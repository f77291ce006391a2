"""Work in a thread of its own, that the next change ends."""

import threading
from collections.abc import Callable

import torch

Tick = Callable[[int, int, str], None]  # told of every small piece: done, of how many, what; it may raise Cancelled


class Background:
    """One thread at a time; a new start ends the work before it at its next small piece."""

    def __init__(self, work: Callable[[Tick], None], changed: Callable[[], None]) -> None:
        self.work, self.changed = work, changed
        self.thread: threading.Thread | None = None
        self.stop = threading.Event()
        self.progress: tuple[int, int, str] | None = None
        self.error = ""

    def start(self) -> None:
        self.stop.set()
        self.stop = threading.Event()
        self.progress, self.error = (0, 1, ""), ""
        self.thread = threading.Thread(target=self._run, args=(self.thread, self.stop), daemon=True)
        self.thread.start()

    def wait(self, seconds: float | None = None) -> None:
        if self.thread is not None:
            self.thread.join(seconds)

    def _run(self, before: threading.Thread | None, stop: threading.Event) -> None:
        if before is not None:
            before.join()
        torch.set_num_threads(1)  # of this thread: more are slower on shared cores

        def tick(done: int, total: int, what: str) -> None:
            if stop.is_set():
                raise Cancelled
            self.progress = done, total, what
            self.changed()

        told = ""
        try:
            self.work(tick)
        except Cancelled:
            return
        except Exception as error:  # shown, not lost with the thread
            told = " ".join(str(error).split()) or type(error).__name__
        if not stop.is_set():
            self.progress, self.error = None, told
            self.changed()


class Cancelled(Exception):
    """A newer change asks for other work."""
