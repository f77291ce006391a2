"""A notebook in a real JupyterLab shows every figure that it saves."""

from pathlib import Path

from browser.lab import opened, run_all

SHOWN = """() => {
    const outputs = [...document.querySelectorAll('.jp-Notebook .jp-OutputArea')];
    const images = outputs.flatMap(output => [...output.querySelectorAll('img')]);
    return {
        pictures: images.filter(image => image.complete && image.naturalWidth > 0 && image.clientWidth > 0).length,
        text: outputs.map(output => output.innerText).join('\\n'),
    };
}"""


def test_as_many_pictures_are_shown_as_figures_are_saved(tmp_path: Path):
    with opened(tmp_path, "03_small_squares") as page:
        run_all(page)
        saved = list((tmp_path / "reports" / "smoke" / "figures").glob("*.png"))
        assert len(saved) > 3
        page.wait_for_function(f"saved => ({SHOWN})().pictures >= saved", arg=len(saved))
        shown = page.evaluate(SHOWN)
        assert shown["pictures"] == len(saved)
        for wrong in ("<Figure", "Traceback"):
            assert wrong not in shown["text"]
