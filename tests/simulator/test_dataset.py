import json
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import av
import numpy as np
import pandas as pd
import pytest

from flowlib.simulator import camera, dataset, defects
from flowlib.simulator.blades import VIEWPOINTS, paint
from flowlib.simulator.camera import MARKED, NOTICEABLE, REFLECTION, SHADOW, markings
from flowlib.simulator.dataset import SimulatorError, render, simulate
from flowlib.simulator.defects import DEFECTS

TINY = {"normal_blades": 2, "test_normal_blades": 1, "defect_blades": 7, "frames": 2, "seed": 4}
COLUMNS = ["video", "frame", "split", "defect", "blade", "viewpoint", "width", "height", "defect_pixels"]
COLUMNS += ["x0", "y0", "x1", "y1", "reflection_pixels", "shadow_behind"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    return folder, simulate(folder, **TINY)


@pytest.fixture
def quick(monkeypatch):
    """A renderer that takes no time, for tests of what is written when."""

    def flat(blade_seed, viewpoint, defect, frames):
        shape = VIEWPOINTS[viewpoint].height, VIEWPOINTS[viewpoint].width
        for number in range(frames):
            mask = np.zeros(shape, dtype=bool)
            mask[20:24, 30 : 35 + number] = defect != "good"
            yield camera.Frame(np.full((3, *shape), 90, np.uint8), mask, np.full(shape, SHADOW, np.uint8))

    monkeypatch.setattr(dataset, "render", flat)


def decode(path, layout):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=layout) for frame in container.decode(video=0)]


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_layout_and_table(made):
    folder, table = made
    assert list(table.columns) == COLUMNS
    assert len(table) == 10 * 2
    assert set(table["defect"]) == {"good", *DEFECTS}
    for video, rows in table.groupby("video"):
        split, defect, name = video.split("/")
        stem = name.removesuffix(".mp4")
        first = rows.iloc[0]
        assert (split, defect, stem) == (
            first["split"],
            first["defect"],
            f"blade_{first['blade']:03}_{first['viewpoint']}",
        )
        assert (folder / "ground_truth" / defect / f"{stem}_mask.mkv").exists() == (defect != "good")
        assert (folder / "regions" / defect / f"{stem}_regions.mkv").exists()
        assert rows["frame"].tolist() == [0, 1]
    assert not [name for name in files(folder) if "partial" in name]
    written = pd.read_csv(folder / "frames.csv", dtype=table.dtypes.to_dict())
    pd.testing.assert_frame_equal(written, table)


def test_split_by_blade(made):
    blades = made[1].groupby("split")["blade"].agg(set)
    assert not blades["train"] & blades["test"]
    assert set(made[1].loc[made[1]["split"] == "train", "defect"]) == {"good"}
    assert made[1].groupby("blade")["video"].nunique().eq(1).all()


def test_every_defect_from_every_viewpoint():
    pairs = {(video.viewpoint, video.defect) for video in dataset.videos_of(0, 0, 28)}
    assert pairs == {(viewpoint, defect) for viewpoint in VIEWPOINTS for defect in DEFECTS}
    assert len({(view.width, view.height) for view in VIEWPOINTS.values()}) >= 4


def test_videos_hold_what_was_rendered(made):
    folder, table = made
    for video, rows in table[table["defect"] != "good"].groupby("video"):
        first = rows.iloc[0]
        stem = f"{first['defect']}/blade_{first['blade']:03}_{first['viewpoint']}"
        frames = list(render((4, int(first["blade"])), first["viewpoint"], first["defect"], 2))
        pictures = decode(folder / video, "rgb24")
        masks = decode(folder / "ground_truth" / f"{stem}_mask.mkv", "gray")
        regions = decode(folder / "regions" / f"{stem}_regions.mkv", "gray")
        with av.open(str(folder / video)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.frames) == ("h264", 2)
            assert (stream.width, stream.height) == (first["width"], first["height"])
        for number, frame in enumerate(frames):
            error = np.abs(pictures[number].transpose(2, 0, 1).astype(int) - frame.image)
            assert error.mean() < 4, "H.264 must change little"
            np.testing.assert_array_equal(masks[number], frame.mask * 255, err_msg="masks are lossless")
            np.testing.assert_array_equal(regions[number], frame.regions, err_msg="regions are lossless")
            row = rows.iloc[number]
            assert row["defect_pixels"] == frame.mask.sum()
            assert row["reflection_pixels"] == (frame.regions == REFLECTION).sum()
            assert frame.mask[row["y0"] : row["y1"] + 1, row["x0"] : row["x1"] + 1].sum() == frame.mask.sum()


