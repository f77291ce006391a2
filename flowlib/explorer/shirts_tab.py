"""The explorer's second tab: a square put on a shirt by sliders or a click, and what `models.Shirts` says of it.

The click needs nothing but ipywidgets: a transparent sheet over the picture writes its place into a hidden text.
"""

import re
import time
from contextlib import suppress
from typing import Any

import ipywidgets
import numpy as np
from ipywidgets import HTML, Box, HBox, Layout, VBox
from PIL import Image

from flowlib.explorer import panels
from flowlib.explorer.borescope_tab import BorescopeTab
from flowlib.explorer.models import Said, Shirts, Square
from flowlib.explorer.widgets import COLUMN, STYLE, Pane, heading, looks
from flowlib.figures import heat

SHIRT = 364, 364  # pixels of a shirt, 13 a pixel
BARS = 1060, 290  # pixels of its histogram
CLICK = "flowlib-click"


class ShirtsTab:
    """A square on a shirt: its place by sliders or by a click on the picture."""

    def __init__(self, shirts: Shirts) -> None:
        self.shirts = shirts
        self.milliseconds: list[float] = []
        self.quiet = False
        start, side = Square(), shirts.shirts.shape[-1]
        self.index = ipywidgets.IntSlider(0, 0, len(shirts.shirts) - 1, **looks("shirt"))
        self.size = ipywidgets.IntSlider(start.size, 0, 10, **looks("size (px)"))
        self.level = ipywidgets.IntSlider(start.level, 0, 255, step=5, **looks("grey level"))
        self.x = ipywidgets.IntSlider(start.x, 0, side - 1, **looks("column"))
        self.y = ipywidgets.IntSlider(start.y, 0, side - 1, **looks("row"))
        self.click = ipywidgets.Text(layout=Layout(display="none"))
        self.click.add_class(CLICK)
        names = ("shirt", "NLL map", "change", "reconstruction")
        self.captions = {name: HTML(layout=Layout(height="22px", width="auto", margin="0")) for name in names}
        self.pictures = {name: Pane(SHIRT) for name in names}
        self.histogram, self.numbers = Pane(BARS), HTML()
        for slider in (self.index, self.size, self.level, self.x, self.y):
            slider.observe(self.on_change, "value")
        self.click.observe(self.on_click, "value")
        self.box = self.arranged()
        self.redraw()

    def arranged(self) -> Box:
        note = HTML("<div class='numbers light'>Or click on the shirt.</div>")
        controls = VBox(
            [heading("shirt"), self.index, heading("square"), self.size, self.level, self.x, self.y, note, self.click,
             heading("what the models say"), self.numbers],
            layout=Layout(width=COLUMN, flex="0 0 auto", padding="0 12px 0 0", overflow="hidden"),
        )  # fmt: skip
        # a transparent sheet over the first picture hands its clicks, in pixels of the shirt, to the hidden text
        target = HTML(
            f"<div style='width:100%;padding-bottom:100%;cursor:crosshair' onclick=\"const b=this."
            f"getBoundingClientRect(),s={self.shirts.shirts.shape[-1]},t=this.closest('.flowlib').querySelector("
            f"'.{CLICK} input');t.value=[event.clientX-b.left,event.clientY-b.top].map(v=>Math.floor(v/b.width*s));"
            "t.dispatchEvent(new Event('input',{bubbles:true}));t.dispatchEvent(new Event('change',{bubbles:true}))\">"
            "</div>",
            layout=Layout(width="100%", grid_area="1 / 1", margin="0"),
        )
        cells = []
        for name, kept in self.pictures.items():
            kept.widget.layout.grid_area = "1 / 1"
            layers = [kept.widget, target] if name == "shirt" else [kept.widget]
            stack = ipywidgets.GridBox(layers, layout=Layout(grid_template_columns="100%", overflow="hidden"))
            cells.append(VBox([self.captions[name], stack], layout=Layout(max_width="260px", overflow="hidden")))
        grid = ipywidgets.GridBox(
            cells, layout=Layout(grid_template_columns="1fr 1fr", grid_gap="4px 10px", max_width="530px")
        )
        histogram = VBox([self.histogram.widget], layout=Layout(max_width="530px", overflow="hidden"))
        right = VBox([grid, histogram], layout=Layout(flex="1 1 auto", overflow="hidden"))
        box = HBox([HTML(STYLE, layout=Layout(display="none")), controls, right], layout=Layout(overflow="hidden"))
        box.add_class("flowlib")
        return box

    def on_change(self, _: Any) -> None:
        if not self.quiet:
            self.redraw()

    def on_click(self, change: Any) -> None:
        with suppress(ValueError):
            x, y = (int(value) for value in change["new"].split(","))
            half = self.size.value // 2
            self.place(Square(self.size.value, self.level.value, x - half, y - half))
            self.click.value = ""  # so that the next click is a change wherever it falls

    def place(self, square: Square) -> None:
        """Move the sliders, all at once, and draw."""
        square = self.shirts.within(square)
        self.quiet = True
        self.size.value, self.level.value, self.x.value, self.y.value = square
        self.quiet = False
        self.redraw()

    def redraw(self) -> None:
        began = time.perf_counter()
        square = Square(self.size.value, self.level.value, self.x.value, self.y.value)
        inside = self.shirts.within(square)
        if inside != square:
            self.place(inside)
            return
        said = self.shirts.said(self.index.value, square)
        key = (self.index.value, square)
        for name, picture in shirt_pictures(said, self.shirts.limit).items():
            self.pictures[name].put(key, lambda picture=picture: picture)  # type: ignore[misc]
        limit = self.shirts.limit
        bars = {
            "shirt": "",
            "NLL map": colour_bar(limit, heat.CHANGE),
            "change": colour_bar(limit, heat.CHANGE),
            "reconstruction": "",
        }
        for name, title in zip(bars, ("shirt with the square", "Glow, NLL", "change", "autoencoder"), strict=True):
            text = f"<span>{title}</span><span class='light'>{bars[name]}</span>"
            self.captions[name].value = f"<div class='caption'>{text}</div>"
        self.histogram.put(key, lambda: shirt_histogram(self.shirts, said))
        self.numbers.value = f"<div class='numbers'>{'<br>'.join(shirt_numbers(said))}</div>"
        self.milliseconds.append(1000 * (time.perf_counter() - began))


