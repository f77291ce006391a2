"""The explorer's logic, with tiny untrained models: what is made, kept, read off, cancelled and written."""

import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import PATIENCE
from PIL import Image

from flowlib.autoencoders import ConvAutoencoder
from flowlib.detector.patches import dense_map, patch_map
from flowlib.explorer import borescope_tab, models, panels, pictures, shirts_tab
from flowlib.explorer.background import Background, Cancelled
from flowlib.explorer.models import Shirts, Square
from flowlib.explorer.pictures import ExplorerError, Picture
from flowlib.explorer.sheets import read_view, save, settings_yaml, view_yaml
from flowlib.explorer.state import DENSE, Explorer, Region, View
from flowlib.glow import Glow
from flowlib.inspection.media import MediaError
from flowlib.inspection.scan import read_settings
from flowlib.metrics import conformal_threshold
from flowlib.training import score, to_numpy


def nothing(*_: Any) -> None:
    pass


def picture(number: int, label: str | None = None, mark: int = 0) -> Picture:
    """Noise, with a bright square of `mark` pixels at row 20, column 40."""
    image = np.random.default_rng(number).integers(60, 120, (1, 64, 96), dtype=np.uint8)
    image[:, 20 : 20 + mark, 40 : 40 + mark] = 255
    mask = np.zeros((64, 96), dtype=bool)
    mask[20 : 20 + mark, 40 : 40 + mark] = True
    return Picture(f"picture {number}", image, label, mask if mark else None, number % 2)


@pytest.fixture(scope="module")
def flow() -> Glow:
    torch.manual_seed(0)
    model = Glow((1, 32, 32), levels=2, steps=1, hidden_channels=4)
    model.initialise(torch.from_numpy(np.stack([picture(n).image[:, :32, :32] for n in range(8)])))
    return model.eval()


@pytest.fixture(scope="module")
def autoencoder() -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    state = ConvAutoencoder((1, 32, 32)).state_dict()
    return {f"model.{name}": to_numpy(value) for name, value in state.items()}


@pytest.fixture
def state(flow: Glow, autoencoder: dict[str, np.ndarray]) -> Explorer:
    methods = {
        "Glow": models.flow_method(flow),
        "autoencoder": models.autoencoder_method(autoencoder, {}),
    }
    looked_at = [picture(100, "good"), picture(101, "dent", 16), picture(102, "dent", 12), picture(103)]
    return Explorer(methods, [picture(n) for n in range(9)], looked_at)


def test_maps_are_those_of_patches_and_dense(state: Explorer, flow: Glow):
    image = state.picture.image
    for stride, expected in (
        (DENSE, dense_map(flow, image, 32, 4)),
        (16, patch_map(lambda some: score(flow, some), image, 32, 16)),
    ):
        state.set(stride=stride)
        state.work(nothing)
        made = state.map()
        assert made is not None
        np.testing.assert_allclose(made.values, expected, rtol=1e-4)
    assert made.patches == 3 * 5  # rows at 0, 16, 32, columns at 0, 16, 32, 48, 64
    state.set(model="autoencoder", stride=32)
    state.work(nothing)
    assert state.map().values.shape == image.shape[1:]  # type: ignore[union-attr]


def test_nothing_is_made_twice(state: Explorer, monkeypatch: pytest.MonkeyPatch):
    state.work(nothing)
    monkeypatch.setattr(state, "_made", lambda *_: pytest.fail("made again"))
    for changes in ({"opacity": 0.1}, {"false_alarm_rate": 0.3}, {"threshold": 1.0}, {"low": -0.5, "high": 3.0}):
        assert not state.set(**changes), changes
    assert not state.set(way="mean")
    state.work(nothing)
    assert state.set(stride=8)


def test_threshold_and_rate_are_two_handles_on_one_thing(state: Explorer):
    state.work(nothing)
    scores = state.normal_scores()
    assert scores is not None
    assert len(scores) == 9
    for rate in (0.1, 0.2, 0.5):
        state.set(false_alarm_rate=rate)
        assert state.threshold() == conformal_threshold(scores, rate)
        assert state.false_alarm_rate() == pytest.approx(rate)
    state.set(false_alarm_rate=0.01)  # 9 pictures cannot tell: the highest
    assert state.threshold() == scores.max()
    assert state.false_alarm_rate() == pytest.approx(0.1)
    state.set(threshold=float(np.sort(scores)[4]))  # four lie above
    assert state.false_alarm_rate() == pytest.approx(0.5)
    state.set(false_alarm_rate=0.2)
    assert state.view.threshold is None