@pytest.mark.parametrize(("defect", "viewpoint"), list(zip(DEFECTS, [*VIEWPOINTS, *VIEWPOINTS], strict=False)))
def test_mask_is_what_the_defect_changes(defect, viewpoint):
    for clean, damaged in zip(render(11, viewpoint, "good", 2), render(11, viewpoint, defect, 2), strict=True):
        difference = np.abs(damaged.image.astype(int) - clean.image).max(axis=0)
        assert not clean.mask.any()
        assert difference[~damaged.mask].max() <= NOTICEABLE, "outside of the mask nothing changes"
        assert damaged.mask.any()
        changed = difference[damaged.mask] >= NOTICEABLE - 1  # rounding; noise that is clipped hides a few
        assert changed.mean() > 0.95, "inside of the mask the picture changes"


def test_defect_in_the_dark_is_drawn_anew(monkeypatch):
    drawn = []

    def unseen_at_first(surface, size, rng):
        drawn.append(rng.random())
        return surface if len(drawn) < 3 else surface._replace(colour=surface.colour * 0.5)

    monkeypatch.setitem(camera.DEFECTS, "burn", unseen_at_first)
    mask = next(render(6, "trailing_edge", "burn", 1)).mask
    assert len(drawn) == 3
    assert mask.mean() > 0.4
    assert not mask[247, 246], "the cursor's cross hides the blade beneath it"
    assert mask[238, 238]


def test_defects_are_small_and_large(made):
    pixels = made[1].loc[made[1]["defect"] != "good", "defect_pixels"]
    assert pixels.min() < 60
    assert pixels.max() > 1500


def test_the_same_frames_are_the_same_file(tmp_path):
    viewpoint = next(iter(VIEWPOINTS))
    frames = [frame.image.transpose(1, 2, 0) for frame in render((0, 3), viewpoint, "good", 8)]
    written = set()
    for number in range(6):
        path = tmp_path / f"{number}.mp4"
        with dataset.new_video(path, VIEWPOINTS[viewpoint], "libx264", "rgb24") as add:
            for frame in frames:
                add(frame)
        written.add(path.read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("viewpoint", VIEWPOINTS)
def test_a_crack_from_the_edge_runs_into_the_blade(viewpoint, monkeypatch):
    edges, paths = [], []
    for name, kept in (("on_edge", edges), ("walk", paths)):
        whole = getattr(defects, name)
        monkeypatch.setattr(defects, name, lambda *a, whole=whole, kept=kept: kept.append(whole(*a)) or kept[-1])
    surface = paint(viewpoint, np.random.default_rng(0))
    size = VIEWPOINTS[viewpoint].width, VIEWPOINTS[viewpoint].height
    inward, began = [], 0
    for seed in range(24):
        edges.clear(), paths.clear()
        defects.crack(surface, size, np.random.default_rng(seed))
        if edges:
            x, y, outward = edges[0]
            way = paths[0][-1] - (x, y)
            inward.append(-(way @ (np.cos(outward), np.sin(outward))) / np.hypot(*way))
            column, row = np.searchsorted(surface.x[0], x), np.searchsorted(surface.y[:, 0], y)
            began += abs(surface.depth[row, column]) < 1.5
    assert 6 <= len(inward) == began <= 18, "half of them, by chance"
    assert np.mean(inward) > 0.6  # a cosine: 1 is straight into the blade


def test_missing_piece_shows_black(made):
    table = made[1].set_index("defect")
    assert table.loc["missing_piece", "shadow_behind"].all()
    assert not table.loc[["good", "scratch", "burn"], "shadow_behind"].any()


def test_regions_are_bright_and_dark():
    for viewpoint in VIEWPOINTS:
        frame = next(render(2, viewpoint, "good", 1))
        grey = frame.image.mean(axis=0)
        assert frame.image.shape == (3, VIEWPOINTS[viewpoint].height, VIEWPOINTS[viewpoint].width)
        assert frame.image.dtype == np.uint8
        assert grey[frame.regions == SHADOW].mean() < 25
        assert (frame.regions == SHADOW).mean() > 0.05
        assert grey[frame.regions == REFLECTION].mean() > 170
        assert 40 < grey[frame.regions == 0].mean() < 180


def test_regions_by_hand():
    grey = np.array([[10, 10, 60, 220, 220, 120]], dtype=np.float32)
    shine = np.array([[0.0, 0.0, 0.0, 0.9, 0.1, 0.9]], dtype=np.float32)
    cover = np.array([[0.0, 1.0, 0.0, 1.0, 1.0, 1.0]], dtype=np.float32)  # a dark cooling hole is no shadow
    labels = camera.regions(camera.Shaded(np.stack([grey] * 3), shine, cover))
    assert labels.tolist() == [[SHADOW, 0, 0, REFLECTION, 0, 0]]


def test_frames_move_and_do_not_depend_on_how_many():
    one, *_, last = (frame.image.astype(int) for frame in render(5, "trailing_edge", "nick", 12))
    np.testing.assert_array_equal(one, next(render(5, "trailing_edge", "nick", 1)).image)
    assert np.abs(one - last).mean() > 5


def test_seeds_and_blades_differ():
    first, again, other, blade = (
        next(render(seed, "tip", "good", 1)).image.astype(int) for seed in ((0, 1), (0, 1), (1, 1), (0, 2))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 8
    assert np.abs(first - blade).mean() > 8


def test_same_seed_same_bytes(made, tmp_path):
    few = TINY | {"normal_blades": 1, "defect_blades": 1}
    first, second = simulate(tmp_path / "a", **few), simulate(tmp_path / "b", **few)
    pd.testing.assert_frame_equal(first, second)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    video = "train/good/blade_000_leading_edge.mp4"  # the same blade, whatever else is in the data set
    assert (tmp_path / "a" / video).read_bytes() == (made[0] / video).read_bytes()


def test_markings_keep_to_the_corners():
    for view in VIEWPOINTS.values():
        inks = [markings(view.width, view.height, np.random.default_rng(seed))(seed * 7) for seed in range(5)]
        for ink in inks:
            assert ink.shape == (view.height, view.width)
            assert ink[MARKED:-MARKED].max() == 0
            assert ink[:, view.width // 2 - 10 : view.width // 2 + 10].max() == 0
            assert ink.max() > 0.5
        boxes = {tuple(np.flatnonzero(ink.any(axis=1))[[0, -1]]) for ink in inks}
        assert len(boxes) == 1, "the same place in all videos"


def test_removed_videos_are_made_again_and_others_kept(quick, tmp_path):
    table = simulate(tmp_path, **TINY)
    video, masks = tmp_path / "test/scratch/blade_003_leading_edge.mp4", tmp_path / "ground_truth/dent"
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    video.unlink()
    next(masks.iterdir()).unlink()
    (tmp_path / "frames.csv").unlink()
    pd.testing.assert_frame_equal(simulate(tmp_path, **TINY), table)
    after = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name] and name.endswith((".mp4", ".mkv"))}
    assert {name.split("/")[1] for name in changed} == {"scratch", "dent"}
    assert len(changed) == 6


def test_stopped_run_leaves_whole_videos_or_none(quick, tmp_path, monkeypatch):
    flat, started = dataset.render, []

    def stops(*arguments):
        started.append(arguments)
        yield from islice(flat(*arguments), 1 if len(started) == 5 else None)
        if len(started) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "render", stops)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path, **TINY)
    left = files(tmp_path)
    assert len([name for name in left if name.endswith(".mp4")]) == 4
    assert "frames.csv" not in left
    assert not [name for name in left if "partial" in name]
    simulate(tmp_path, **TINY)
    assert len(started) == 5 + 6, "the four whole videos are not made again"


