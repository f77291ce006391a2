"""The explorer in a real JupyterLab and a real Chromium, used as a person would: mouse, keys, and eyes for pictures.

Without the browser this fails where ``CI`` is set, as in ``.ci/run``, and is skipped elsewhere.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Locator, Page, sync_playwright

from flowlib.runtime.download import ensure
from flowlib.runtime.paths import ROOT
from flowlib.study import parameters, runner

TOKEN = "explorer"
NOTEBOOK = "07_explorer"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TRAINING, WAIT = 240_000, 60_000  # ms


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a JupyterLab of its own, and the folder it serves: a copy of the notebook at the smoke profile."""
    if CHROMIUM is None:
        message = "no chromium on PATH: install it (Debian: apt-get install chromium)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    root = tmp_path_factory.mktemp("lab")
    data = root / "data"
    data.mkdir()
    shutil.copy(ROOT / "data" / "manifest.json", data)
    (data / "fashion-mnist").symlink_to(ensure("fashion-mnist").resolve())
    with served(root, data) as address:
        yield address, root


@pytest.fixture(scope="module")
def page(lab: tuple[str, Path]) -> Iterator[Page]:
    """The notebook, opened and run to its end."""
    with opened(*lab) as page:
        yield page


@contextmanager
def served(root: Path, data: Path) -> Iterator[str]:
    (root / "notebooks" / "profiles").mkdir(parents=True)
    copy_notebook(root / "notebooks" / f"{NOTEBOOK}.ipynb")
    config = root / "config"
    (config / "labconfig").mkdir(parents=True)
    news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (config / "labconfig" / "page_config.json").write_text(json.dumps(news))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        name: str(root / "jupyter" / name)
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    }
    own |= {"JUPYTER_CONFIG_DIR": str(config), "IPYTHONDIR": str(root / "ipython"), "FLOWLIB_DATA": str(data)}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ip=127.0.0.1"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}", "--ServerApp.port_retries=0"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    with (root / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=root, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{address}/api?token={TOKEN}"), 60, lambda: (root / "lab.log").read_text()[-2000:])
        yield address
    finally:
        runner.kill_tree(server)  # kernels too


@contextmanager
def opened(address: str, root: Path) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(WAIT)
        try:
            page.goto(f"{address}/lab/tree/notebooks/{NOTEBOOK}.ipynb?token={TOKEN}")
            idle = page.locator("#jp-main-statusbar", has_text=re.compile(r"Python 3.*\| Idle"))  # a notebook without a
            idle.wait_for(timeout=WAIT)  # kernel yet would ask for one
            page.keyboard.press("Control+b")  # the file browser
            page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
            page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
            done = page.locator(".flowlib .verdict").or_(page.locator(".jp-OutputArea-output", has_text="Traceback"))
            done.first.wait_for(state="attached", timeout=TRAINING)
            idle.wait_for(timeout=WAIT)
            yield page
        finally:
            screenshot(page, root, "at_the_end")
            browser.close()


def copy_notebook(target: Path) -> None:
    """The notebook with the values of profile smoke as its defaults, and live."""
    notebook = json.loads((ROOT / "notebooks" / f"{NOTEBOOK}.ipynb").read_text(encoding="utf-8"))
    (planned,) = parameters.plan("smoke", [NOTEBOOK])
    values = planned.declared | planned.given | {"live": True, "report_dir": "reports/smoke"}
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    target.write_text(json.dumps(notebook), encoding="utf-8")


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def until(true: Callable[[], object], seconds: float, why: Callable[[], str] = lambda: "") -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"nothing happened in {seconds} s {why()}"
        time.sleep(0.1)


def screenshot(page: Page, root: Path, name: str) -> None:
    folder = Path(os.environ.get("FLOWLIB_SCREENSHOTS", root / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


def slider(page: Page, name: str) -> Locator:
    """The handle of a slider, the first of a range, by its description."""
    row = page.locator(".widget-hslider", has=page.locator(f"label:text-is('{name}')"))
    return row.locator(".noUi-handle").first


def at(page: Page, name: str) -> float:
    return float(slider(page, name).get_attribute("aria-valuenow") or "nan")


def readout(page: Page, name: str) -> str:
    row = page.locator(".widget-hslider", has=page.locator(f"label:text-is('{name}')"))
    return row.locator(".widget-readout").inner_text()


def count(page: Page, row: int, column: int) -> int:
    return int(page.locator("table.counts tr").nth(row).locator("td").nth(column).inner_text())


def press(page: Page, name: str, key: str, times: int = 1) -> None:
    for _ in range(times):
        slider(page, name).press(key)  # focuses first: JupyterLab may have moved the focus after a click


def choose(page: Page, name: str, option: str) -> None:
    page.locator(".widget-dropdown", has=page.locator(f"label:text-is('{name}')")).locator("select").select_option(
        option
    )


def pictures(page: Page, tab: int = 0) -> list[str]:
    """What each picture of a tab shows, as a hash of its bytes; the last is the histogram."""
    return page.evaluate(
        """async tab => Promise.all([...document.querySelectorAll('.flowlib')[tab].querySelectorAll('img')].map(
            async img => {
                const bytes = await (await fetch(img.src)).arrayBuffer();
                const hash = await crypto.subtle.digest('SHA-256', bytes);
                return [...new Uint8Array(hash)].slice(0, 8).join(' ');
            }))""",
        tab,
    )


def text(page: Page, tab: int = 0) -> str:
    return page.locator(".flowlib").nth(tab).inner_text()


def open_tab(page: Page, title: str) -> None:
    tab = page.locator(".lm-TabBar-tab", has_text=title)
    if "lm-mod-current" not in (tab.get_attribute("class") or ""):
        tab.click()
        time.sleep(1)  # JupyterLab moves the focus to the cell some time after a click


def settled(page: Page) -> None:
    """The first tab, once nothing is computed any more."""
    open_tab(page, "Borescope")
    page.locator(".flowlib", has_text=re.compile(r"drawn in \d+ ms")).first.wait_for()


def changed(page: Page, before: list[str], which: list[bool], tab: int = 0) -> list[str]:
    """Wait until just these pictures have changed."""
    found = before

    def so() -> bool:
        nonlocal found
        found = pictures(page, tab)
        return [a != b for a, b in zip(before, found, strict=True)] == which

    until(so, 30, lambda: f"{[a != b for a, b in zip(before, found, strict=True)]} changed, not {which}")
    while found != before:  # and wait until they stay
        time.sleep(0.5)
        before, found = found, pictures(page, tab)
    return found


def test_the_view_fits_and_is_complete(page: Page, lab: tuple[str, Path]):
    settled(page)
    page.locator(".flowlib").first.evaluate("view => view.closest('.jupyter-widget-tab').scrollIntoView()")
    screenshot(page, lab[1], "borescope")
    box = page.locator(".flowlib").first.bounding_box()
    assert box is not None
    assert box["width"] < 1400
    assert box["height"] < 770 - 36  # what JupyterLab leaves of 900, less the tabs
    scrolled = page.evaluate(
        """[...document.querySelectorAll('.flowlib, .flowlib *')].filter(e => /auto|scroll/.test(
            getComputedStyle(e).overflowX + getComputedStyle(e).overflowY) && e.clientHeight > 0 &&
            (e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1)).map(e => e.className)"""
    )
    assert scrolled == []
    said = text(page)
    for word in (
        "score",
        "threshold",
        "worst region",
        "windows in",
        "false alarms in 100 images",
        "defective",
        "no alarm",
    ):
        assert word in said
    assert len(set(pictures(page))) == 5


def test_opacity_colours_and_threshold_change_what_they_should(page: Page):
    settled(page)
    before = pictures(page)
    press(page, "opacity", "ArrowRight", 2)
    before = changed(page, before, [False, False, True, False, False])
    press(page, "colours", "ArrowRight", 3)
    before = changed(page, before, [False, True, True, False, False])
    threshold = at(page, "threshold")
    press(page, "threshold", "ArrowRight", 3)
    until(lambda: pictures(page)[4] != before[4] and at(page, "threshold") > threshold, 30)
    assert pictures(page)[:2] == before[:2]
    rate = readout(page, "false alarms")
    press(page, "false alarms", "ArrowRight", 2)
    until(lambda: readout(page, "false alarms") not in (rate, ""), 30)


def said_of_each_picture(page: Page) -> list[tuple[bool, float]]:
    """Leaf through all pictures: whether each is called normal, and its score as shown."""
    found: list[tuple[bool, float]] = []
    last = int(float(slider(page, "picture").get_attribute("aria-valuemax") or "nan"))
    caption = page.locator(".flowlib .caption").first
    press(page, "picture", "Home")
    before = ""
    for index in range(last + 1):
        until(
            lambda index=index, before=before: at(page, "picture") == index and caption.inner_text() != before,
            30,
            lambda index=index: f"at {at(page, 'picture')}, not {index}; {caption.inner_text()}; {text(page)}",
        )
        until(lambda: re.search(r"score [-\d.,]+, threshold", text(page)) is not None, 30)
        shown = re.search(r"score ([-\d.,]+), threshold", text(page))
        assert shown
        before = caption.inner_text()
        found.append((before.endswith(", normal"), float(shown[1].replace(",", ""))))
        press(page, "picture", "ArrowRight")
    press(page, "picture", "Home")
    until(lambda: at(page, "picture") == 0 and caption.inner_text() != before, 30)
    return found


def test_threshold_moves_the_verdict_and_the_counts(page: Page):
    settled(page)
    pictures_said = said_of_each_picture(page)
    assert f"labelled pictures, {len(pictures_said)} of {len(pictures_said)}" in text(page).lower()
    for key, promised in (("Home", "at most 100.0 false alarms"), ("End", "at most 20.0 false alarms")):
        press(page, "threshold", key)
        until(lambda promised=promised: promised in text(page), 30)  # 20: what four normal pictures below it can tell
        settled(page)
        shown = re.search(r"threshold ([-\d.,]+)", page.locator(".flowlib .numbers", has_text="threshold").inner_text())
        assert shown
        threshold = float(shown[1].replace(",", ""))
        for row, normal in ((1, False), (2, True)):
            scores = [score for is_normal, score in pictures_said if is_normal == normal]
            near = sum(abs(score - threshold) <= 0.01 * abs(threshold) for score in scores)  # rounded when shown
            assert abs(count(page, row, 0) - sum(score > threshold for score in scores)) <= near
            assert count(page, row, 0) + count(page, row, 1) == len(scores)
        first = pictures_said[0][1]
        if abs(first - threshold) > 0.01 * abs(threshold):
            assert page.locator(".flowlib .verdict").inner_text() == ("ANOMALOUS" if first > threshold else "normal")


def test_redraw_is_quick(page: Page, lab: tuple[str, Path]):
    """In the kernel the median is told below the pictures; in the browser it is from key to new picture."""
    settled(page)
    took = {}
    for name, picture in (("opacity", 2), ("threshold", 4)):
        page.evaluate(
            """picture => { window.drawn = []; const img = document.querySelectorAll('.flowlib img')[picture];
                if (window.watch) window.watch.disconnect();
                const seen = () => img.decode().then(() => window.drawn.push(performance.now()));
                window.watch = new MutationObserver(seen);
                window.watch.observe(img, {attributes: true, attributeFilter: ['src']}) }""",
            picture,
        )
        times = []
        press(page, name, "Home")
        time.sleep(0.5)
        for _ in range(12):
            drawn = page.evaluate("window.drawn.length")
            slider(page, name).focus()
            began = page.evaluate("performance.now()")
            page.keyboard.press("ArrowRight")
            until(lambda drawn=drawn: page.evaluate("window.drawn.length") > drawn, 10)
            times.append(page.evaluate("window.drawn.at(-1)") - began)
        took[name] = statistics.median(times)
    found = re.search(r"drawn in (\d+) ms", text(page))
    assert found
    print(f"\nkernel {found[1]} ms; browser, key to picture: {', '.join(f'{n} {t:.0f} ms' for n, t in took.items())}")
    assert int(found[1]) < 100
    assert max(took.values()) < 1000  # a loaded machine may be slow


def test_a_stride_shows_progress_and_gives_way_to_the_next(page: Page):
    settled(page)
    before = pictures(page)
    slider(page, "stride (px)").focus()
    page.keyboard.press("Home")  # 8, the slowest
    page.locator(".flowlib", has_text=re.compile(r"(patches|pictures) \d+/\d+")).first.wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    until(lambda: "stride 32" in text(page) and "patches in" in text(page), 60)
    settled(page)
    after = pictures(page)
    assert before[1] != after[1]
    assert before[0] == after[0]
    page.keyboard.press("End")  # dense, kept
    until(lambda: "dense" in text(page) and "windows in" in text(page), 30)
    until(lambda: pictures(page)[1] == before[1], 30)
    press(page, "window (px)", "ArrowRight")
    until(lambda: pictures(page)[1] != before[1], 60)


def test_model_score_and_picture_can_be_chosen(page: Page, lab: tuple[str, Path]):
    settled(page)
    before = pictures(page)
    for model, unit in (
        ("Glow by viewpoint", "nats"),
        ("autoencoder", "squared error"),
        ("flowlib fit", "normal widths"),
    ):
        choose(page, "model", model)
        until(lambda unit=unit: unit in page.locator(".flowlib .caption").nth(1).inner_text(), 60)
        settled(page)
    until(lambda: "pixels in" in text(page), 60)
    detector = pictures(page)
    choose(page, "score", "typicality")
    until(lambda: pictures(page)[1] != detector[1], 60)
    press(page, "picture", "ArrowRight", 3)
    until(lambda: pictures(page)[0] != before[0], 60)
    settled(page)
    screenshot(page, lab[1], "flowlib_fit")


def test_a_folder_of_ones_own(page: Page, lab: tuple[str, Path]):
    frames = next((lab[1] / "data" / "borescope").glob("frames_*")) / "train"
    choose(page, "source", "folder")
    field = page.locator(".widget-text", has=page.locator("label:text-is('path')")).locator("input")
    field.fill(str(lab[1] / "nowhere"))
    field.press("Enter")
    page.locator(".flowlib", has_text="nowhere is missing").first.wait_for()
    field.fill(str(frames))
    field.press("Enter")
    page.locator(".flowlib .caption", has_text="good/blade_").first.wait_for()
    assert "not known" in text(page)
    video = next((lab[1] / "data" / "borescope").glob("videos_*/test/*/*.mp4"))
    choose(page, "source", "video")
    field.fill(str(video))
    field.press("Enter")
    page.locator(".flowlib .caption", has_text=video.name).first.wait_for()
    choose(page, "source", "simulated test frames")
    page.locator(".flowlib .caption", has_text=re.compile("^image ?blade ")).first.wait_for()


def test_save_writes_picture_and_settings_that_can_be_read(page: Page, lab: tuple[str, Path]):
    settled(page)
    page.locator(".flowlib button", has_text="Save").click()
    page.locator(".flowlib", has_text="saved in reports/explorer").first.wait_for()
    folder = lab[1] / "reports" / "explorer"
    (picture,), (settings,) = folder.glob("*.png"), folder.glob("*.score.yaml")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.name in text(page)
    assert set(yaml.safe_load(settings.read_text())) == {"map", "way", "false_alarm_rate"}


def test_a_square_goes_where_sliders_and_clicks_put_it(page: Page, lab: tuple[str, Path]):
    open_tab(page, "Squares on shirts")
    tab = page.locator(".flowlib").nth(1)
    tab.locator("img").first.wait_for()
    for name in ("size (px)", "grey level", "column", "row"):
        before = pictures(page, 1)
        press(page, name, "ArrowLeft", 2)
        until(lambda before=before: all(a != b for a, b in zip(before[:3], pictures(page, 1), strict=False)), 30)
    before = pictures(page, 1)
    box = tab.locator("img").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 20.5 * box["width"] / 28, box["y"] + 8.5 * box["height"] / 28)
    until(lambda: (at(page, "column"), at(page, "row")) == (19, 7), 30)  # the middle of a square of 2
    assert pictures(page, 1) != before
    before = pictures(page, 1)
    press(page, "shirt", "ArrowRight", 2)
    until(lambda: pictures(page, 1)[0] != before[0], 30)
    assert "nats" in text(page, 1)
    screenshot(page, lab[1], "squares")
    press(page, "size (px)", "Home")
    page.locator(".flowlib", has_text="no square").nth(0).wait_for()
