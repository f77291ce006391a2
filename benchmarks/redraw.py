"""How long does the explorer take to draw anew what it has computed? Promised: a threshold within 100 ms.

    python benchmarks/redraw.py

Untrained models on noise of the size of a simulated frame; moves threshold, opacity and colours, 60 steps each, and
prints the median and the slowest redraw of the kernel's side, in milliseconds, and the machine's load.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from flowlib.explorer.borescope_tab import OPACITIES, BorescopeTab
from flowlib.explorer.models import flow_method
from flowlib.explorer.pictures import Picture
from flowlib.explorer.state import Explorer
from flowlib.glow import Glow

SIZE, STEPS, PROMISED = (288, 384), 60, 100  # pixels; moves; milliseconds


def picture(number: int, label: str | None = None) -> Picture:
    image = np.random.default_rng(number).integers(0, 256, (1, *SIZE), dtype=np.uint8)
    return Picture(f"picture {number}", image, label, None, 0)


def main() -> None:
    torch.manual_seed(0)
    flow = Glow((1, 32, 32), levels=2, steps=2, hidden_channels=8)
    flow.initialise(torch.from_numpy(np.stack([picture(n).image[:, :32, :32] for n in range(8)])))
    looked_at = [picture(100, "good"), picture(101, "dent"), picture(102)]
    explorer = Explorer({"Glow": flow_method(flow.eval())}, [picture(n) for n in range(9)], looked_at)
    with tempfile.TemporaryDirectory() as folder:
        tab = BorescopeTab(explorer, Path(folder))
        explorer.background.wait()
        tab.redraw()
        moves = {
            "threshold": range(STEPS),
            "opacity": [step % len(OPACITIES) for step in range(STEPS)],
            "colours": [(0, 1 + step) for step in range(STEPS)],
        }
        rows = []
        for name, places in moves.items():
            tab.milliseconds.clear()
            for place in places:
                getattr(tab, name).index = place
            taken = np.array(tab.milliseconds)
            rows.append(
                {"moved": name, "redraws": len(taken), "median ms": np.median(taken), "slowest ms": taken.max()}
            )
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.1f"))
    load = f"{os.getloadavg()[0]:.1f} processes at work on {os.cpu_count()} cores"
    print(f"{'kept' if (table['median ms'] < PROMISED).all() else 'BROKEN'}: {PROMISED} ms promised; {load}")


if __name__ == "__main__":
    main()
