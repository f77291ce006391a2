"""Every figure draws from a small table without a warning, says its units, and is saved whole or not at all."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from flowlib.figures import beyond, black_pixels, borescope, contamination, features, shared, squares, style

mpl.use("Agg")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def texts(figure: Figure) -> str:
    """All that the figure says."""
    figure.canvas.draw()
    return " | ".join(text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text())


def labels(figure: Figure) -> list[tuple[str, str]]:
    return [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]


def contamination_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    cases = {1: 7, 4: 1348, 6: 5851}
    groups = [(case, digit) for case in cases for digit in (1, 8)]
    scores = pd.concat(
        pd.DataFrame({"case": case, "digit": digit, "image": range(5), "nll": 500 + 100 * digit + RNG.normal(size=5)})
        for case, digit in groups
    )
    summary = pd.DataFrame(
        [
            {"case": case, "eights": cases[case], "digit": digit, "nll": 600.0 + case, "low": 590.0, "high": 620.0}
            for case, digit in groups
        ]
    )
    return scores, summary


def test_nll_of_contamination():
    figure = contamination.nll_of_contamination(*contamination_tables())
    nats = "negative log-likelihood (nats)"
    assert labels(figure) == [("test image", nats), ("eights in training (with 6742 ones)", nats)]
    _, legend = figure.axes[0].get_legend_handles_labels()
    assert set(legend) == {f"{digit}s, {count} eights in training" for digit in (1, 8) for count in (7, 1348, 5851)}
    assert figure.axes[1].get_xscale() == "log"
    trends = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    assert len(trends) == 6


def test_separation_of_contamination():
    groups = [("8 in 1", "plain"), ("6 in 3", "plain"), ("8 in 1", "trimmed: 10% of each batch left out")]
    rows = [
        {
            "pair": pair,
            "training": training,
            "case": case,
            "distance": 50.0,
            "distance_low": 40.0,
            "distance_high": 55.0,
        }
        | {"auroc": 0.9, "low": 0.85, "high": 0.95}
        for pair, training in groups
        for case in (("1", "6") if training != "plain" else ("none", "1", "6", "nothing else"))
    ]
    figure = contamination.separation_of_contamination(pd.DataFrame(rows))
    x = "anomalies in training, of the number of normal images"
    assert labels(figure) == [(x, "mean NLL of anomalies less normals (nats)"), (x, "AUROC of the anomalous digit")]
    for legend in ("8s among 1s, plain", "6s among 3s, plain", "8s among 1s, trimmed"):
        assert legend in texts(figure)
    ticks = [[label.get_text() for label in axes.get_xticklabels()] for axes in figure.axes]
    assert ticks == [["0.1", "86.8 %"], ["0 %", "0.1", "86.8 %", "all"]]  # the ends are of AUROC alone
    assert figure.axes[1].get_ylim() == (-0.03, 1.03)


def test_two_classes():
    scores = pd.DataFrame({"group": ["eights"] * 4 + ["ones"] * 4, "image": [*range(4)] * 2, "nll": [9.0, 8, 7, 8] * 2})
    figure = contamination.two_classes(scores, "eights", "ones")
    assert labels(figure) == [("test image", "negative log-likelihood (nats)"), ("density (1 / nats)", "")]
    assert [line.get_label() for line in figure.axes[0].lines] == ["eights", "ones"]
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), [9, 8, 7, 8])


def test_matrix():
    values = np.array([[np.nan, 0.25], [0.9, np.nan]])
    figure = shared.matrix(values, ["Shirt", "Coat"], "title")
    assert labels(figure)[0] == ("anomalous class", "normal class (trained on)")
    assert "AUROC (below 0.5" in labels(figure)[1][1]
    axes = figure.axes[0]
    assert {text.get_text(): text.get_position() for text in axes.texts} == {"0.25": (1.5, 0.5), "0.90": (0.5, 1.5)}
    assert axes.collections[0].get_clim() == (0, 1)  # one scale, whatever the values
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Shirt", "Coat"]


def test_intervals_stand_along_either_axis():
    rows = pd.DataFrame({"value": [1.0, 2.0], "low": [0.5, 1.0], "high": [1.25, 4.0]})
    _, (left, right) = plt.subplots(1, 2)
    shared.intervals(left, rows, "value", x=[7, 8])
    shared.intervals(right, rows, "value", y=[7, 8])
    for axes, value, place in ((left, 1, 0), (right, 0, 1)):
        points, _, (bars,) = axes.containers[0]
        assert points.get_xydata()[:, value].tolist() == [1, 2]
        assert points.get_xydata()[:, place].tolist() == [7, 8]
        assert [segment[:, value].tolist() for segment in bars.get_segments()] == [[0.5, 1.25], [1, 4]]


def test_overview_is_bold_where_the_target_is_met():
    values = pd.DataFrame({"F → M": [0.949, 0.9509], "M → F": [0.5, np.nan]}, index=["likelihood", "union"])
    figure = beyond.overview(values, {"F → M": 0.95}, 1)
    assert [text.get_text() for text in figure.axes[0].texts if text.get_weight() == "bold"] == [".950"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["likelihood", "union", "target"]


def test_examples_are_of_every_size_and_colour():
    table = pd.DataFrame({"size": [2, 4, 4, 4, 2], "colour": ["white", "black", "black", "white", "white"]})
    assert squares.examples(table, 1).tolist() == [3, 1, 0]
    assert squares.examples(table, 1, after=1).tolist() == [2, 4]


def test_twelve_cases():
    table = pd.DataFrame(
        {
            "case": range(1, 13),
            "normal": "Coat",
            "anomaly": [f"class {n}" for n in range(12)],
            "black_difference": np.linspace(-200, 200, 12),
            "auroc": np.linspace(0.1, 0.9, 12),
            "low": np.linspace(0.05, 0.85, 12),
            "high": np.linspace(0.15, 0.95, 12),
            "thesis_failed": [n in (4, 7, 8, 12) for n in range(1, 13)],
        }
    )
    figure = black_pixels.twelve_cases(table)
    x = "black pixels of the anomalous class less those of the normal class"
    assert labels(figure) == [(x, "AUROC of the anomalous class")]
    said = texts(figure)
    assert all(f"{n}: Coat → class {n - 1}" in said for n in range(1, 13))
    assert "thesis: fails" in said
    assert "chance" in said
    drawn = {bars.get_label(): bars[0] for bars in figure.axes[0].containers}
    assert list(drawn["thesis: fails"].get_ydata()) == list(table["auroc"][table["thesis_failed"]])


@pytest.mark.parametrize("start", [0.3, 0.6])  # with pairs that fail, and without any
def test_treatments(start: float):
    table = pd.DataFrame(
        [
            {"treatment": treatment, "pair": f"pair {number}", "auroc": start + 0.1 * number}
            for treatment in ("as they are", "cropped", "inverted")
            for number in range(4)
        ]
    )
    figure = black_pixels.treatments(table)
    assert labels(figure) == [("", "AUROC of the anomalous class")]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["as\nthey are", "cropped", "inverted"]


RANKED = pd.DataFrame(
    {"name": ["a", "b", "a"], "kind": ["rule", "rule", "fitted"], "value": [0.4, 0.8, 0.5]}
    | {"low": [0.3, 0.7, 0.4], "high": [0.5, 0.9, 0.6]}
)


def test_ranking():
    figure = black_pixels.ranking(RANKED, 0.83, "share of 90 pairs")
    axes = figure.axes[0]
    assert axes.get_xlabel() == "share of 90 pairs"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]  # the best is on top
    drawn = {bars.get_label(): bars[0].get_xdata().tolist() for bars in axes.containers}
    assert drawn == {"rule": [0.4, 0.8], "fitted": [0.5]}
    assert {"rule", "fitted"} <= set(axes.get_legend_handles_labels()[1])


def test_methods_on_pixels_and_features():
    row = {"best": 0.7, "low": 0.6, "high": 0.8, "found": 0.3, "alarms": 0.04}
    rows = [row | {"set": name, "features": kind, "method": "flow"} for name in "ab" for kind in ("pixels", "network")]
    table = pd.DataFrame(rows)
    table.loc[table["set"] == "a", ["pixel AUROC", "AUPRO"]] = [0.9, 0.5]
    table.loc[1, "best"] = 0.75
    figure = features.methods(table, "best", 0.05)
    assert len(figure.axes) == 6
    said = texts(figure)
    assert all(text in said for text in ("a: image AUROC", "on pixels", "on features", "false alarms", "5%"))
    drawn = {bars.get_label(): bars[0].get_xydata().tolist() for bars in figure.axes[0].containers}
    assert drawn == {"on pixels": [[0.7, 0]], "on features": [[0.75, 1]]}
    assert [axes.axison for axes in figure.axes] == [True, True, True, True, False, True]  # b has no masks
    assert {tuple(line.get_xdata()) for line in figure.axes[2].lines} >= {(30.0,), (4.0, 4.0)}


def test_pairs_on_pixels_and_features():
    pairs = [("x", "y", 0.2, 0.9), ("y", "x", 0.3, 0.4), ("x", "z", 0.8, 0.1), ("z", "x", 0.9, 0.9), ("all", "m", 0, 1)]
    table = pd.DataFrame(pairs, columns=["normal", "anomaly", "pixels", "features"])
    figure = features.pairs(pd.concat([table.assign(way="mean"), table.assign(way="top")]), {"top": "highest"}, "all")
    (axes,) = figure.axes
    expected = "highest\nbelow 0.5: 1 on pixels alone, 1 on both, 1 on features alone"
    assert axes.get_title(loc="left") == expected
    assert labels(figure) == [("AUROC of the flow on pixels", "AUROC of the flow on features")]
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn["4 pairs of classes"] == [list(pair[2:]) for pair in pairs[:4]]
    assert drawn["all → m"] == [[0, 1]]


def test_samples():
    images = RNG.integers(50, 200, (3, 1, 8, 8), dtype=np.uint8)
    figure = shared.samples([("shirts", images), ("coats", images[:2])], count=3)
    assert len(figure.axes) == 6
    assert all(image.get_clim() == (0, 255) for axes in figure.axes for image in axes.images)  # one grey scale
    assert sum(len(axes.images) for axes in figure.axes) == 5
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["shirts", "coats"]


def test_squares_in_samples_are_framed():
    images, masks = np.zeros((2, 1, 8, 8), np.uint8), np.zeros((2, 8, 8), bool)
    masks[:, 2:4, 3:5] = True
    figure = shared.samples([("before", images), ("marked", images)], 2, {"marked": masks})
    frames = [[patch.get_bbox().bounds for patch in axes.patches] for axes in figure.axes]
    assert frames == [[], [], [(1.5, 0.5, 4, 4)], [(1.5, 0.5, 4, 4)]]


def test_every_size_shows_black_white_and_both():
    rows = [
        {"score": score, "size": size, "colour": colour, "auroc": 0.5, "low": 0.4, "high": 0.6}
        for score in ("one", "other")
        for size in ("all", "2x2")
        for colour in ("both", "black", "white")
    ]
    figure = squares.forest(pd.DataFrame(rows))
    assert [len(axes.get_legend_handles_labels()[1]) for axes in figure.axes] == [3, 3]
    assert "both together" in texts(figure)


def test_what_was_saved_and_what_can_be_found():
    rows = [
        {"model": model, "images": images, "auroc": 0.6, "low": 0.5, "high": 0.7}
        for model in ("Glow", "convolutional autoencoder")
        for images in ("marked", "marked, saved as JPEG")
    ]
    figure = squares.saved(pd.DataFrame(rows))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["marked", "marked, saved as JPEG"]
    table = pd.DataFrame({"size": ["2x2", "4x4"], "side": [2, 4], "change": [5.0, 20], "spread": 100.0})
    table = table.assign(change_low=table["change"] - 1, change_high=table["change"] + 1, expected=0.5)
    figure = squares.limits(table.assign(auroc=0.5, low=0.4, high=0.6), 0.9, 181.0)
    assert "what an AUROC of 0.9 takes" in texts(figure)
    assert labels(figure) == [
        ("side of the square (pixels)", "negative log-likelihood (nats)"),
        ("side of the square (pixels)", "AUROC of NLL"),
    ]


def test_save_writes_figure_caption_and_table(tmp_path: Path):
    table = pd.DataFrame({"case": [1, 2], "auroc": [0.5, 0.25]})
    figure, _ = plt.subplots()
    style.save(figure, tmp_path, "01_some", table, "  What it shows, in nats.\n")
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["figures/01_some.png", "figures/01_some.txt", "tables/01_some.csv"]
    assert (tmp_path / "figures/01_some.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figures/01_some.txt").read_text() == "What it shows, in nats.\n"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "tables/01_some.csv"), table)


def test_save_that_fails_keeps_the_earlier_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = pd.DataFrame({"case": [1]})
    figure, _ = plt.subplots()
    style.save(figure, tmp_path, "01_some", table, "first")
    earlier = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def half(path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(OSError, match="No space left"):
        style.save(figure, tmp_path, "01_some", table, "second")
    assert {path: path.read_bytes() for path in earlier} == earlier


def test_same_figure_same_bytes(tmp_path: Path):
    """So that a report that is made again does not change in git."""
    for folder in ("a", "b"):
        figure = black_pixels.ranking(RANKED, 0.5, "share")
        style.save(figure, tmp_path / folder, "01_some", pd.DataFrame({"case": [1]}), "caption")
    assert (tmp_path / "a/figures/01_some.png").read_bytes() == (tmp_path / "b/figures/01_some.png").read_bytes()


def test_videos_are_told_by_rate_and_by_kind():
    rows = [
        {"score": score, "nominal": rate, "actual": rate / 2, "found": 0.5, "low": 0.4, "high": 0.7, "crack": 1.0,
         "missing_piece": 0.25}
        for score in ("three of five frames", "highest frame")
        for rate in (0.05, 0.1)
    ]  # fmt: skip
    figure = borescope.videos(pd.DataFrame(rows), ["crack", "missing_piece"])
    said = texts(figure)
    assert all(word in said for word in ("5%", "10%", "missing piece", "damaged, highest frame", "nominal"))
    assert labels(figure)[0] == ("nominal rate of good videos flagged", "videos flagged (%)")


def test_every_class_is_named_in_the_order_of_likelihood():
    table = pd.DataFrame({"set": ["A", "A", "B"], "class": ["1", "8", "bag"], "finds": [1.0, 0.2, 0.4],
                          "found": [0.0, 0.9, 0.6]})  # fmt: skip
    panels = beyond.orders(table).axes
    assert [[text.get_text() for text in axes.texts] for axes in panels] == [["1", "8"], ["bag"]]
    assert [axes.lines[0].get_xydata().tolist() for axes in panels] == [[[0, 1], [0.9, 0.2]], [[0.6, 0.4]]]
