"""The explorer in a real JupyterLab and a real Chromium, used as a person would: mouse, keys, and eyes for pictures.

Without the browser this fails where ``CI`` is set, as in ``.ci/run``, and is skipped elsewhere.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser.lab import choose, open_tab, opened, press, run_all, screenshot, seen, until
from playwright.sync_api import Page

UNITS = {"Glow": "nats", "Glow by viewpoint": "nats", "autoencoder": "squared error", "flowlib fit": "normal widths"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def page(root: Path) -> Iterator[Page]:
    """The notebook, opened and run to its end."""
    with opened(root, "07_explorer") as page:
        run_all(page)
        assert page.locator(".jp-OutputArea-output", has_text="Traceback").all_inner_texts() == []
        page.locator(".flowlib .verdict").first.wait_for(state="attached")
        yield page


def settled(page: Page) -> dict[str, Any]:
    """The first tab, once nothing is computed any more."""
    open_tab(page, "Borescope")
    return seen(page, lambda now: True)


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[bool]:
    """Which pictures are others."""
    return [a != b for a, b in zip(before["pictures"], now["pictures"], strict=True)]


def number(pattern: str, text: str) -> float:
    """The number in the brackets of a pattern, NaN where it is not there."""
    found = re.search(pattern, text)
    return float(found[1].replace(",", "")) if found else float("nan")


def test_the_view_fits_and_is_complete(page: Page, root: Path):
    settled(page)
    page.locator(".flowlib").first.evaluate("view => view.closest('.jupyter-widget-tab').scrollIntoView()")
    screenshot(page, root, "borescope")
    width, height, scrolled = page.evaluate(
        """() => {
            const box = document.querySelector('.flowlib').getBoundingClientRect();
            const parts = [...document.querySelectorAll('.flowlib, .flowlib *')];
            return [box.width, box.height, parts.filter(e => /auto|scroll/.test(
                getComputedStyle(e).overflowX + getComputedStyle(e).overflowY) && e.clientHeight > 0 &&
                (e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1)).map(e => e.className)];
        }"""
    )
    assert width < 1400
    assert height < 770 - 36  # what JupyterLab leaves of 900, less the tabs
    assert scrolled == []
    now = settled(page)
    for word in (
        "score",
        "threshold",
        "worst region",
        "windows in",
        "false alarms in 100 images",
        "defective",
        "no alarm",
    ):
        assert word in now["text"]
    assert len(set(now["pictures"])) == 5


def test_opacity_and_colours_change_what_they_should(page: Page):
    before = settled(page)
    press(page, "opacity", "ArrowRight")
    before = seen(page, lambda now: changes(before, now) == [False, False, True, False, False])
    press(page, "colours", "ArrowRight")
    seen(page, lambda now: changes(before, now) == [False, True, True, False, False])


@pytest.mark.parametrize("model", ["autoencoder", "flowlib fit", "Glow"])
def test_an_arrow_key_moves_the_threshold_by_one_step_and_there_it_stays(page: Page, model: str):
    before = settled(page)
    choose(page, "model", model)
    before = seen(page, lambda now: UNITS[model] in now["captions"][1] and changes(before, now)[4])
    start = before["at"]["threshold"]
    for key, place, other in (
        ("ArrowRight", start + 1, "ArrowLeft"),
        ("ArrowLeft", start, "ArrowRight"),
        ("ArrowLeft", start - 1, "ArrowLeft"),
    ):
        press(page, "threshold", key)
        moved = seen(page, lambda now, was=before: changes(was, now)[4])
        assert moved["at"]["threshold"] == place
        assert moved["readout"]["threshold"] != before["readout"]["threshold"]
        press(page, "opacity", other)  # heard after all that the browser may have sent back
        before = seen(page, lambda now, was=moved: changes(was, now)[2])
        assert before["at"]["threshold"] == place
        assert changes(moved, before) == [False, False, True, False, False]


def test_threshold_and_false_alarms_move_each_other(page: Page):
    before = settled(page)
    press(page, "threshold", "Home")
    now = seen(page, lambda now: now["at"]["threshold"] == 0 and "at most 100.0 false alarms" in now["text"])
    assert changes(before, now)[:2] == [False, False]
    assert now["at"]["false alarms"] == now["last"]["false alarms"]
    press(page, "false alarms", "Home")
    now = seen(page, lambda now: now["at"]["false alarms"] == 0 and "at most 100.0 false alarms" not in now["text"])
    assert 0 < now["at"]["threshold"] < now["last"]["threshold"]


def said_of_each_picture(page: Page) -> list[tuple[bool, float]]:
    """Leaf through all pictures: whether each is called normal, and its score as shown."""
    found: list[tuple[bool, float]] = []
    press(page, "picture", "Home")
    now: dict[str, Any] = {"captions": [""]}
    for index in range(int(settled(page)["last"]["picture"]) + 1):
        now = seen(
            page,
            lambda new, index=index, before=now["captions"][0]: (
                new["at"]["picture"] == index
                and new["captions"][0] != before
                and re.search(r"score [-\d.,]+, threshold", new["text"])
            ),
        )
        found.append((now["captions"][0].endswith(", normal"), number(r"score ([-\d.,]+), threshold", now["text"])))
        press(page, "picture", "ArrowRight")
    press(page, "picture", "Home")
    seen(page, lambda new: new["at"]["picture"] == 0 and new["captions"][0] != now["captions"][0])
    return found


def test_threshold_moves_the_verdict_and_the_counts(page: Page):
    """Rounded as it is shown, the threshold tells on which side a score lies but for those within one in a hundred."""
    settled(page)
    said = said_of_each_picture(page)

    def agrees(now: dict[str, Any], promised: str) -> bool:
        """What is shown at one moment: the promise, the counts and the verdict that go with the threshold."""
        threshold = number(r"threshold ([-\d.,]+)", now["text"].split("score ")[-1])
        right = promised in now["text"] and len(now["counts"]) == 3 and threshold == threshold
        for row, normal in ((1, False), (2, True)) if right else ():
            scores = [score for is_normal, score in said if is_normal == normal]
            near = sum(abs(score - threshold) <= 0.01 * abs(threshold) for score in scores)
            above, below = now["counts"][row]
            right &= abs(above - sum(score > threshold for score in scores)) <= near and above + below == len(scores)
        first = said[0][1]
        if right and abs(first - threshold) > 0.01 * abs(threshold):
            right &= now["verdict"] == ("ANOMALOUS" if first > threshold else "normal")
        return right

    all_of_them = f"labelled pictures, {len(said)} of {len(said)}"
    seen(page, lambda now: all_of_them in now["text"].lower())
    for key, promised in (("Home", "at most 100.0 false alarms"), ("End", "at most 20.0 false alarms")):
        press(page, "threshold", key)
        seen(page, lambda now, promised=promised: agrees(now, promised))  # 20: what four normal pictures can tell


def test_a_stride_shows_progress_and_gives_way_to_the_next(page: Page):
    before = settled(page)
    page.evaluate(
        """() => { window.told = []; const tab = document.querySelector('.flowlib');
            new MutationObserver(() => window.told.push(tab.innerText)).observe(
                tab, {childList: true, characterData: true, subtree: true}) }"""
    )
    press(page, "stride (px)", "Home")  # 8, the slowest
    page.wait_for_function(r"window.told.some(text => /(patches|pictures) \d+\/\d+/.test(text))")
    press(page, "stride (px)", "ArrowRight")
    press(page, "stride (px)", "ArrowRight")
    now = seen(page, lambda new: "stride 32" in new["text"] and "patches in" in new["text"])
    assert changes(before, now)[:2] == [False, True]
    press(page, "stride (px)", "End")  # dense, kept
    now = seen(
        page,
        lambda new: "dense" in new["text"] and "windows in" in new["text"] and not changes(before, new)[1],
    )
    press(page, "window (px)", "ArrowRight")
    seen(page, lambda new: changes(now, new)[1])


def test_model_score_and_picture_can_be_chosen(page: Page, root: Path):
    before = settled(page)
    for model, unit in UNITS.items():
        choose(page, "model", model)
        now = seen(page, lambda new, unit=unit: unit in new["captions"][1])
    assert "pixels in" in now["text"]
    press(page, "picture", "ArrowRight")
    seen(page, lambda new: changes(before, new)[0])
    screenshot(page, root, "flowlib_fit")


def test_a_folder_of_ones_own(page: Page, root: Path):
    settled(page)
    frames = next((root / "data" / "borescope").glob("frames_*")) / "train"
    choose(page, "source", "folder")
    field = page.locator(".widget-text", has=page.locator("label:text-is('path')")).locator("input")
    field.fill(str(root / "nowhere"))
    field.press("Enter")
    page.locator(".flowlib", has_text="nowhere is missing").first.wait_for()
    field.fill(str(frames))
    field.press("Enter")
    now = seen(page, lambda new: "good/blade_" in new["captions"][0])
    assert "not known" in now["text"]
    video = next((root / "data" / "borescope").glob("videos_*/test/*/*.mp4"))
    choose(page, "source", "video")
    field.fill(str(video))
    field.press("Enter")
    seen(page, lambda new: video.name in new["captions"][0])
    choose(page, "source", "simulated test frames")
    seen(page, lambda new: re.match("image ?\n?blade ", new["captions"][0]))


def test_save_writes_picture_and_settings_that_can_be_read(page: Page, root: Path):
    settled(page)
    page.locator(".flowlib button", has_text="Save").click()
    now = seen(page, lambda new: "saved in reports/explorer" in new["text"])
    folder = root / "reports" / "explorer"
    (picture,), (settings,) = folder.glob("*.png"), folder.glob("*.score.yaml")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.name in now["text"]
    assert set(yaml.safe_load(settings.read_text())) == {"false_alarm_rate"}


def test_a_square_goes_where_sliders_and_clicks_put_it(page: Page, root: Path):
    open_tab(page, "Squares on shirts")
    picture = page.locator(".flowlib").nth(1).locator("img").first
    picture.wait_for()
    now = seen(page, lambda new: True, tab=1)
    for name in ("size (px)", "size (px)", "grey level", "column", "row"):
        press(page, name, "ArrowLeft")
        now = seen(page, lambda new, before=now: all(changes(before, new)[:3]), tab=1)
    until(lambda: picture.bounding_box() is not None)
    box = picture.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 20.5 * box["width"] / 28, box["y"] + 8.5 * box["height"] / 28)
    before = now
    now = seen(
        page,
        lambda new: (new["at"]["column"], new["at"]["row"]) == (19, 7) and any(changes(before, new)),
        tab=1,
    )  # the middle of a square of 2
    press(page, "column", "ArrowLeft")
    seen(page, lambda new: new["at"]["column"] == 18, tab=1)
    page.mouse.click(box["x"] + 20.5 * box["width"] / 28, box["y"] + 8.5 * box["height"] / 28)  # there again
    now = seen(page, lambda new: new["at"]["column"] == 19, tab=1)
    press(page, "shirt", "ArrowRight")
    now = seen(page, lambda new, before=now: changes(before, new)[0], tab=1)
    assert "nats" in now["text"]
    screenshot(page, root, "squares")
    press(page, "size (px)", "Home")
    seen(page, lambda new: "no square" in new["text"], tab=1)
