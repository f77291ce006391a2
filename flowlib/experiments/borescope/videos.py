"""Verdicts of whole videos of simulated blades: nominal against actual rate, what is found, and what the track gains.

Blades that no training saw: good ones, divided again and again into those that calibrate and those that are asked, and
damaged ones. What a video's score is, is `flowlib.inspection.tracks.video_score`; beside it stands the highest frame,
which a flicker of light decides.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pandas as pd

from flowlib.detector import storage
from flowlib.detector.model import Detector
from flowlib.inspection.calibration import digest, track_of
from flowlib.inspection.layouts import layout
from flowlib.inspection.media import is_video
from flowlib.inspection.tracks import promise, video_score
from flowlib.metrics import mean_interval
from flowlib.runtime import parallel

Tracks = Mapping[str, np.ndarray]  # of each video, by file: scores of its frames in the order of time (T,)
Score = Callable[[np.ndarray], np.ndarray]
CALIBRATING = 19  # good videos that calibrate: the fewest that can stand for 0.05


def highest(track: np.ndarray) -> np.ndarray:
    """What a score is that a flicker of light decides, to compare with: the highest frame's."""
    return np.asarray(track).max(axis=-1)


SCORES: Mapping[str, Score] = {"three of five frames": video_score, "highest frame": highest}


def unseen_tracks(
    model: Path, folder: Path, executor: Executor, frames: int = 60, every: int | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """By label, "good" or a defect, the tracks of a data set's test videos (`flowlib.simulator.dataset.simulate`).

    model: folder of a detector; frames, every: as of `flowlib.inspection.scan.scan`.
    """
    files = [(label, path) for label, path in layout(folder).test if is_video(path)]
    found = parallel.run(
        track_of, [(model, digest(model), path, frames, every) for _, path in files], executor, "videos"
    )
    tracks: dict[str, dict[str, np.ndarray]] = {}
    for (label, path), (track, reason) in zip(files, found, strict=True):
        if reason:
            raise ValueError(f"a simulated video cannot be read: {reason}")
        tracks.setdefault(label, {})[path.name] = np.array(track)
    return tracks


def tracks_of(detector: Detector, folder: Path, executor: Executor) -> dict[str, dict[str, np.ndarray]]:
    """`unseen_tracks` of a detector that is not saved."""
    with tempfile.TemporaryDirectory() as place:
        return unseen_tracks(storage.save(detector, Path(place)).parent, folder, executor)


def thinned(tracks: Tracks, every: int) -> dict[str, np.ndarray]:
    """The tracks with each `every`-th frame alone, as ``score --every`` would see them."""
    return {name: track[::every] for name, track in tracks.items()}


def verdicts(
    good: Tracks,
    damaged: Tracks,
    rate: float,
    score: Score = video_score,
    calibrating: int = CALIBRATING,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Flagged share of each unseen video over random choices of so many good ones that calibrate.

    Returns a row a video: video, good, flagged (of a good one: in the draws that did not calibrate on it). Raises
    ValueError where there are not more than `calibrating` good ones.
    """
    if len(good) <= calibrating:
        raise ValueError(f"{len(good)} good videos: more than {calibrating} are needed")
    of_good, of_damaged = (np.array([float(score(track)) for track in group.values()]) for group in (good, damaged))
    rng = np.random.default_rng(seed)
    flagged, asked = np.zeros(len(of_good)), np.zeros(len(of_good))
    found = np.zeros(len(of_damaged))
    for _ in range(draws):
        chosen = rng.permutation(len(of_good)) < calibrating
        limit = promise(of_good[chosen], rate).flag
        asked += ~chosen
        flagged += ~chosen & (of_good > limit)
        found += of_damaged > limit
    shares = [*flagged / np.maximum(asked, 1), *found / draws]
    is_good = [True] * len(good) + [False] * len(damaged)
    return pd.DataFrame({"video": [*good, *damaged], "good": is_good, "flagged": shares})


def rates(
    tracks: Mapping[str, Tracks],
    nominal: Sequence[float] = (0.05, 0.1, 0.2),
    every: Sequence[int] = (1,),
    calibrating: int = CALIBRATING,
) -> pd.DataFrame:
    """Nominal and actual rate, and the share of damaged videos found, all and by kind.

    tracks: by label, of which "good" is normal (`unseen_tracks`). Returns a row a score of `SCORES`, thinning and
    nominal rate: score, every, nominal, actual, found with its 95 % interval over videos (low, high), and a column a
    kind of damage.
    """
    kinds = [label for label in tracks if label != "good"]
    rows = []
    for step in every:
        good = thinned(tracks["good"], step)
        of_kind = {kind: thinned(tracks[kind], step) for kind in kinds}
        damaged = {f"{kind}/{name}": track for kind in kinds for name, track in of_kind[kind].items()}
        for name, score in SCORES.items():
            for rate in nominal:
                table = verdicts(good, damaged, rate, score, calibrating)
                shares = table[~table["good"]]
                by_kind = shares.groupby(shares["video"].str.split("/").str[0])["flagged"].mean()
                actual = table.loc[table["good"], "flagged"].mean()
                row = {"score": name, "every": step, "nominal": rate, "actual": actual}
                found = mean_interval(shares["flagged"].to_numpy(), bounds=(0, 1))
                rows.append(row | {"found": found.value, "low": found.low, "high": found.high, **by_kind})
    return pd.DataFrame(rows)
