"""One thread: set before torch is imported, because threads that spin on shared cores cost more than they give."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
