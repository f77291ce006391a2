"""The page of a scored folder in a real Chromium, from a file and without a network, as an inspector works through it.

Without the browser this fails where ``CI`` is set, as in ``.ci/run``, and is skipped elsewhere.
"""

import csv
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser.lab import CHROMIUM, PATIENCE
from inspection.made_up_results import ODD, results
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

expect.set_options(timeout=1000 * PATIENCE)
VIDEOS = {"burn/b1.mp4": "flag", "good/b2.mp4": "pass", "crack/b3.mp4": "look", ODD: "flag", "good/zero.mp4": "unread"}
IMAGES = {"photos/p1.png": "pass", "photos/p2.png": "flag", "photos/p3.png": "look", "photos/p4.png": "unread"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        message = "no chromium on PATH: install it (Debian: apt-get install chromium)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def context_of(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    """A context that waits as long as a slow and busy machine may take."""
    with browser.new_context(**options) as context:
        context.set_default_timeout(1000 * PATIENCE)
        yield context


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As on a USB stick: moved away from where it was written."""
    made = results(tmp_path_factory.mktemp("made") / "results", VIDEOS, IMAGES).parent
    return Path(shutil.move(made, tmp_path_factory.mktemp("stick") / "moved results"))


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    with context_of(browser, viewport={"width": 1280, "height": 900}, offline=True) as context:
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("requestfailed", lambda request: faults.append(request.url))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "blob:")) else faults.append(request.url),
        )
        page.goto((folder / "index.html").as_uri())
        yield page
        assert not faults


def shown(page: Page) -> list[str]:
    return page.eval_on_selector_all(".card:not([hidden])", "cards => cards.map(card => card.dataset.file)")


def test_the_worst_come_first_and_everything_is_said(page: Page) -> None:
    files = shown(page)
    assert set(files[:2]) == {ODD, "burn/b1.mp4"}
    assert files[2:5] == ["crack/b3.mp4", "good/zero.mp4", "good/b2.mp4"], "what could not be read before what passes"
    assert files[5:] == ["photos/p2.png", "photos/p3.png", "photos/p4.png", "photos/p1.png"]
    text = page.locator("body").inner_text()
    for words in ("/data/engines <b>2024</b>", "map 'features'", "at most 0.05 of good videos", "there were 4 <i>",
                  "is empty (0 bytes)", "of good videos at most 2.5 % score as high"):  # fmt: skip
        assert words in text
    assert ODD in text, "names are text, not markup"
    first = page.locator(".card").first
    assert 3 <= first.locator(".shot").count() <= 5
    assert "1.60 s, frame 16, score" in text or "1.50 s, frame 15, score" in text
    expect(first.get_by_role("img", name="Score of 30 frames over 2.9 s")).to_be_visible()
    for image in page.locator(".card .shot img").all():
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.naturalWidth") > 100


def test_filters(page: Page) -> None:
    page.get_by_role("button", name="pass").click()
    page.get_by_role("button", name="not read").click()
    assert set(shown(page)) == {ODD, "burn/b1.mp4", "crack/b3.mp4", "photos/p2.png", "photos/p3.png"}
    expect(page.locator("#shown")).to_have_text("5 of 9 shown")
    page.get_by_label("folder", exact=True).select_option("photos")
    assert shown(page) == ["photos/p2.png", "photos/p3.png"]
    expect(page.get_by_role("heading", name="Videos")).to_be_hidden()
    page.get_by_label("label", exact=True).select_option("crack")
    expect(page.get_by_text("Nothing is left by these filters")).to_be_visible()
    page.get_by_label("folder", exact=True).select_option("*")
    assert shown(page) == ["crack/b3.mp4"]


