"""Widgets that both tabs are made of: how they look, what they keep."""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any

import ipywidgets
import numpy as np
from ipywidgets import HTML, Layout
from PIL import Image

from flowlib.explorer import panels

COLUMN = "316px"  # width of the controls
STYLE = """<style>
.flowlib .widget-html-content {line-height: 1.35; overflow: hidden}
.flowlib h4 {margin: 2px 0 0; font-size: 12px; letter-spacing: .04em; color: #666; text-transform: uppercase}
.flowlib .verdict {display: inline-block; padding: 3px 16px; border-radius: 6px; color: white; font-size: 19px;
  font-weight: 600; vertical-align: middle; margin-right: 14px; min-width: 130px; text-align: center}
.flowlib .caption {font-weight: 600; display: flex; justify-content: space-between; white-space: nowrap; gap: 8px}
.flowlib .caption span {overflow: hidden; text-overflow: ellipsis}
.flowlib .caption span:first-child {flex: 0 9 auto; min-width: 4em}
.flowlib .bar {display: inline-block; width: 74px; height: 11px; margin: 0 5px; vertical-align: -1px}
.flowlib .light {font-weight: 400; color: #555}
.flowlib .numbers {font-size: 13px; color: #333}
.flowlib .numbers b {font-weight: 600; color: black}
.flowlib table.counts {border-collapse: collapse; margin-top: 4px}
.flowlib table.counts td, .flowlib table.counts th {padding: 2px 9px; text-align: right; border: 1px solid #ddd}
.flowlib table.counts th {font-weight: 400; color: #555}
.flowlib .error {color: #b3261e}
.flowlib img.widget-image {image-rendering: auto}
</style>"""


class Pane:
    """An image widget that is sent new bytes only when what they show has changed."""

    def __init__(self, size: tuple[int, int]) -> None:
        blank = panels.png(Image.new("RGB", size, "white"))
        self.widget = ipywidgets.Image(value=blank, format="png", layout=Layout(width="100%", margin="0"))
        self.shown: Hashable = None

    def put(self, key: Hashable, make: Callable[[], np.ndarray | Image.Image]) -> None:
        if key != self.shown:
            self.widget.value = panels.png(make())
            self.shown = key


def in_turn(control: ipywidgets.Widget, turn: AbstractContextManager[Any]) -> None:
    """Let the values that a browser sends to a control wait until nobody else has the turn.

    JupyterLab has them handled in a thread beside the notebook's own, in which redraws are asked for. A key that came
    while a redraw set the controls was taken for the redraw's own doing, and put back: it was lost.
    """
    receive = control.set_state

    def wait(state: dict[str, Any]) -> None:
        with turn:
            receive(state)

    control.set_state = wait


def looks(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "style": {"description_width": "92px"},
        "layout": Layout(width="auto", margin="1px 0"),
    }


def dropdown(description: str, options: list[str], value: str | None = None) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(options=options, value=value or options[0], **looks(description))


def heading(text: str) -> HTML:
    return HTML(f"<h4>{text}</h4>", layout=Layout(margin="0"))
