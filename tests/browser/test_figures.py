"""A notebook in a real JupyterLab shows every figure that it saves."""

from pathlib import Path

from browser.lab import idle, opened, run_all

SHOWN = """() => {
    const outputs = [...document.querySelectorAll('.jp-Notebook .jp-OutputArea')];
    const images = outputs.flatMap(output => [...output.querySelectorAll('img')]);
    return {
        pictures: images.filter(image => image.complete && image.naturalWidth > 0 && image.clientWidth > 0).length,
        text: outputs.map(output => output.innerText).join('\\n'),
    };
}"""
ALL_RAN = """() => {
    const cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')];
    const ran = cells.filter(cell => /\\[\\d+\\]/.test(cell.querySelector('.jp-InputPrompt').innerText));
    return cells.length > 0 && ran.length === cells.length ||
        cells.some(cell => cell.innerText.includes('Traceback'));
}"""


def test_as_many_pictures_are_shown_as_figures_are_saved(tmp_path: Path):
    with opened(tmp_path, "03_small_squares") as page:
        run_all(page)
        page.wait_for_function(ALL_RAN)
        idle(page)
        saved = list((tmp_path / "reports" / "smoke" / "figures").glob("*.png"))
        assert len(saved) > 3
        page.wait_for_function(f"saved => ({SHOWN})().pictures >= saved", arg=len(saved))
        shown = page.evaluate(SHOWN)
        assert shown["pictures"] == len(saved)
        for wrong in ("<Figure", "Traceback"):
            assert wrong not in shown["text"]
