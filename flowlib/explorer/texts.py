"""What the explorer says in words and numbers, and the sheet of a picture as a report shows it."""

import re
from html import escape

import numpy as np

from flowlib.explorer import panels
from flowlib.explorer.state import DENSE, Explorer
from flowlib.figures import heat


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