def test_an_inspector_works_through_it_with_keys_and_saves_the_marks(page: Page, tmp_path: Path) -> None:
    for key in ("j", "1", "j", "2"):
        page.keyboard.press(key)
    page.keyboard.press("n")
    page.keyboard.type('a lamp, "see" photo 2')  # keys of a note are no commands
    page.keyboard.press("Enter")
    for key in ("j", "3", "j", "1", "1", "k"):
        page.keyboard.press(key)
    assert page.locator("#current").inner_text() == "crack/b3.mp4"
    files = shown(page)
    page.reload()
    assert page.locator(".card .mark").all_inner_texts()[:4] == ["confirmed", "false alarm", "unsure", ""]
    page.get_by_label("mark", exact=True).select_option("")
    assert shown(page) == files[3:], "what is left to do"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save marks").click()
    assert download.value.suggested_filename == "marks.csv"
    download.value.save_as(tmp_path / "marks.csv")
    with (tmp_path / "marks.csv").open(newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    assert [(row["file"], row["mark"], row["note"]) for row in rows] == [
        (files[0], "confirmed", ""), (files[1], "false alarm", 'a lamp, "see" photo 2'), (files[2], "unsure", ""),
    ]  # fmt: skip
    assert {row["folder"] for row in rows} == {"/data/engines <b>2024</b>"}
    assert [row["state"] for row in rows] == ["flag", "flag", "look"]


def test_the_full_picture_and_what_lies_under_the_map(page: Page) -> None:
    viewer = page.get_by_role("region", name="Full picture")
    page.locator(".card").nth(1).locator(".shot").nth(1).click()
    expect(viewer).to_be_visible()
    image = viewer.locator("img")
    assert "/overlays/" in (image.get_attribute("src") or "")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") in (480, 640)
    page.keyboard.press("m")
    assert "/plain/" in (image.get_attribute("src") or "")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") in (480, 640)
    caption = viewer.locator("figcaption")
    before = caption.inner_text()
    page.keyboard.press("ArrowRight")
    assert caption.inner_text() != before
    page.keyboard.press("ArrowDown")
    assert "crack/b3.mp4" in caption.inner_text()
    page.keyboard.press("2")
    expect(page.locator(".card").nth(2).locator(".mark")).to_have_text("false alarm")
    page.keyboard.press("ArrowDown")
    expect(caption).to_have_text("No picture: good/zero.mp4")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()


def test_by_keyboard_alone(page: Page) -> None:
    """Everything that can be clicked can be reached, is named, and shows where one is."""
    names = []
    for _ in range(60):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => { const e = document.activeElement; return e === document.body ? null : [
                e.getAttribute('aria-label') || e.innerText || (e.labels && e.labels[0].innerText) || '',
                getComputedStyle(e).outlineStyle] }"""
        )
        if found is None:
            break
        names.append(found[0].strip())
        assert names[-1]
        assert found[1] != "none"
    assert any("frame" in name for name in names)
    assert "Save marks (CSV)" in names
    page.locator(".shot").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()


def test_text_stands_out(page: Page) -> None:
    """WCAG's contrast of 4.5 for every text that is seen, against the nearest ground behind it."""
    faint = page.evaluate(
        """() => {
            const parts = colour => colour.match(/[\\d.]+/g).map(Number);
            const light = colour => parts(colour).slice(0, 3).map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
                if ((parts(c)[3] ?? 1) > 0) return c; } return 'rgb(255, 255, 255)'; };
            return [...document.querySelectorAll('body *')]
                .filter(e => e.checkVisibility() && !e.disabled && !e.closest('svg, select') &&
                [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => {
                const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
                return [(a + 0.05) / (b + 0.05), e.outerHTML.slice(0, 80)]; }).filter(pair => pair[0] < 4.5);
        }"""
    )
    assert faint == []


@pytest.mark.parametrize("width", [1280, 1920])
def test_nothing_runs_over_the_edge(page: Page, folder: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if where := os.environ.get("FLOWLIB_SCREENSHOTS"):
        Path(where).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(where) / f"inspection_{width}.png")


def test_it_prints_what_is_shown_with_room_for_a_signature(page: Page) -> None:
    page.get_by_role("button", name="pass").click()
    page.emulate_media(media="print")
    expect(page.get_by_text("signature")).to_be_visible()
    for gone in ("#bar", ".filters"):
        expect(page.locator(gone)).to_be_hidden()
    expect(page.get_by_text("good/b2.mp4")).to_be_hidden()
    assert len(page.pdf(format="A4")) > 10_000


def test_without_a_script_it_can_still_be_read(browser: Browser, folder: Path) -> None:
    with context_of(browser, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto((folder / "index.html").as_uri())
        assert page.locator(".card").count() == len(VIDEOS) + len(IMAGES)
        page.locator(".shot").first.click()
        assert "/overlays/" in page.url


def test_five_thousand_images_do_not_stall_it(browser: Browser, tmp_path: Path) -> None:
    """Few of their pictures are asked for before they come into view, also by a filter, and keys answer."""
    files = {f"part_{i:04}.png": ("flag", "look", "pass", "pass")[i % 4] for i in range(5000)}
    index = results(tmp_path, {}, files, pictures=False)
    with context_of(browser, viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(index.as_uri())
        expect(page.locator("#shown")).to_have_text("5000 of 5000 shown")
        assert len([url for url in asked if url.endswith(".jpg")]) < 300
        page.locator(".chip.pass").click()
        expect(page.locator("#shown")).to_have_text("2500 of 5000 shown")
        assert len([url for url in asked if url.endswith(".jpg")]) < 600, "a screen of each, and what is near it"
        page.keyboard.press("j")
        page.keyboard.press("1")
        expect(page.locator(".card .mark").first).to_have_text("confirmed")
