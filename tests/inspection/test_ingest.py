"""Videos and images become cropped frames; the manifest says what came from where, and what did not."""

import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flowlib.inspection import ingest as inspection_ingest
from flowlib.inspection.cropping import unmarked_rows
from flowlib.inspection.ingest import IngestError, ingest, parse_crop, publish, video_frames
from flowlib.inspection.layouts import layout
from flowlib.inspection.media import MediaError
from flowlib.inspection.pictures import read_image, read_mask

WIDTH, HEIGHT = 96, 80


def write(path: Path, frames: Iterable[np.ndarray], rate: int = 10, container: dict[str, str] | None = None) -> Path:
    """Write frames (H, W, 3) as H.264 with little loss, frames (H, W) without loss as FFV1."""
    frames = list(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = frames[0].ndim == 2
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(
            "ffv1" if grey else "libx264", rate=rate, options={} if grey else {"crf": "4", "preset": "ultrafast"}
        )
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "gray" if grey else "yuv444p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray" if grey else "rgb24")))
        file.mux(stream.encode(None))
    return path


def scene(count: int, shift: int = 3, marked: bool = True, seed: int = 0) -> list[np.ndarray]:
    """A texture that moves under white markings: rows 2 to 8 on the left, and rows 3 to 6 from the lower end."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 180, (HEIGHT // 4 + count, WIDTH // 4 + count)).astype(np.uint8)
    texture = np.kron(coarse, np.ones((4, 4), np.uint8))
    frames = []
    for i in range(count):
        grey = texture[i * shift :, i * shift :][:HEIGHT, :WIDTH].copy()
        if marked:
            grey[2:9, 4:40:3] = 250
            grey[HEIGHT - 7 : HEIGHT - 3, 60:90:3] = 250
        frames.append(np.stack([grey, grey // 2, grey // 3], axis=-1))
    return frames


def masks(count: int, empty: Iterable[int] = ()) -> list[np.ndarray]:
    """Defect masks: a spot that moves to the right by a pixel a frame."""
    frames = np.zeros((count, HEIGHT, WIDTH), dtype=np.uint8)
    for i in range(count):
        if i not in empty:
            frames[i, 40:44, 20 + i : 26 + i] = 255
    return list(frames)


def images(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def test_frames_are_evenly_spread_and_each_so_manieth_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a b" / "v ü.mp4", scene(45))
    table = ingest(tmp_path / "in", tmp_path / "out", frames=30, every=10, crop="none")
    assert images(tmp_path / "out") == [f"a b/v ü_f{i:06}.png" for i in (0, 15, 30)]
    assert table["frame"].tolist() == [0, 15, 30]
    assert table["seconds"].tolist() == [0.0, 1.5, 3.0]
    assert set(table["status"]) == {"ok"}
    assert set(table["source"]) == {"a b/v ü.mp4"}
    difference = read_image(tmp_path / "out" / "a b" / "v ü_f000015.png").transpose(1, 2, 0) - 1.0 * scene(45)[15]
    assert np.abs(difference).mean() < 3
    pd.testing.assert_frame_equal(
        table, pd.read_csv(tmp_path / "out" / "manifest.csv", keep_default_na=False), check_dtype=False
    )


def test_a_data_set_of_videos_becomes_one_of_images(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write(source / "train" / "good" / "1.mp4", scene(12))
    write(source / "test" / "good" / "2.mp4", scene(12, seed=1))
    write(source / "test" / "crack" / "3.mp4", scene(12, seed=2))
    write(source / "ground_truth" / "crack" / "3_mask.mkv", masks(12, empty=[0, 4]))
    regions = [np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) // 7 % 3 + 0 * i for i in range(12)]
    write(source / "regions" / "crack" / "3_regions.mkv", regions)
    write(source / "regions" / "good" / "1.mkv", regions)
    table = ingest(source, out, frames=300, every=2, crop="10,20,90,60")
    found = layout(out)
    assert len(found.normal) == 6
    assert [label for label, _ in found.test] == ["crack"] * 4 + ["good"] * 6
    assert list(found.masks) == [path for label, path in found.test if label == "crack"]
    for path, mask in found.masks.items():
        frame = int(path.stem[-6:])
        assert read_image(path).shape == (3, 40, 80)
        assert (read_mask(mask, (40, 80)) == (masks(12)[frame][20:60, 10:90] > 0)).all()
        assert (read_image(out / "regions" / "crack" / path.name)[0] == regions[0][20:60, 10:90]).all()
    assert len(list((out / "regions" / "good").iterdir())) == 6
    left_out = table[table["status"] == "no defect"]
    assert left_out["frame"].tolist() == [0, 4]
    assert set(left_out["message"]) == {"the mask is empty within the crop"}
    assert (left_out["file"] == "").all()
    box = table[["width", "height", "x0", "y0", "x1", "y1"]].drop_duplicates().values.tolist()
    assert box == [[WIDTH, HEIGHT, 10, 20, 90, 60]]


def test_a_defect_outside_of_the_crop_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "in" / "train" / "good" / "1.mp4", scene(3))
    write(tmp_path / "in" / "test" / "crack" / "3.mp4", scene(3))
    write(tmp_path / "in" / "ground_truth" / "crack" / "3_mask.mkv", masks(3))
    table = ingest(tmp_path / "in", tmp_path / "out", every=1, crop="0,50,90,60")
    assert (table["source"] + " " + table["status"]).tolist() == ["test/crack/3.mp4 no defect"] * 3 + [
        "train/good/1.mp4 ok"
    ] * 3


def test_images_are_taken_whole_with_their_masks(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("train/good/0.png", "test/good/0.jpg", "test/crack/0.png"):
        (source / name).parent.mkdir(parents=True)
        Image.fromarray(scene(1)[0]).save(source / name)
    (source / "ground_truth" / "crack").mkdir(parents=True)
    Image.fromarray(masks(1)[0] // 255).save(source / "ground_truth" / "crack" / "0_mask.png")
    table = ingest(source, out)
    assert table["file"].tolist() == ["test/crack/0.png", "test/good/0.png", "train/good/0.png"]
    assert (read_image(out / "train" / "good" / "0.png").transpose(1, 2, 0) == scene(1)[0]).all()
    assert set(np.unique(read_image(out / "ground_truth" / "crack" / "0_mask.png"))) == {0, 255}
    Image.fromarray(masks(1)[0][1:]).save(source / "ground_truth" / "crack" / "0_mask.png")
    table = ingest(source, out)
    assert table.set_index("source").loc["test/crack/0.png", "status"] == "refused"
    assert not (out / "test" / "crack" / "0.png").exists(), "of its earlier state"


def test_grey_images_are_written_on_request(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.mp4", scene(2))
    ingest(tmp_path / "in", tmp_path / "out", every=1, grey=True)
    assert read_image(tmp_path / "out" / "a_f000001.png").shape[0] == 1


def test_markings_are_found_by_standing_still(tmp_path: Path) -> None:
    frames = [frame.transpose(2, 0, 1) for frame in scene(20)]
    first, last = unmarked_rows(frames)
    assert 9 <= first <= 14
    assert HEIGHT - 12 <= last <= HEIGHT - 7
    assert unmarked_rows(frames[:7]) is None, "too few"
    assert unmarked_rows([frames[0]] * 20) is None, "the scene stands still, too"
    assert unmarked_rows(frame.transpose(2, 0, 1) for frame in scene(20, marked=False)) == (0, HEIGHT)
    write(tmp_path / "in" / "moving.mp4", scene(20))
    write(tmp_path / "in" / "still.mp4", scene(20, shift=0))
    table = ingest(tmp_path / "in", tmp_path / "out", every=1).groupby("source").first()
    assert (table["x0"] == 0).all()
    assert (table["x1"] == WIDTH).all()
    assert table.loc["moving.mp4", ["y0", "y1"]].tolist() == [first, last]
    assert table.loc["still.mp4", ["y0", "y1"]].tolist() == [8, 72]
    assert "too little movement" in table.loc["still.mp4", "message"]
    assert table.loc["moving.mp4", "message"] == ""
    assert read_image(tmp_path / "out" / "moving_f000003.png").shape == (3, last - first, WIDTH)


def test_a_clock_whose_digits_change_goes_as_well() -> None:
    frames = [frame.transpose(2, 0, 1).copy() for frame in scene(20)]
    for i, frame in enumerate(frames):
        frame[:, 2:11, 44 + i % 3 : 50 : 2] = 250  # two rows lower than what stands still
    assert unmarked_rows(frames)[0] >= 11


def test_what_flashes_or_lies_deep_in_the_picture_is_no_marking() -> None:
    frames = np.random.default_rng(0).integers(60, 120, (20, 1, 200, 100), dtype=np.uint8)
    frames[:, :, 2:9, 4:40:3] = 250
    assert unmarked_rows(frames) == (13, 200), "2 % below the last row of the marking"
    frames[::2, :, 20:24, 10:30] = 250
    frames[:, :, 36:38, 50:70] = 250
    assert unmarked_rows(frames) == (13, 200)


def test_bad_files_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write(source / "good.mp4", scene(10))
    write(source / "cut.mp4", scene(40), container={"movflags": "faststart"})
    content = (source / "cut.mp4").read_bytes()
    (source / "cut.mp4").write_bytes(content[: int(0.6 * len(content))])
    (source / "no index.mp4").write_bytes(write(tmp_path / "x.mp4", scene(10)).read_bytes()[:-900])
    (source / "empty.mp4").touch()
    (source / "text.png").write_text("x")
    (source / "notes.txt").write_text("x")
    Image.fromarray(scene(1)[0]).save(source / "image.png")
    table = ingest(source, out, every=1, crop="none")
    statuses = {name: set(rows) for name, rows in table.groupby("source")["status"]}
    assert statuses == {
        "good.mp4": {"ok"},
        "image.png": {"ok"},
        "cut.mp4": {"ok", "damaged"},
        "no index.mp4": {"refused"},
        "empty.mp4": {"refused"},
        "text.png": {"refused"},
    }
    for _, row in table[table["status"].isin(["refused", "damaged"])].iterrows():
        assert row["file"] == ""
        assert row["source"] in row["message"], "the message names the file"
    ok = table[table["status"] == "ok"]
    assert sorted(ok["file"]) == images(out)
    assert 5 < (ok["source"] == "cut.mp4").sum() < 35


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write(source / "train" / "good" / "1.mp4", scene(2))
    for name in ("short", "small", "colour"):
        write(source / "test" / "crack" / f"{name}.mp4", scene(6))
    truth = source / "ground_truth" / "crack"
    write(truth / "short_mask.mkv", masks(3))
    write(truth / "small_mask.mkv", [mask[1:] for mask in masks(6)])
    write(truth / "colour_mask.mkv", scene(6))
    table = ingest(source, tmp_path / "out", every=1, crop="none")
    statuses = {name: list(rows) for name, rows in table.groupby("source")["status"]}
    assert statuses["test/crack/short.mp4"] == ["ok"] * 3 + ["damaged"]
    assert statuses["test/crack/small.mp4"] == statuses["test/crack/colour.mp4"] == ["refused"]
    for name in ("short", "small", "colour"):
        messages = table.loc[table["source"] == f"test/crack/{name}.mp4", "message"]
        assert f"{name}_mask.mkv is not " in messages.iloc[-1]


def test_a_second_run_reads_only_what_is_new_or_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b", "c"):
        write(source / f"{name}.mp4", scene(4))
    (source / "bad.mp4").touch()
    first = ingest(source, out, every=1)
    read: list[str] = []
    whole = video_frames
    monkeypatch.setattr(
        inspection_ingest, "video_frames", lambda path, *rest: read.append(path.name) or whole(path, *rest)
    )
    pd.testing.assert_frame_equal(ingest(source, out, every=1), first)
    assert read == ["bad.mp4"], "what was refused is tried again"
    write(source / "b.mp4", scene(2))
    (source / "c.mp4").rename(source / "d.mp4")
    (out / "a_f000001.png").unlink()
    read.clear()
    table = ingest(source, out, every=1)
    assert read == ["a.mp4", "b.mp4", "bad.mp4", "d.mp4"]
    assert images(out) == sorted(table.loc[table["status"] == "ok", "file"])
    assert table.groupby("source").size().to_dict() == {"a.mp4": 4, "b.mp4": 2, "bad.mp4": 1, "d.mp4": 4}
    with pytest.raises(IngestError, match="was made of another source or with other settings"):
        ingest(source, out, every=2)
    assert images(out) == sorted(table.loc[table["status"] == "ok", "file"]), "nothing made is lost"


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        write(source / f"{name}.mp4", scene(4))
    expected = ingest(source, tmp_path / "whole", every=1)
    whole, calls = publish, []

    def killed(*args: object) -> None:
        calls.append(args)
        if len(calls) == 6:
            raise KeyboardInterrupt
        whole(*args)

    monkeypatch.setattr(inspection_ingest, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        ingest(source, out, every=1)
    assert set(pd.read_csv(out / "manifest.csv")["source"]) == {"a.mp4"}, "what is complete is listed"
    (out / ".left.partial").mkdir()
    monkeypatch.setattr(inspection_ingest, "publish", whole)
    pd.testing.assert_frame_equal(ingest(source, out, every=1), expected)
    assert images(out) == images(tmp_path / "whole")
    assert not list(out.rglob("*.partial"))


def test_odd_names_cost_no_other_file_anything(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("lot7\r/1.png", "line\nbreak.png", "A.png", "a.png"):
        (source / name).parent.mkdir(exist_ok=True)
        Image.fromarray(scene(1)[0]).save(source / name)
    write(tmp_path / "x.mp4", scene(2)).rename(source / "M\udcfcller.mp4")
    write(tmp_path / "long.mp4", scene(2)).rename(source / f"{'v' * 247}.mp4")
    for _ in range(2):
        table = ingest(source, out).groupby("source")["status"].first()
        assert table[table == "refused"].index.tolist() == [r"M\xfcller.mp4", f"{'v' * 247}.mp4"]
        assert len(images(out)) == (table == "ok").sum() == 4
    assert set(pd.read_csv(out / "manifest.csv")["source"]) >= {"lot7\r/1.png", "line\nbreak.png", r"M\xfcller.mp4"}


def test_on_a_disk_that_folds_case_names_that_differ_by_it_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "A.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(scene(1)[0]).save(tmp_path / "in" / name)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name == ".LOCK" or exists(path))
    table = ingest(tmp_path / "in", tmp_path / "out")
    assert table.set_index("source")["status"].to_dict() == {"A.png": "ok", "a.png": "refused"}
    assert "a.png would replace the frames of" in table["message"].iloc[1]


def test_two_sources_of_one_name_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.mp4", scene(4))
    write(tmp_path / "in" / "a.mkv", scene(4, seed=1))
    table = ingest(tmp_path / "in", tmp_path / "out", every=1)
    assert table.groupby("source")["status"].first().to_dict() == {"a.mkv": "ok", "a.mp4": "refused"}
    assert "a.mp4 would replace the frames of" in table["message"].iloc[-1]


def test_wrong_arguments_and_folders_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write(source / "a.mp4", scene(2))
    for out in (source, source / "out", source / ".." / "in" / "out"):
        with pytest.raises(IngestError, match="lies in the source"):
            ingest(source, out)
    with pytest.raises(IngestError, match="frames is 0, it must be at least 1"):
        ingest(source, tmp_path / "out", frames=0)
    with pytest.raises(MediaError, match="none is missing: name a folder"):
        ingest(tmp_path / "none", tmp_path / "out")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(IngestError, match="nothing holds no image or video"):
        ingest(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(IngestError, match="file cannot be written"):
        ingest(source, tmp_path / "file")
    assert not (tmp_path / "out").exists()
    (tmp_path / "nothing" / "a.mp4").touch()
    with pytest.raises(IngestError, match=r"nothing in .* could be used.*the first reason: .*a\.mp4 is empty"):
        ingest(tmp_path / "nothing", tmp_path / "out")
    table = ingest(source, tmp_path / "out2", crop="none")
    (tmp_path / "out2" / "manifest.csv").write_text("file\nx\n")
    with pytest.raises(IngestError, match=r"manifest\.csv is damaged .*: delete it"):
        ingest(source, tmp_path / "out2", crop="none")
    assert (tmp_path / "out2" / table["file"].iloc[0]).exists()


def test_crop_is_checked(tmp_path: Path) -> None:
    assert parse_crop("1,2,30,40") == parse_crop((1, 2, 30, 40)) == [1, 2, 30, 40]
    for crop in ("1,2,3", "all", "", (1, 2), "5,0,5,9", "-1,0,5,9"):
        with pytest.raises(IngestError, match="crop is "):
            parse_crop(crop)
    write(tmp_path / "in" / "a.mp4", scene(2))
    Image.new("L", (200, 200)).save(tmp_path / "in" / "b.png")
    table = ingest(tmp_path / "in", tmp_path / "out", crop=(0, 0, 100, 100)).set_index("source")
    assert table["status"].to_dict() == {"a.mp4": "refused", "b.png": "ok"}
    assert f"has {WIDTH} x {HEIGHT} pixels, too few for the crop" in table.loc["a.mp4", "message"]


def test_a_video_is_never_held_whole(tmp_path: Path) -> None:
    """100 frames of 0.5 MB each take the memory of a few."""
    write(tmp_path / "in" / "a.mp4", [np.full((360, 480, 3), 2 * i, np.uint8) for i in range(100)])
    tracemalloc.start()
    table = ingest(tmp_path / "in", tmp_path / "out", frames=100, every=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table) == 100
    assert peak < 15e6


def test_it_is_quiet_when_not_on_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "a.mp4", scene(2))
    capfd.readouterr()  # the encoder's own words
    ingest(tmp_path / "in", tmp_path / "out")
    assert capfd.readouterr() == ("", "")