def test_verdict_and_counts_follow_the_threshold(state: Explorer):
    state.set(index=1)
    state.work(nothing)
    score_now = state.score()
    assert score_now is not None
    state.set(threshold=score_now - 1e-3)
    assert state.anomalous() is True
    state.set(threshold=score_now)
    assert state.anomalous() is False
    state.set(threshold=-1e9)
    assert state.counts() == {"hit": 2, "missed": 0, "false alarm": 1, "correct normal": 0, "of": 3}
    state.set(threshold=1e9)
    assert state.counts() == {"hit": 0, "missed": 2, "false alarm": 0, "correct normal": 1, "of": 3}


def test_colours_begin_and_end_on_the_scale_of_normal_pixels(state: Explorer):
    assert state.colours() is None
    state.work(nothing)
    middle, level = state.scale()  # type: ignore[misc]
    state.set(low=0.0, high=1.0)
    assert state.colours() == pytest.approx((middle, level))
    values = [dense_map(state_flow(state), one.image, 32, 4)[::4, ::4] for one in state.normals]
    assert middle == pytest.approx(np.median(values), rel=1e-4)
    assert level == pytest.approx(np.quantile(values, 0.995), rel=1e-4)


def state_flow(state: Explorer) -> Glow:
    return next(cell.cell_contents for cell in state.method.pixels.__closure__ if isinstance(cell.cell_contents, Glow))  # type: ignore[union-attr]


def test_worst_region_is_where_the_autoencoder_errs_most(state: Explorer):
    state.set(model="autoencoder", index=1, window=16)
    state.work(nothing)
    region = state.region()
    assert region is not None
    assert region.x0 < 48 < region.x1
    assert region.y0 < 28 < region.y1


def test_wrong_choices_are_refused_by_name(state: Explorer):
    for changes, words in (
        ({"model": "Gloww"}, "Gloww.*Glow, autoencoder"),
        ({"map": "energy"}, "map is 'energy'"),
        ({"stride": 7}, "stride is 7"),
        ({"index": 9}, "picture 9"),
        ({"false_alarm_rate": 0.0}, "rate"),
    ):
        with pytest.raises(ExplorerError, match=words):
            state.set(**changes)
    state.set(window=16)
    state.set(stride=32)
    assert state.view.window == 32  # no gaps between patches


def test_work_stops_at_the_next_change():
    started, release, ended = threading.Event(), threading.Event(), []

    def work(tick: Any) -> None:
        started.set()
        release.wait(PATIENCE)
        tick(1, 2, "second piece")
        ended.append(True)

    background = Background(work, nothing)
    background.start()
    assert started.wait(PATIENCE)
    background.start()
    release.set()
    background.wait(PATIENCE)
    assert ended == [True]  # of the second only
    assert background.progress is None


def test_an_error_in_the_background_is_told():
    def work(tick: Any) -> None:
        raise ValueError("no\nsuch thing")

    background = Background(work, nothing)
    background.start()
    background.wait(PATIENCE)
    assert background.error == "no such thing"


def test_patches_can_be_cancelled_between_batches(state: Explorer):
    seen = []

    def tick(done: int, total: int, what: str) -> None:
        seen.append((done, total, what))
        if what == "patches":
            raise Cancelled

    state.set(stride=8)
    with pytest.raises(Cancelled):
        state.work(tick)
    assert seen[-1] == (0, 45, "patches")
    assert state.map() is None


def test_a_flow_told_the_viewpoint_takes_the_likeliest_where_it_is_not_known():
    torch.manual_seed(1)
    flow = Glow((1, 32, 32), levels=2, steps=1, hidden_channels=4, classes=2)
    flow.initialise(torch.from_numpy(picture(0).image[None, :, :32, :32]))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    method = models.flow_method(flow.eval(), 2)
    one = picture(0)
    by_view = [method.pixels(replace(one, view=view)).sum() for view in range(2)]  # type: ignore[misc]
    assert by_view[0] != by_view[1]
    assert method.pixels(replace(one, view=None)).sum() == min(by_view)  # type: ignore[misc]


