"""What the explorer says of a picture: in words and numbers, on one sheet, as reports show it, and in saved files."""

import re
from dataclasses import asdict, fields
from html import escape
from pathlib import Path

import numpy as np
import yaml

from flowlib.explorer import panels
from flowlib.explorer.pictures import ExplorerError
from flowlib.explorer.state import DENSE, Explorer, View
from flowlib.figures import heat
from flowlib.runtime import artifacts


def verdict(state: Explorer) -> str:
    alarm = state.anomalous()
    return "…" if alarm is None else "ANOMALOUS" if alarm else "normal"


def numbers(state: Explorer) -> list[str]:
    """What is known of the picture looked at, in pieces of HTML."""
    made, score, threshold, region = state.map(), state.score(), state.threshold(), state.region()
    kind = "windows" if state.key().stride == DENSE else "patches"
    if state.method.detector is not None:
        kind = "pixels"
    out = [f"score <b>{shown(score)}</b>, threshold <b>{shown(threshold)}</b>"]
    box = "…" if region is None else f"<b>{region.x0}–{region.x1}, {region.y0}–{region.y1}</b>"
    out.append(f"worst region {box}")
    out.append("…" if made is None else f"<b>{made.patches:,}</b> {kind} in <b>{made.seconds:.2f} s</b>")
    return out


def promise(state: Explorer) -> str:
    """How many false alarms the threshold lets expect, in HTML."""
    rate = state.false_alarm_rate()
    return f"at most <b>{'…' if rate is None else f'{100 * rate:.1f}'}</b> false alarms in 100 images"


def shown(value: float | None) -> str:
    return "…" if value is None else panels.short(value)


def captions(state: Explorer) -> dict[str, str]:
    """HTML above each picture, what is light to the right."""
    one, view, colours = state.picture, state.view, state.colours()
    what = {None: "", "good": ", normal"}.get(one.label, f", {str(one.label).replace('_', ' ')}")
    ends = ("…", "…") if colours is None else (panels.short(colours[0]), panels.short(colours[1]))
    unit = "" if state.method.unit == view.map else state.method.unit
    bar = f"{ends[0]}<span class='bar' style='background:{panels.bar_css()}'></span>{ends[1]} {unit}"
    mask = "none" if one.mask is None else f"{int(one.mask.sum())} pixels"
    if one.mask is None and one.label is None:
        mask = "not known"
    pieces = {
        "image": ("image", escape(one.name + what)),
        "heat map": (escape(view.map) + at_stride(state), bar),
        "overlay": ("overlay", "worst region boxed"),
        "true mask": ("true mask", mask),
    }
    return {name: f"<span>{left}</span><span class='light'>{right}</span>" for name, (left, right) in pieces.items()}


def at_stride(state: Explorer) -> str:
    if state.method.detector is not None:
        return ""
    return ", dense" if state.view.stride == DENSE else f", stride {state.view.stride}"


def counts_table(state: Explorer) -> str:
    counts = state.counts()
    if counts is None:
        return "<div class='numbers'><h4>labelled pictures</h4>none</div>"
    done = sum(value for name, value in counts.items() if name != "of")
    rows = (("defective", counts["hit"], counts["missed"]), ("normal", counts["false alarm"], counts["correct normal"]))
    body = "".join(f"<tr><th>{name}</th><td><b>{a}</b></td><td><b>{b}</b></td></tr>" for name, a, b in rows)
    return (
        f"<div class='numbers'><h4>labelled pictures, {done} of {counts['of']}</h4><table class='counts'>"
        f"<tr><th></th><th>alarm</th><th>no alarm</th></tr>{body}</table></div>"
    )


def sheet(state: Explorer) -> np.ndarray:
    """All that is seen of a picture, in one, uint8 ``(H, W, 3)``: what Save writes and reports show."""
    one, made, colours = state.picture, state.map(), state.colours()
    image, region, alarm = panels.fitted(one.image), state.region(), state.anomalous()
    empty = np.full(panels.SIZE[::-1], np.nan, np.float32)
    share = empty if made is None or colours is None else heat.shares(panels.fitted_map(made.values), *colours)
    over = panels.boxed(heat.overlay(image, share, state.view.opacity), region, one.image.shape[1:], alarm)
    drawn = (image, heat.heat(share), over, panels.masked(image, one.mask))
    texts = {
        name: re.sub("<[^>]+>", "", text.replace("</span><span", "</span>: <span"))
        for name, text in captions(state).items()
    }
    texts["heat map"] = state.view.map + at_stride(state)
    normal = panels.histogram(
        state.normal_scores(), state.threshold(), state.score(), f"score ({state.method.unit}) of normal images"
    )
    pieces = [re.sub("<[^>]+>", "", piece) for piece in numbers(state)]
    counts = state.counts()
    lines = [f"{state.view.model}: {pieces[0]}; {pieces[1]}; {pieces[2]}", re.sub("<[^>]+>", "", promise(state))]
    if counts is not None:
        lines.append(", ".join(f"{name} {value}" for name, value in counts.items() if name != "of"))
    ends = None if colours is None else (panels.short(colours[0]), f"{panels.short(colours[1])} {state.method.unit}")
    return panels.sheet(list(zip(texts.values(), drawn, strict=True)), normal, verdict(state), alarm, lines, ends)


# --- saved: the picture, the view, and settings for ``flowlib score`` ------------------------------------------------


def settings_yaml(view: View, rate: float | None = None) -> str:
    """What ``python -m flowlib score MODEL_DIR INPUT --settings FILE`` reads: the false-alarm rate.

    `rate` is the one that a threshold set by hand keeps.
    """
    rate = view.false_alarm_rate if view.threshold is None or rate is None else rate
    return yaml.safe_dump({"false_alarm_rate": round(rate, 6)})


def view_yaml(view: View) -> str:
    """All of a view, to be read by `read_view`."""
    return yaml.safe_dump(asdict(view), sort_keys=False)


def read_view(path: Path) -> View:
    """A view that was saved. Raises ExplorerError when the file is missing or holds something else."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        known = {field.name for field in fields(View)}
        if unknown := set(values) - known:
            raise ExplorerError(f"{path} has {', '.join(sorted(unknown))}: the keys are {', '.join(sorted(known))}")
        return View(**values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise ExplorerError(f"{path} is no view ({' '.join(str(error).split())}): save one in the explorer") from None


def save(folder: Path, stem: str, picture: bytes, explorer: Explorer) -> list[Path]:
    """Write the picture, the view and, of a detector, the settings for ``flowlib score``; nothing is overwritten."""
    folder = Path(folder)
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("_")
    files = {".png": picture, ".yaml": view_yaml(explorer.view).encode()}
    if explorer.method.detector is not None:
        files[".score.yaml"] = settings_yaml(explorer.view, explorer.false_alarm_rate()).encode()
    with artifacts.clear_error(folder / stem):
        folder.mkdir(parents=True, exist_ok=True)
        number = 1
        while (folder / f"{number:03}_{stem}.png").exists():
            number += 1
        paths = []
        for suffix, content in files.items():
            paths.append(folder / f"{number:03}_{stem}{suffix}")
            paths[-1].write_bytes(content)
    return paths
