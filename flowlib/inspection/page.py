"""One page to work through what was scored: the worst first, evidence under its map, marks that can be saved.

``index.html`` needs nothing but what lies beside it: no network, no server, and for reading not even JavaScript.
Pictures are loaded as they come into view, and what is out of view is not laid out: thousands do not stall it.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd

from flowlib.inspection.decisions import ORDER
from flowlib.inspection.tracks import EVIDENCE, evidence, lasting
from flowlib.runtime.files import write_text

THUMBNAIL = 320  # pixels of its longer side
NAMES = {"flag": "flag", "look": "look", "pass": "pass", "unread": "not read", "unjudged": "no verdict"}
MARKS = ("confirmed", "false alarm", "unsure")
WIDTH, HEIGHT = 600, 78  # of a track, less the line of its times
KEYS = (
    ("j  k", "next one, the one before"),
    ("o", "full picture, and back (Esc)"),
    ("← →  ↑ ↓", "in the full picture: next picture, next one"),
    ("m", "map on and off"),
    ("1  2  3", "mark: confirmed, false alarm, unsure; again, or 0: no mark"),
    ("n", "note (Enter to leave it)"),
    ("?", "these keys"),
)


def write_page(
    out: Path, scores: pd.DataFrame, decisions: pd.DataFrame, facts: Mapping[str, Any], made: datetime | None = None
) -> Path:
    """Write ``index.html`` and return its path.

    Arguments
    ---------
    out: the folder that holds the pictures.
    scores: a row an image or scored frame: file, score, x0, y0, x1, y1, frame, seconds, overlay (path in `out`), width
        and height of the picture, status.
    decisions: a row a file, in the order to show (`flowlib.inspection.decisions.decide`).
    facts: source (a path), lines (pairs of a name and what is said of it) and warnings (what cannot be promised).
    made: when; now by default.
    """
    made = made or datetime.now(UTC)
    of_file = dict(list(scores[scores["status"] == "ok"].groupby("file", sort=False)))
    cards = [card(row, of_file.get(row["file"])) for row in decisions.to_dict("records")]
    states = decisions["state"].value_counts()
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here), autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template("page.html").render(
        facts={**facts, "made": made.isoformat(timespec="seconds")},
        page_id=hashlib.sha256(str(facts["source"]).encode()).hexdigest()[:16],
        counts={state: int(states[state]) for state in ORDER if state in states},
        sections=[("Videos", [c for c in cards if c["kind"] == "video"]),
                  ("Images", [c for c in cards if c["kind"] == "image"])],
        folders=sorted({c["folder"] for c in cards}),
        labels=sorted({c["label"] for c in cards}),
        names=NAMES,
        marks=MARKS,
        keys=KEYS,
        css=(here / "page.css").read_text(encoding="utf-8"),
        js=(here / "page.js").read_text(encoding="utf-8"),
    )  # fmt: skip
    write_text(out / "index.html", text)
    return out / "index.html"


def card(row: Mapping[str, Any], rows: pd.DataFrame | None) -> dict[str, Any]:
    """What the page says of a file, from its row of decisions and those of its scored frames."""
    folder = PurePosixPath(row["file"]).parent.as_posix()
    shown = {name: row[name] for name in ("file", "kind", "label", "state", "message")}
    shown |= {"folder": "" if folder == "." else folder, "score": "", "said": "", "evidence": [], "track": None}
    if rows is None:
        return shown
    shown["score"] = f"{row['score']:.6g}"
    shown["said"] = said(row)
    scores = rows["score"].to_numpy(dtype=float)
    if row["kind"] == "image":
        return shown | {"evidence": [shot(rows.iloc[0], row) | {"rank": 1}]}
    speaks = np.minimum(scores, lasting(scores))
    frames = [i for n, i in enumerate(evidence(scores)) if n < EVIDENCE[0] or speaks[i] > row["look"]]
    shown["evidence"] = [shot(rows.iloc[i], row) | {"rank": n} for n, i in enumerate(frames, 1)]
    return shown | {"track": track(rows, scores, frames, row)}


def said(row: Mapping[str, Any]) -> str:
    text = f"score {row['score']:.3g}"
    if pd.notna(row["p"]):
        text += f"; of good {row['kind']}s at most {100 * row['p']:.3g} % score as high"
    return text


def shot(frame: pd.Series, row: Mapping[str, Any]) -> dict[str, Any]:
    """A picture of the page: its files, its size as a thumbnail, and its box in per cent of it."""
    width, height = int(frame["width"]), int(frame["height"])
    factor = THUMBNAIL / max(width, height)
    x0, x1 = (100 * float(frame[side]) / width for side in ("x0", "x1"))
    y0, y1 = (100 * float(frame[side]) / height for side in ("y0", "y1"))
    thumbnail, plain = small_paths(str(frame["overlay"]))
    when = f"{float(frame['seconds']):.2f} s, frame {int(frame['frame'])}" if pd.notna(frame["frame"]) else ""
    return {
        "full": quote(str(frame["overlay"])),
        "thumbnail": quote(thumbnail),
        "plain": quote(plain),
        "width": max(1, round(factor * width)),
        "height": max(1, round(factor * height)),
        "box": f"left:{x0:.2f}%;top:{y0:.2f}%;width:{x1 - x0:.2f}%;height:{y1 - y0:.2f}%",
        "above": bool(frame["anomalous"]),
        "when": when,
        "score": f"{float(frame['score']):.3g}",
        "alt": f"Under its map, the worst region boxed: {row['file']}{', ' if when else ''}{when}",
    }


def small_paths(overlay: str) -> tuple[str, str]:
    """Of an overlay's path in the folder: those of its thumbnail, and of the picture without the map."""
    name = overlay.removeprefix("overlays/").removesuffix(".png")
    return f"thumbnails/{name}.jpg", f"plain/{name}.jpg"