def test_folders_are_read_with_labels_and_masks(tmp_path: Path):
    for name, mark in (("good", 0), ("dent", 8)):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.fromarray(picture(1, mark=mark).image[0]).save(tmp_path / "test" / name / "1.png")
    (tmp_path / "train").mkdir()
    (tmp_path / "ground_truth" / "dent").mkdir(parents=True)
    Image.fromarray(picture(1, mark=8).mask).save(tmp_path / "ground_truth" / "dent" / "1_mask.png")  # type: ignore[arg-type]
    (tmp_path / "test" / "good" / "2.png").write_bytes(b"no image")
    dent, good = pictures.read_pictures(tmp_path, 512, 3)
    assert (dent.label, good.label, good.mask) == ("dent", "good", None)
    assert dent.image.shape == (3, 64, 96)
    assert dent.mask.sum() == 64  # type: ignore[union-attr]
    (plain,) = pictures.read_pictures(tmp_path / "test" / "dent", 48, 1)
    assert plain.label is None
    assert plain.image.shape == (1, 32, 48)
    with pytest.raises(ExplorerError, match="holds no image"):
        pictures.read_pictures(tmp_path / "train", 512, 1)
    with pytest.raises(MediaError, match="missing"):
        pictures.read_pictures(tmp_path / "none.mp4", 512, 1)


def test_a_folder_that_cannot_be_read_leaves_the_pictures(state: Explorer, tmp_path: Path):
    state.open(tmp_path / "nowhere")
    state.start()
    state.background.wait(10)
    assert "nowhere is missing" in state.background.error
    assert state.pictures == state.simulated
    Image.fromarray(picture(7).image[0]).save(tmp_path / "seven.png")
    state.open(tmp_path)
    state.start()
    state.background.wait(30)
    assert state.picture.name == "seven.png"
    assert state.score() is not None
    assert state.counts() is None


def test_settings_go_to_the_command_line_and_views_come_back(tmp_path: Path, state: Explorer):
    view = View("flowlib fit", "ratio", "top 1 %", 16, 48, 0.07, None, 0.5, -0.5, 3.0)
    (tmp_path / "settings.yaml").write_text(settings_yaml(view))
    assert read_settings(tmp_path / "settings.yaml") == {"false_alarm_rate": 0.07}
    by_hand = yaml.safe_load(settings_yaml(replace(view, threshold=3.0), 0.2))
    assert by_hand["false_alarm_rate"] == 0.2
    (tmp_path / "view.yaml").write_text(view_yaml(view))
    assert read_view(tmp_path / "view.yaml") == view
    (tmp_path / "view.yaml").write_text("model: Glow\nmap: NLL\nspeed: 3\n")
    with pytest.raises(ExplorerError, match="speed"):
        read_view(tmp_path / "view.yaml")
    state.work(nothing)
    first, second = (save(tmp_path / "out", "a b/c", b"png", state) for _ in range(2))
    assert [path.name for path in first] == ["001_a_b_c.png", "001_a_b_c.yaml"]
    assert second[0].name == "002_a_b_c.png"
    assert read_view(first[1]) == state.view


