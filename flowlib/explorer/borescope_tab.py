"""The explorer's first tab: ipywidgets that show what `state` knows. Pictures are replaced, never redrawn."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
from ipywidgets import HTML, Box, HBox, Layout, VBox

from flowlib.explorer import panels
from flowlib.explorer.pictures import ExplorerError
from flowlib.explorer.sheets import captions, counts_table, numbers, promise, save, sheet, verdict
from flowlib.explorer.state import DENSE, STRIDES, WINDOWS, Explorer
from flowlib.explorer.widgets import COLUMN, STYLE, Pane, dropdown, heading, in_turn, looks
from flowlib.figures import heat

WIDEST = "386px"  # width of a picture
# places of sliders: names and values
RATES = tuple((f"{rate / 200:.1%}", rate / 200) for rate in range(1, 101))
OPACITIES = tuple((f"{opacity / 20:.0%}", opacity / 20) for opacity in range(21))
COLOURS = tuple((f" {colour / 10:.1f} ".replace("-", "−"), colour / 10) for colour in range(-10, 61))
PATIENCE = 0.3  # seconds that the last picture stays while a new map is made


class BorescopeTab:
    """Controls on the left; verdict, four pictures and the histogram on the right."""

    def __init__(self, explorer: Explorer, folder: Path, model_dir: Path | None = None) -> None:
        self.explorer, self.folder, self.model_dir = explorer, folder, model_dir
        self.milliseconds: list[float] = []  # of each redraw
        self.quiet = False  # while values are set by this code
        self.turn = threading.RLock()  # of what a browser sends and of redraws, which come in threads of their own
        self.asked, self.seen = 0.0, ""  # when the map looked at was asked for, and the picture shown
        try:
            self.loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self.loop = None
        self.pending = False
        view = explorer.view
        self.source = dropdown("source", ["simulated test frames", "folder", "video"])
        self.path = ipywidgets.Text(
            placeholder="path of a folder or video, then Enter", continuous_update=False, disabled=True, **looks("path")
        )
        self.index = ipywidgets.IntSlider(0, 0, len(explorer.pictures) - 1, **looks("picture"))
        self.model = dropdown("model", list(explorer.methods))
        self.map = dropdown("score", list(explorer.method.scores))
        self.way = dropdown("of a picture", list(explorer.ways(view.model)), view.way)
        strides = [("dense" if stride == DENSE else str(stride), stride) for stride in STRIDES]
        self.stride = ipywidgets.SelectionSlider(options=strides, value=view.stride, **looks("stride (px)"))
        self.window = ipywidgets.SelectionSlider(options=WINDOWS, value=view.window, **looks("window (px)"))
        # Rate and threshold move each other. Sliders hold the number of a place, not its value: a browser sends a value
        # back rounded, and the rounded rate would put the threshold back to where it was.
        self.rate = ipywidgets.SelectionSlider(options=RATES, **looks("false alarms"))
        self.threshold = ipywidgets.SelectionSlider(options=[("…", 0.0)] * panels.PLACES, **looks("threshold"))
        self.opacity = ipywidgets.SelectionSlider(options=OPACITIES, **looks("opacity"))
        self.colours = ipywidgets.SelectionRangeSlider(options=COLOURS, **looks("colours"))
        self.save = ipywidgets.Button(
            description="Save picture and settings", icon="save", layout=Layout(width="100%", margin="4px 0 0")
        )
        self.saved, self.promise, self.counts = HTML(), HTML(), HTML()
        self.verdict = HTML(layout=Layout(height="34px", margin="0"))
        self.progress = ipywidgets.FloatProgress(
            value=0, min=0, max=1, layout=Layout(width="96px", height="16px", margin="4px 8px")
        )
        self.status = HTML(layout=Layout(height="24px", flex="1"))
        names = ("image", "heat map", "overlay", "true mask")
        self.captions = {name: HTML(layout=Layout(height="22px", width="auto", margin="0")) for name in names}
        self.pictures = {name: Pane(panels.SIZE) for name in names}
        self.histogram = Pane(panels.HISTOGRAM)
        for name in ("model", "map", "way", "stride", "window", "opacity", "index", "threshold"):
            getattr(self, name).observe(self.on_change(name), "value")
        self.rate.observe(self.on_change("false_alarm_rate"), "value")
        self.colours.observe(self.on_colours, "value")
        self.source.observe(self.on_source, "value")
        self.path.observe(self.on_source, "value")
        self.save.on_click(self.on_save)
        controls = (self.source, self.path, self.index, self.model, self.map, self.way, self.stride, self.window)
        for control in (*controls, self.rate, self.threshold, self.opacity, self.colours):
            in_turn(control, self.turn)
        self.box = self.arranged()
        explorer.changed = self.from_thread
        self.asked = time.monotonic()
        self.redraw()
        explorer.start()

    def arranged(self) -> Box:
        busy = HBox([self.progress, self.status], layout=Layout(width="100%", height="26px", overflow="hidden"))
        controls = VBox(
            [
                heading("picture"), self.source, self.path, self.index,
                heading("map"), self.model, self.map, self.way, self.stride, self.window,
                heading("alarm"), self.rate, self.threshold, self.promise,
                heading("look"), self.opacity, self.colours,
                self.save, self.saved, self.counts, busy,
            ],
            layout=Layout(width=COLUMN, flex="0 0 auto", padding="0 12px 0 0", overflow="hidden"),
        )  # fmt: skip
        grid = ipywidgets.GridBox(
            [VBox([self.captions[name], kept.widget], layout=Layout(overflow="hidden", max_width=WIDEST))
             for name, kept in self.pictures.items()],
            layout=Layout(grid_template_columns=f"minmax(0, {WIDEST}) minmax(0, {WIDEST})", grid_gap="4px 10px",
                          width="100%", overflow="hidden"),
        )  # fmt: skip
        histogram = VBox([self.histogram.widget], layout=Layout(max_width=f"calc(2 * {WIDEST} + 10px)"))
        right = VBox([self.verdict, grid, histogram], layout=Layout(flex="1 1 0", min_width="0", overflow="hidden"))
        box = HBox([HTML(STYLE, layout=Layout(display="none")), controls, right], layout=Layout(overflow="hidden"))
        box.add_class("flowlib")
        return box

    # --- from the widgets -------------------------------------------------------------------------------------------

    def on_change(self, name: str) -> Callable[[Any], None]:
        return lambda change: None if self.quiet else self.change(**{name: change["new"]})

    def on_colours(self, change: Any) -> None:
        low, high = change["new"]
        if not self.quiet and low < high:
            self.change(low=low, high=high)

    def change(self, **changes: Any) -> None:
        """One change of the view: what is kept is shown at once, what is not is started."""
        try:
            if self.explorer.set(**changes):
                self.asked = time.monotonic()
                self.explorer.start()
        except ExplorerError as error:
            self.tell(str(error), error=True)
            return
        self.redraw()

    def on_source(self, _: Any) -> None:
        own = self.source.value != "simulated test frames"
        self.path.disabled = not own
        if not own or self.path.value.strip():
            self.explorer.open(self.path.value.strip() if own else None)
            self.asked = time.monotonic()
            self.explorer.start()
            self.redraw()

    def on_save(self, _: Any) -> None:
        view = self.explorer.view
        stride = "" if self.explorer.method.detector else f"stride_{view.stride or 'dense'}"
        try:
            stem = f"{self.explorer.picture.name}_{view.model}_{view.map}_{stride}"
            paths = save(self.folder, stem, panels.png(sheet(self.explorer)), self.explorer)
        except (RuntimeError, ValueError) as error:
            self.saved.value = f"<span class='error'>{escape(str(error))}</span>"
            return
        text = f"saved in {escape(self.folder.parent.name)}/{escape(self.folder.name)}: <b>{escape(paths[0].name)}</b>"
        if len(paths) > 2 and self.model_dir is not None:
            command = f"python -m flowlib score {self.model_dir} FOLDER --settings {paths[2]} --out reports/scored"
            text += f"<br><span class='light' title='{escape(command)}'>and .score.yaml for <i>flowlib score</i></span>"
        self.saved.value = f"<div class='numbers' style='white-space:normal;word-break:break-all'>{text}</div>"

    # --- to the widgets ---------------------------------------------------------------------------------------------

    def from_thread(self) -> None:
        """Ask for a redraw in the kernel's own thread, once for many pieces of work."""
        if self.loop is not None and not self.pending:
            self.pending = True
            self.loop.call_soon_threadsafe(self.redraw)

    def redraw(self) -> None:
        """Show what the explorer knows, when nothing else is at it."""
        with self.turn:
            self.redraw_now()

    def redraw_now(self) -> None:
        began = time.perf_counter()
        self.pending = False
        self.adjust()
        if self.pictures_are_ready():
            self.draw()
        self.show_numbers()
        busy, error = self.explorer.background.progress, self.explorer.background.error
        if busy is not None:
            done, total, what = busy
            self.progress.value = done / max(1, total)
            self.tell(f"{what} {done}/{total}" if total > 1 else what)
        else:
            self.progress.value = 0 if error else 1
            self.tell(error or f"drawn in {np.median(self.milliseconds[-9:] or [0]):.0f} ms", error=bool(error))
        self.milliseconds.append(1000 * (time.perf_counter() - began))

    def pictures_are_ready(self) -> bool:
        """Whether to draw: the last pictures stay a moment while a map is made, so that leafing does not flicker."""
        ready = self.explorer.map() is not None and self.explorer.scale() is not None
        waited = time.monotonic() - self.asked
        if not ready and waited < PATIENCE and self.loop is not None:
            self.loop.call_soon_threadsafe(self.loop.call_later, PATIENCE - waited + 0.02, self.redraw)
        return ready or (waited >= PATIENCE and self.explorer.picture.key != self.seen)

    def draw(self) -> None:
        one, view = self.explorer.picture, self.explorer.view
        made, colours, alarm = self.explorer.map(), self.explorer.colours(), self.explorer.anomalous()
        region, key = self.explorer.region(), self.explorer.key()
        if one.key != self.seen:
            self.seen, self.fitted, self.fitted_of = one.key, panels.fitted(one.image), None
        if made is not None and self.fitted_of != key:
            self.values, self.fitted_of = panels.fitted_map(made.values), key
        known = made is not None and colours is not None
        share = heat.shares(self.values, *colours) if known else np.full(panels.SIZE[::-1], np.nan, np.float32)  # type: ignore[misc]
        shape, map_key = one.image.shape[1:], (key, colours, known)
        self.pictures["image"].put(one.key, lambda: self.fitted)
        self.pictures["heat map"].put(map_key, lambda: heat.heat(share))
        self.pictures["overlay"].put(
            (map_key, view.opacity, alarm, region),
            lambda: panels.boxed(heat.overlay(self.fitted, share, view.opacity), region, shape, alarm),
        )
        self.pictures["true mask"].put((one.key, one.mask is None), lambda: panels.masked(self.fitted, one.mask))
        for name, text in captions(self.explorer).items():
            self.captions[name].value = f"<div class='caption'>{text}</div>"

    def show_numbers(self) -> None:
        state = self.explorer
        normal, threshold, score = state.normal_scores(), state.threshold(), state.score()
        key = (state.view.model, state.view.map, state.view.way, None if normal is None else normal.tobytes())
        self.histogram.put(
            (key, threshold, score), lambda: panels.histogram(normal, threshold, score, f"score ({state.method.unit})")
        )
        alarm = state.anomalous()
        colour = "#777777" if alarm is None else panels.RED if alarm else panels.BLUE
        self.verdict.value = (
            f"<span class='verdict' style='background:{colour}'>{verdict(state)}</span>"
            f"<span class='numbers'>{' &nbsp;·&nbsp; '.join(numbers(state))}</span>"
        )
        self.promise.value = f"<div class='numbers'>{promise(state)}</div>"
        self.counts.value = counts_table(state)

    def adjust(self) -> None:
        """Make the controls agree with the view."""
        state, view = self.explorer, self.explorer.view
        own = state.method.detector is not None
        self.quiet = True
        try:
            if self.index.max != len(state.pictures) - 1:
                self.index.max = len(state.pictures) - 1
            self.index.value = state.index
            if tuple(self.map.options) != state.method.scores:
                self.map.options = state.method.scores
            if tuple(self.way.options) != state.ways(view.model):
                self.way.options = state.ways(view.model)
            for name in ("model", "map", "way", "stride", "window"):
                getattr(self, name).value = getattr(view, name)
            self.stride.disabled = self.window.disabled = own
            self.opacity.index = nearest(OPACITIES, view.opacity)
            self.colours.index = nearest(COLOURS, view.low), nearest(COLOURS, view.high)
            scores, threshold, rate = state.normal_scores(), state.threshold(), state.false_alarm_rate()
            self.threshold.disabled = scores is None
            if scores is not None:
                places = panels.places(scores)
                with self.threshold.hold_sync():  # names and place in one message
                    if self.threshold.options != places:
                        self.threshold.options = places
                    self.threshold.index = nearest(places, threshold)
            self.rate.index = nearest(RATES, view.false_alarm_rate if view.threshold is None else rate)
        finally:
            self.quiet = False

    def tell(self, text: str, error: bool = False) -> None:
        colour = "#b3261e" if error else "#555"
        self.status.value = f"<span style='color:{colour};font-size:12px'>{escape(text)}</span>"


def nearest(places: Sequence[tuple[str, float]], value: float | None) -> int:
    """The number of the place nearest to a value, the first without one."""
    return 0 if value is None else min(range(len(places)), key=lambda number: abs(places[number][1] - value))