def shirt_pictures(said: Said, limit: float) -> dict[str, np.ndarray]:
    """The four pictures of a shirt; both maps have one scale, `limit` nats to either side."""
    maps = {
        name: heat.heat(heat.shares(panels.fitted_map(values, SHIRT, smooth=False), -limit, limit), heat.CHANGE)
        for name, values in (("NLL map", said.nll_map), ("change", said.change))
    }
    grey = np.rint(255 * said.reconstruction).astype(np.uint8)
    return {
        "shirt": panels.fitted(said.marked[None], SHIRT, smooth=False),
        **maps,
        "reconstruction": panels.fitted(grey[None], SHIRT, smooth=False),
    }


def shirt_histogram(shirts: Shirts, said: Said) -> Image.Image:
    return panels.histogram(
        shirts.normal, said.nll_before, said.nll, "NLL (nats) of normal shirts", BARS, ("with the square", "without")
    )


def shirt_numbers(said: Said) -> list[str]:
    """What the models say, in lines of HTML."""
    painted = {None: "no square", True: "yes", False: "no"}[said.painted]
    return [
        f"NLL <b>{said.nll:.1f}</b> nats, <b>{said.nll - said.nll_before:+.1f}</b> by the square",
        f"<b>{100 * said.higher:.0f} %</b> of normal shirts have a higher one",
        f"autoencoder's error <b>{said.error:.4f}</b>, <b>{said.error - said.error_before:+.4f}</b>",
        f"square painted over: <b>{painted}</b>",
    ]


def shirt_sheet(shirts: Shirts, index: int, square: Square) -> np.ndarray:
    """All that is seen of a shirt, in one picture."""
    said = shirts.said(index, square)
    lines = [re.sub("<[^>]+>", "", line) for line in shirt_numbers(said)]
    maps = (f"Glow, NLL (±{shirts.limit:.3g} nats)", "change (same colours)")
    titles = ("shirt with the square", *maps, "autoencoder")
    named = list(zip(titles, shirt_pictures(said, shirts.limit).values(), strict=True))
    return panels.sheet(named, shirt_histogram(shirts, said), "square on a shirt", None, lines, across=4)


def colour_bar(limit: float, colours: np.ndarray) -> str:
    return f"−{limit:.3g}<span class='bar' style='background:{panels.bar_css(colours)}'></span>{limit:.3g} nats"


def tabs(borescope: BorescopeTab, shirts: ShirtsTab) -> ipywidgets.Tab:
    return ipywidgets.Tab([borescope.box, shirts.box], titles=("Borescope", "Squares on shirts"))
