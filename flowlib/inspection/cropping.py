"""Where to crop a video so that the markings in its corners (clock, logo, cursor) are gone (thesis, section 5)."""

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

STRIP = 0.2  # share of the height, at the top and at the bottom, in which markings are looked for
MARGIN = 0.1  # share of the height cut off at the top and the bottom where they cannot be found
ENOUGH_FRAMES = 8  # to tell what stays from what moves
GAP = 0.1  # share of the height: the most between two lines of markings, or the first and the end of the picture
PAD = 0.02  # share of the height cut off beyond them, for digits that change
STILL = 10.0  # grey levels: the standard deviation over time below which a pixel stays as it is
CONTRAST = 48.0  # grey levels: between a marking and what lies around it, on average over time
FIXED_SCENE = 0.01  # share of such pixels in the middle of the picture, where no marking is: the picture stands still

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, x1 and y1 excluded


def crop_box(
    crop: str | list[int], width: int, height: int, frames: Iterable[np.ndarray] | None
) -> tuple[Box | None, str]:
    """The box to keep and a note on it, or None and what is wrong; `frames` are those of a video."""
    if isinstance(crop, list):
        x0, y0, x1, y1 = crop
        if x1 > width or y1 > height:
            return None, f"has {width} x {height} pixels, too few for the crop {x0},{y0},{x1},{y1}: choose another"
        return (x0, y0, x1, y1), ""
    if crop == "none" or frames is None:
        return (0, 0, width, height), ""
    if rows := unmarked_rows(frames):
        return (0, rows[0], width, rows[1]), ""
    margin = round(MARGIN * height)
    note = f"too few frames or too little movement to find markings: {MARGIN:.0%} of the height cut off at both ends"
    return (0, margin, width, height - margin), note


def unmarked_rows(frames: Iterable[np.ndarray]) -> tuple[int, int] | None:
    """The first row and the row behind the last of a video's pictures between the markings in their corners.

    A marking stays as it is while the scene behind it moves, so it is what differs sharply from its surroundings even
    in the mean of all frames. It is looked for in the upper and the lower fifth; lines of text are wide and low, so
    rows are what to cut off.

    Arguments
    ---------
    frames: uint8 (C, H, W), all of one size, read once.

    Returns None when it cannot be told: fewer than 8 frames, or the scene in the middle stands still as well.
    """
    count, total, squares = 0, np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
    for frame in frames:
        grey = frame.mean(axis=0, dtype=np.float32)  # (H, W)
        count, total, squares = count + 1, total + grey, squares + grey**2
    if count < ENOUGH_FRAMES:
        return None
    mean = total / count
    still = squares / count - mean**2 < STILL**2
    marked = still & (maximum_filter(mean, 5) - minimum_filter(mean, 5) > CONTRAST)  # (H, W)
    height = len(marked)
    strip = int(STRIP * height)
    if marked[strip : height - strip].mean() > FIXED_SCENE:
        return None
    has_marking = marked.sum(axis=1) >= 3
    pad = round(PAD * height)
    ends = []
    for rows in (has_marking[:strip], has_marking[::-1][:strip]):  # from the upper, from the lower end inwards
        last = -1
        for row in np.flatnonzero(rows):
            if row - last > GAP * height:  # what comes after a gap is of the scene
                break
            last = int(row)
        ends.append(min(last + 1 + pad, strip) if last >= 0 else 0)
    return ends[0], height - ends[1]