def track(rows: pd.DataFrame, scores: np.ndarray, frames: list[int], row: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a video over time as lines in a box of `WIDTH` by `HEIGHT`: of each frame, and what stays."""
    seconds = rows["seconds"].to_numpy(dtype=float)
    limits = {name: row[name] for name in ("flag", "look") if pd.notna(row[name])}
    stays = lasting(scores)
    low = min(float(scores.min()), *limits.values()) if limits else float(scores.min())
    top = max(row["score"], *limits.values()) if limits else row["score"]
    high = min(float(scores.max()), top + 0.6 * (top - low))  # a flicker may leave the picture
    high = max(high, top + 0.15 * (top - low), low + 1e-9)
    x = (seconds - seconds[0]) / max(seconds[-1] - seconds[0], 1e-9) * WIDTH

    def y(values: Any) -> np.ndarray:
        return np.clip(HEIGHT - (np.asarray(values) - low) / (high - low) * (HEIGHT - 8), 2, HEIGHT)

    def line(values: np.ndarray) -> str:
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y(values), strict=True))

    best = int(frames[0])
    return {
        "line": line(scores),
        "lasts": line(stays),
        "limits": [
            {"name": name, "y": f"{y(at):.1f}", "text": f"{y(at) + (-3 if name == 'flag' else 10):.1f}"}
            for name, at in limits.items()
        ],
        "dots": [
            {"x": f"{x[i]:.1f}", "y": f"{y(scores[i]):.1f}", "rank": n, "when": f"{seconds[i]:.2f} s: {scores[i]:.3g}"}
            for n, i in enumerate(frames, 1)
        ],
        "begin": f"{seconds[0]:.1f} s",
        "end": f"{seconds[-1]:.1f} s",
        "said": f"Score of {len(rows)} frames over {seconds[-1] - seconds[0]:.1f} s; what stays reaches "
        f"{row['score']:.3g}, strongest at {seconds[best]:.2f} s",
    }  # fmt: skip