def test_executor(quick, tmp_path):
    with ThreadPoolExecutor(2) as executor:
        table = simulate(tmp_path / "a", **TINY, executor=executor)
    pd.testing.assert_frame_equal(table, simulate(tmp_path / "b", **TINY))


def test_damaged_label_is_named(quick, tmp_path):
    simulate(tmp_path, **TINY)
    path = tmp_path / "regions/nick/blade_005_trailing_edge_regions.mkv"
    whole = path.read_bytes()
    simulate(tmp_path / "short", **TINY | {"frames": 1})
    short = (tmp_path / "short/regions/nick/blade_005_trailing_edge_regions.mkv").read_bytes()
    for content in (whole[:200], whole[: len(whole) // 2], b"", short):
        path.write_bytes(content)
        with pytest.raises(SimulatorError, match=r"blade_005_trailing_edge_regions.mkv .*delete it"):
            simulate(tmp_path, **TINY)
    path.unlink()
    simulate(tmp_path, **TINY)
    assert path.read_bytes() == whole


def test_another_simulation_is_not_mixed_in(quick, tmp_path):
    simulate(tmp_path, **TINY)
    before = files(tmp_path)
    with pytest.raises(SimulatorError, match=r"another simulation.*delete it or name another"):
        simulate(tmp_path, **TINY | {"seed": 5})
    assert files(tmp_path) == before
    assert json.loads((tmp_path / "settings.json").read_text())["seed"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal_blades": -1}, "normal_blades is -1"),
        ({"defect_blades": 1.5}, "defect_blades is 1.5"),
        ({"frames": 0}, "frames is 0, it must be a whole number of at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"normal_blades": 0, "test_normal_blades": 0, "defect_blades": 0}, "ask for some blades"),
    ],
)
def test_bad_arguments(change, message, tmp_path):
    with pytest.raises(SimulatorError, match=message):
        simulate(tmp_path / "new", **TINY | change)
    assert not (tmp_path / "new").exists()


def test_bad_arguments_of_render():
    with pytest.raises(SimulatorError, match="viewpoint is 'side', it must be one of leading_edge"):
        render(0, "side", "good", 1)
    with pytest.raises(SimulatorError, match="defect is 'rust', it must be one of good, scratch"):
        render(0, "tip", "rust", 1)
    with pytest.raises(SimulatorError, match="frames is 0"):
        render(0, "tip", "good", 0)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SimulatorError, match="file cannot be written"):
        simulate(tmp_path / "file", **TINY)
