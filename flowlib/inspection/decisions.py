"""From scores.csv to decisions.csv: a row a file, with one of three answers, and how many good ones score as high."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowlib.inspection.media import is_video
from flowlib.inspection.tracks import STATES, Promise, promise, video_score
from flowlib.metrics import p_values

UNREAD, UNJUDGED = "unread", "unjudged"  # the file could not be read; nothing was calibrated for its kind
ORDER = (*STATES[:2], UNREAD, UNJUDGED, STATES[2])  # what to open first
Scores = Sequence[float] | np.ndarray
COLUMNS = ("file", "kind", "label", "state", "score", "flag", "look", "p", "frames", "status", "message")


def decide(scores: pd.DataFrame, good_images: Scores, good_videos: Scores, rate: float) -> pd.DataFrame:
    """Judge each file of a table as `flowlib.inspection.scan.scan` returns it, the worst first.

    Arguments
    ---------
    scores: a row an image or scored frame.
    good_images, good_videos: scores of good ones that were held out; without any, files of that kind are "unjudged".
    rate: of good ones that are flagged, at most.

    Returns
    -------
    a row a file: file, kind ("video" or "image"), label, state ("flag", "look", "pass", "unread" or "unjudged"), score
    (of a video `video_score`), flag and look (what it must exceed), p (conformal p-value: of good ones like these, the
    share that scores as high is at most that), frames, status and message of scores.csv. A video that could be read in
    part is at least to be looked at.
    """
    kinds = {"image": np.asarray(good_images, float), "video": np.asarray(good_videos, float)}
    promises = {kind: promise(good, rate) if len(good) else None for kind, good in kinds.items()}
    rows = []
    for file, found in scores.groupby("file", sort=False):
        kind = "video" if found["frame"].notna().any() or is_video(Path(str(file))) else "image"
        rows.append({"file": file, "kind": kind, **judged(found, kind, promises[kind], kinds[kind])})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    worst_first = sorted(
        range(len(table)), key=lambda i: (ORDER.index(table["state"][i]), -np.nan_to_num(table["score"][i]))
    )
    return table.iloc[worst_first].reset_index(drop=True)


def judged(rows: pd.DataFrame, kind: str, promised: Promise | None, good: np.ndarray) -> dict[str, Any]:
    """The answer to the rows of one file."""
    scored, faults = rows[rows["status"] == "ok"], rows[rows["status"] != "ok"]
    answer: dict[str, Any] = {"label": rows["label"].iloc[0], "frames": len(scored)}
    answer |= (scored if faults.empty else faults)[["status", "message"]].iloc[0].to_dict()
    if scored.empty:
        return answer | {"state": UNREAD}
    track = scored["score"].to_numpy(dtype=float)
    answer["score"] = float(video_score(track)) if kind == "video" else float(track[0])
    if promised is None:
        return answer | {"state": UNJUDGED}
    state = promised.state(answer["score"])
    if not faults.empty and state == "pass":
        state = "look"
    p = float(p_values(good, np.array([answer["score"]]))[0])
    return answer | {"state": state, "flag": promised.flag, "look": promised.look, "p": p}


def described(promised: Promise | None, kind: str, asked: float) -> str:
    """What a verdict of that kind promises, in a sentence for people."""
    if promised is None:
        return f"no {kind} of a good part was held out to calibrate on: no verdict"
    text = (
        f"of good {kind}s like the {promised.n} that it was calibrated on, at most {promised.rate:.3g} are flagged "
        f"(score above {promised.flag:.4g}), at most {promised.look_rate:.3g} are to be looked at (above "
        f"{promised.look:.4g})"
    )
    if promised.rate > asked:
        text += f"; {promised.needed} good {kind}s would do for the {asked:.3g} that was asked for"
    return text
