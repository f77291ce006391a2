"""A scored folder as `score` writes it, made up: tables, pictures, thumbnails, without any detector."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from flowlib.inspection.decisions import decide
from flowlib.inspection.page import small_paths, write_page

ODD = 'odd names/a & <b>\'s "video" #1 50%?.mp4'
FACTS = {
    "source": "/data/engines <b>2024</b>",
    "lines": [("detector", "detectors/blades, map 'features'"), ("videos", "at most 0.05 of good videos are flagged")],
    "warnings": ["19 good videos would do for 0.05; there were 4 <i>"],
}


def picture(path: Path, seed: int, size: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> None:
    """A brushed plate, with a glowing spot where a box says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    rng = np.random.default_rng(seed)
    grey = 110 + 40 * np.sin(np.arange(width) / 40 + seed) + rng.normal(0, 9, (height, 1))
    image = Image.fromarray(np.clip(np.broadcast_to(grey, (height, width)), 0, 255).astype(np.uint8)).convert("RGB")
    if box:
        ImageDraw.Draw(image).ellipse(box, fill="#f98e09", outline="#fcffa4", width=3)
    image.save(path, quality=80)


def results(out: Path, videos: dict[str, str], images: dict[str, str], frames: int = 30, pictures: bool = True) -> Path:
    """Write a page of videos and images; what is asked of each is "flag", "look", "pass" or "unread"."""
    rows = []
    rng = np.random.default_rng(0)
    for number, (file, state) in enumerate((videos | images).items()):
        blank = {"file": file, "label": file.split("/")[0] if "/" in file else "", "overlay": "", "message": ""}
        if state == "unread":
            rows.append(blank | {"status": "refused", "message": f"{file} is empty (0 bytes): copy or record it again"})
            continue
        is_video = file in videos
        size = (640, 480) if number % 2 else (480, 640)
        scores = rng.normal(0, 0.15, frames if is_video else 1)
        if state != "pass":
            scores[len(scores) // 3 : len(scores) // 3 + 7] += {"flag": 9, "look": 4.7}[state]
        scores[-3 if is_video else 0] += 15 if is_video else 0  # a flicker
        for i, score in enumerate(scores):
            name = file.removesuffix(".mp4").removesuffix(".png") + (f"_f{i:06}" if is_video else "")
            box = (200, 150, 290, 230)
            row = blank | {"status": "ok", "score": score, "threshold": 6.0, "anomalous": score > 6}
            row |= dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)) | {"width": size[0], "height": size[1]}
            row |= {"overlay": f"overlays/{name}.png"} | ({"frame": i, "seconds": i / 10} if is_video else {})
            rows.append(row)
            if pictures:
                marked = box if score > 3 else None
                picture(out / row["overlay"], number, size, marked)
                thumbnail, plain = small_paths(row["overlay"])
                picture(out / plain, number, size)
                with Image.open(out / row["overlay"]) as large:
                    large.thumbnail((320, 320))
                    (out / thumbnail).parent.mkdir(parents=True, exist_ok=True)
                    large.save(out / thumbnail)
    table = pd.DataFrame(rows, columns=list(dict.fromkeys([*blank, "frame", "score", *(n for r in rows for n in r)])))
    good = np.linspace(-3, 6, 39)
    good[-8:] = np.linspace(3, 6, 8)
    return write_page(out, table, decide(table, good, good, 0.05), FACTS)