def test_threshold_and_opacity_redraw_only_what_they_touch_and_compute_nothing(
    state: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """How many milliseconds that takes is measured by benchmarks/redraw.py."""
    tab = borescope_tab.BorescopeTab(state, tmp_path)
    state.background.wait(PATIENCE)
    tab.redraw()
    before = {name: kept.widget.value for name, kept in tab.pictures.items()}
    drawn = len(tab.milliseconds)
    for computes in ("start", "work", "_made"):
        monkeypatch.setattr(state, computes, lambda *_, **__: pytest.fail("computed anew"))
    for step in range(20):
        tab.opacity.index = step
    after = {name: kept.widget.value for name, kept in tab.pictures.items()}
    assert [name for name in before if before[name] != after[name]] == ["overlay"]
    histogram = tab.histogram.widget.value
    for place in range(60, 40, -1):
        tab.threshold.index = place
        assert state.threshold() == tab.threshold.value
    assert tab.histogram.widget.value != histogram
    assert len(tab.milliseconds) >= drawn + 30
    assert "false alarms in 100" in tab.promise.value
    tab.on_save(None)
    (saved,) = tmp_path.glob("*.png")
    assert Image.open(io.BytesIO(saved.read_bytes())).size[0] > 1000


def test_the_threshold_stays_where_it_was_put_and_its_slider_names_every_place(state: Explorer, tmp_path: Path):
    tab = borescope_tab.BorescopeTab(state, tmp_path)
    state.background.wait(PATIENCE)
    tab.redraw()
    scores = state.normal_scores()
    assert scores is not None
    places = panels.places(scores)
    assert len({name for name, _ in places}) == len(places) == panels.PLACES
    assert (places[0][1], places[-1][1]) == pytest.approx(panels.extent(scores))
    assert abs(tab.threshold.value - state.threshold()) <= (places[1][1] - places[0][1]) / 2
    for index in (0, 30, 31, 100):
        tab.threshold.index = index
        assert state.view.threshold == places[index][1]
        assert state.false_alarm_rate() == pytest.approx(tab.rate.value, abs=0.0026) or tab.rate.index == 99
        tab.rate.set_state({"index": tab.rate.index})  # a browser that sends back what it was sent
        tab.threshold.set_state({"index": tab.threshold.index})
        assert state.view.threshold == places[index][1]
    tab.rate.index -= 1
    assert state.view.threshold is None


def test_a_key_that_comes_in_a_thread_of_its_own_while_the_controls_are_set_is_not_lost(
    state: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As in JupyterLab, which has what a browser sends handled beside the thread of the notebook."""
    tab = borescope_tab.BorescopeTab(state, tmp_path)
    state.background.wait(PATIENCE)
    tab.redraw()
    keys = [threading.Thread(target=tab.opacity.set_state, args=({"index": 3},))]
    keys.append(threading.Thread(target=tab.colours.set_state, args=({"index": [12, 25]},)))
    ask = state.normal_scores

    def asked_while_they_are_set() -> np.ndarray | None:
        for key in keys:
            if not key.ident:
                key.start()
                key.join(0.3)  # where it does not wait, it is done by then
        return ask()

    monkeypatch.setattr(state, "normal_scores", asked_while_they_are_set)
    tab.redraw()
    for key in keys:
        key.join(PATIENCE)
    assert (state.view.opacity, state.view.low, state.view.high) == (0.15, 0.2, 1.5)
    assert (tab.opacity.index, tab.colours.index) == (3, (12, 25))


def test_neighbouring_places_have_names_that_differ_whatever_the_scale():
    for low, width in ((15_000.0, 20.0), (0.18, 4e-3), (-3.0, 6.0), (2e6, 1e6), (5.0, 0.0), (0.0, 1e-7)):
        names = [name for name, _ in panels.places(np.array([low, low + width]))]
        assert len(set(names)) == len(names), (low, width)
        assert max(map(len, names)) <= 13, names[-1]


def test_the_boxed_region_lies_where_it_does_in_the_picture():
    one = picture(1, mark=16)
    flat = np.zeros((panels.SIZE[1], panels.SIZE[0], 3), dtype=np.uint8)
    drawn = np.asarray(panels.boxed(flat, Region(40, 20, 56, 36), (64, 96), True))
    rows, columns = np.nonzero(drawn.any(-1))
    left, top, _, _, factor = panels.placed((64, 96))
    assert columns.min() == pytest.approx(left + 40 * factor, abs=8)
    assert rows.max() == pytest.approx(top + 36 * factor, abs=8)
    masked = panels.masked(panels.fitted(one.image), one.mask)
    orange = (masked == (230, 159, 0)).all(-1)
    assert orange.sum() == pytest.approx(one.mask.sum() * factor**2, rel=0.1)  # type: ignore[union-attr]


def test_a_square_changes_what_the_models_say_of_a_shirt():
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 200, (12, 1, 28, 28), dtype=np.uint8)
    flow = Glow((1, 28, 28), levels=2, steps=1, hidden_channels=4)
    flow.initialise(torch.from_numpy(images))
    shirts = Shirts(flow.eval(), ConvAutoencoder((1, 28, 28)).eval(), images, images)
    said = shirts.said(3, Square(4, 255, 10, 20))
    np.testing.assert_array_equal(np.argwhere(said.marked != said.shirt).min(0), (20, 10))
    assert (said.marked[20:24, 10:14] == 255).all()
    assert said.nll - said.nll_before == pytest.approx(said.change.sum(), rel=1e-3)
    assert said.nll_before == pytest.approx(shirts.normal[3], rel=1e-5)
    assert shirts.said(3, Square(0)).painted is None
    assert shirts.within(Square(4, 255, 27, -2)) == Square(4, 255, 24, 0)
    with pytest.raises(ExplorerError, match="28x28"):
        shirts.said(3, Square(4, 255, 27, 0))
    tab = shirts_tab.ShirtsTab(shirts)
    before = tab.pictures["shirt"].widget.value
    tab.on_click({"new": "20,8"})
    assert (tab.x.value, tab.y.value) == (18, 6)
    assert tab.pictures["shirt"].widget.value != before


def test_a_long_caption_stays_over_its_picture():
    """Between both pictures, where only the first one's caption could reach, nothing is drawn."""
    white = np.full((60, 520, 3), 255, np.uint8)
    drawn = Image.new("RGB", (40, 20), "white")
    for text in ("short", "image: blade 81, frame 1, pressure side, missing piece"):
        sheet = panels.sheet([(text, white), ("", white)], drawn, "normal", False, [])
        caption = sheet[62:102]
        assert (caption[:, 14:534] < 128).any()
        assert (caption[:, 534:] == 255).all()
