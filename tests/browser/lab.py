"""A JupyterLab of a test's own, and one notebook in it, opened in Chromium and run to its end.

What a test compares it reads of one moment: `seen` asks the page, in one call, for all of its state, until that state
is as it should be.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, sync_playwright

from flowlib.runtime.download import ensure
from flowlib.runtime.paths import ROOT
from flowlib.study import parameters, runner

TOKEN = "explorer"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 300  # seconds: how long nothing may change on a slow and busy machine before it counts as broken
SETTINGS = {  # of JupyterLab, by plugin
    "notebook-extension/tracker": {"windowingMode": "none"},  # else a page holds the cells in sight alone
}
STATUS = re.compile(r"Python 3.*\| Idle")


@contextmanager
def opened(root: Path, name: str) -> Iterator[Page]:
    """The notebook `name` at profile smoke, in a browser, about to be run; its data and reports go to `root`."""
    if CHROMIUM is None:
        message = "no chromium on PATH: install it (Debian: apt-get install chromium)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with served(root, name) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(1000 * PATIENCE)
        try:
            page.goto(f"{address}/lab/tree/notebooks/{name}.ipynb?token={TOKEN}")
            idle(page)  # a notebook without a kernel yet would ask for one
            page.evaluate("document.addEventListener('keydown', event => { window.heard = event.target }, true)")
            page.keyboard.press("Control+b")  # the file browser
            yield page
        finally:
            screenshot(page, root, f"{name}_at_the_end")
            browser.close()


@contextmanager
def served(root: Path, name: str) -> Iterator[str]:
    """The address of a JupyterLab that serves a copy of a notebook and of the data."""
    data, config = root / "data", root / "config"
    data.mkdir()
    shutil.copy(ROOT / "data" / "manifest.json", data)
    (data / "fashion-mnist").symlink_to(ensure("fashion-mnist").resolve())
    (root / "notebooks" / "profiles").mkdir(parents=True)
    copy_notebook(name, root / "notebooks" / f"{name}.ipynb")
    (config / "labconfig").mkdir(parents=True)
    news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (config / "labconfig" / "page_config.json").write_text(json.dumps(news))
    own = {
        name: str(root / "jupyter" / name)
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    }
    for plugin, values in SETTINGS.items():
        file = Path(own["JUPYTERLAB_SETTINGS_DIR"], "@jupyterlab", f"{plugin}.jupyterlab-settings")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    own |= {"JUPYTER_CONFIG_DIR": str(config), "IPYTHONDIR": str(root / "ipython"), "FLOWLIB_DATA": str(data)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
        until(lambda: answers(f"{address}/api?token={TOKEN}"), lambda: (root / "lab.log").read_text()[-2000:])
        yield address
    finally:
        runner.kill_tree(server)  # kernels too


def copy_notebook(name: str, target: Path) -> None:
    """The notebook with the values of profile smoke as its defaults, and live."""
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    (planned,) = parameters.plan("smoke", [name])
    values = planned.declared | planned.given | {"report_dir": "reports/smoke"}
    values |= {"live": True} if "live" in values else {}
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


def until(
    true: Callable[[], object], why: Callable[[], object] = lambda: "", sign: Callable[[], object] = lambda: None
) -> None:
    """Ask until something is true. As long as `sign` changes, it may take any time."""
    end, last = time.monotonic() + PATIENCE, sign()
    while not true():
        if (now := sign()) != last:
            end, last = time.monotonic() + PATIENCE, now
        assert time.monotonic() < end, f"nothing happened in {PATIENCE} s {why()}"
        time.sleep(0.05)


NOTEBOOK = "() => document.querySelector('.jp-Notebook').textContent"
ALL_RAN = """() => {
    const cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')];
    const ran = cells.filter(cell => /\\[\\d+\\]/.test(cell.querySelector('.jp-InputPrompt').innerText));
    return cells.length > 0 && ran.length === cells.length ||
        cells.some(cell => cell.innerText.includes('Traceback'));
}"""


def run_all(page: Page) -> None:
    """Run all cells to the last, or to one that fails: progress bars and outputs are signs that it goes on."""
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
    until(lambda: page.evaluate(ALL_RAN), sign=lambda: page.evaluate(NOTEBOOK))
    idle(page)


def idle(page: Page) -> None:
    page.locator("#jp-main-statusbar", has_text=STATUS).wait_for()


def screenshot(page: Page, root: Path, name: str) -> None:
    folder = Path(os.environ.get("FLOWLIB_SCREENSHOTS", root / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


# --- the explorer's widgets, read and used ---------------------------------------------------------------------------

READ = """async number => {
    const tab = document.querySelectorAll('.flowlib')[number];
    const label = row => row.querySelector('label')?.innerText ?? '';
    const read = () => {
        const rows = [...tab.querySelectorAll('.widget-hslider')];
        return {
            busy: document.querySelector('#jp-main-statusbar').innerText,
            text: tab.innerText,
            at: Object.fromEntries(rows.map(row =>
                [label(row), Number(row.querySelector('.noUi-handle')?.getAttribute('aria-valuenow'))])),
            last: Object.fromEntries(rows.map(row =>
                [label(row), Number(row.querySelector('.noUi-handle')?.getAttribute('aria-valuemax'))])),
            readout: Object.fromEntries(rows.map(row => [label(row), row.querySelector('.widget-readout')?.innerText])),
            counts: [...tab.querySelectorAll('table.counts tr')].map(row =>
                [...row.querySelectorAll('td')].map(cell => Number(cell.innerText))),
            captions: [...tab.querySelectorAll('.caption')].map(caption => caption.innerText),
            verdict: tab.querySelector('.verdict')?.innerText,
            sources: [...tab.querySelectorAll('img')].map(img => img.src),
        };
    };
    const before = read();
    try {
        before.pictures = await Promise.all(before.sources.map(async source => {
            const hash = await crypto.subtle.digest('SHA-256', await (await fetch(source)).arrayBuffer());
            return [...new Uint8Array(hash)].slice(0, 8).join(' ');
        }));
    } catch { return null }  // a picture was replaced
    const {pictures, ...rest} = before;
    return JSON.stringify(rest) == JSON.stringify(read()) ? before : null;
}"""  # what a tab shows at one moment; null where it changed while its pictures were read


def seen(page: Page, true: Callable[[dict[str, Any]], object], tab: int = 0) -> dict[str, Any]:
    """Ask for what a tab shows until nothing is computed any more and `true` holds of it; what was shown then.

    busy: the status bar. text: all of it. at, last, readout: by slider. counts: rows of the table. captions, verdict.
    pictures: what each shows, as a hash of its bytes; the last is the histogram.
    """
    state: dict[str, Any] | None = None

    def so() -> object:
        nonlocal state
        state = page.evaluate(READ, tab)
        return state is not None and quiet(state, tab) and true(state)

    until(so, lambda: f"that was awaited; seen last: {state}")
    assert state is not None
    return state


def quiet(state: dict[str, Any], tab: int) -> bool:
    """Whether the kernel has nothing to do, and no thread in it."""
    return bool(STATUS.search(state["busy"]) and (tab > 0 or re.search(r"drawn in \d+ ms", state["text"])))


def slider(page: Page, name: str) -> Locator:
    """The handle of a slider, the first of a range, by its description."""
    row = page.locator(".widget-hslider", has=page.locator(f"label:text-is('{name}')"))
    return row.locator(".noUi-handle").first


def press(page: Page, name: str, key: str) -> None:
    """Press a key on a slider, once: JupyterLab may take the focus away some time after a click, and get the key."""
    handle = slider(page, name)
    while True:
        handle.press(key)
        if handle.evaluate("handle => window.heard === handle"):
            return


def choose(page: Page, name: str, option: str) -> None:
    row = page.locator(".widget-dropdown", has=page.locator(f"label:text-is('{name}')"))
    row.locator("select").select_option(option)


def open_tab(page: Page, title: str) -> None:
    tab = page.locator(".lm-TabBar-tab", has_text=title)
    if "lm-mod-current" not in (tab.get_attribute("class") or ""):
        tab.click()
