"""What is scored, written and refused, with a detector that knows little but runs quickly."""

import errno
import struct
import unicodedata
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import tifffile
from imagecodecs import png_encode
from PIL import Image

from flowlib.detector import fitting, storage
from flowlib.detector.model import DetectorError, Region, Settings, working
from flowlib.figures import heat
from flowlib.inspection import normals, overlays
from flowlib.inspection import scan as inspection_scan
from flowlib.inspection.media import Frame, MediaError
from flowlib.inspection.scan import InspectionError, read_settings, scan
from flowlib.inspection.verdicts import VerdictsError

COLUMNS = ["file", "score", "threshold", "anomalous", "x0", "y0", "x1", "y1"]


def texture(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A grey weave with noise, (H, W), of as many threads in all sizes from 64 on."""
    y, x = np.mgrid[:height, :width] * min(1, 64 / max(width, height))
    noise = np.random.default_rng(seed).normal(0, 4, (height, width))
    return np.clip(110 + 30 * np.sin(x / 3 + seed) * np.cos(y / 4) + noise, 0, 255).astype(np.uint8)


def blotch(seed: int = 0, width: int = 64, height: int = 48) -> np.ndarray:
    """`texture` with a bright square at (40, 10) to (52, 22) of 64x48, as far along in other sizes."""
    image = texture(seed, width, height)
    image[10 * height // 48 : 22 * height // 48, 40 * width // 64 : 52 * width // 64] = 250
    return image


def save(image: np.ndarray, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def video(path: Path, frames: list[np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "4", "preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = "yuv444p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.stack([frame] * 3, -1), format="rgb24")))
        file.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as executor:
        patch.setenv("FLOWLIB_DATA", str(folder))
        patch.setattr(fitting, "POSITIONS", 2000)
        images = [texture(i)[None] for i in range(16)]
        fitted = fitting.fit(images, settings=Settings("pixels", size=64, steps=40), executor=executor)
    return storage.save(fitted, folder).parent


@pytest.fixture
def settings() -> dict[str, object]:
    return {"false_alarm_rate": 0.2}


def bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))))


def write_bad_files(folder: Path) -> set[str]:
    """What must be refused, by name."""
    save(texture(0, 5, 5), folder / "five.png")
    (folder / "text.png").write_text("no image")
    (folder / "zero.png").touch()
    (folder / "zero.mp4").touch()
    bomb(folder / "bomb.png")
    content = video(folder / "truncated.mp4", [texture(i) for i in range(5)]).read_bytes()
    (folder / "truncated.mp4").write_bytes(content[: len(content) // 2])
    return {"five.png", "text.png", "zero.png", "zero.mp4", "bomb.png", "truncated.mp4"}


def write_odd_files(folder: Path) -> dict[str, tuple[int, int]]:
    """What must be scored, with width and height as shown."""
    grey = texture(1)
    colour = np.stack([grey] * 3, -1)
    save(grey, folder / "plain.png")
    save(colour, folder / "mit Leerzeichen und Ümläuten 翼.png")
    save(np.dstack([colour, np.full_like(grey, 200)]), folder / "sub folder" / "alpha.png")
    (folder / "sixteen.png").write_bytes(png_encode(grey.astype(np.uint16) * 257))
    Image.fromarray(colour).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(colour, folder / "turned.jpg", exif=exif, quality=95)
    save(texture(2, 32, 32), folder / "small.png")
    save(texture(3, 640, 360), folder / "large.png")
    save(texture(4, 200, 33), folder / "long.png")
    sizes = dict.fromkeys(("plain.png", "mit Leerzeichen und Ümläuten 翼.png", "sub folder/alpha.png"), (64, 48))
    sizes |= {"sixteen.png": (64, 48), "cmyk.jpg": (64, 48), "turned.jpg": (48, 64), "small.png": (32, 32)}
    return sizes | {"large.png": (640, 360), "long.png": (200, 33)}


def test_bad_files_are_refused_by_name_and_odd_ones_scored(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection_scan, "PROCESSES_FROM", 1000)
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    sizes, bad = write_odd_files(source), write_bad_files(source)
    table = scan(model, source, out, maps=True).set_index("file")
    assert set(table.index[table["status"] == "ok"]) == set(sizes)
    assert set(table.index[table["status"] == "refused"]) == bad
    for file in bad:
        assert file in table.loc[file, "message"], "by its name"
        assert table.loc[file, COLUMNS[1:]].isna().all()
    for file, (width, height) in sizes.items():
        row = table.loc[file]
        assert 0 <= row["x0"] < row["x1"] <= width, file
        assert 0 <= row["y0"] < row["y1"] <= height, file
        assert row["anomalous"] == (row["score"] > row["threshold"])
        stem = Path(file).with_suffix("")
        found = tifffile.imread(out / "maps" / f"{stem}.tiff")
        assert (found.dtype, found.shape) == (np.float32, (height, width))
        with Image.open(out / "heatmaps" / f"{stem}.png") as picture:
            assert picture.size == (width, height)
        assert (out / row["overlay"]).is_file()


def test_the_table_has_its_columns_first_and_can_be_read_by_anyone(model: Path, tmp_path: Path) -> None:
    save(texture(0), tmp_path / "in" / "a, b.png")
    table = scan(model, tmp_path / "in", tmp_path / "out")
    assert list(table.columns[:8]) == COLUMNS
    written = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert list(written.columns) == list(table.columns)
    assert written["file"].tolist() == ["a, b.png"]
    assert written["score"].tolist() == table["score"].tolist()
    assert written["anomalous"].dtype == bool


@pytest.mark.parametrize("size", [(64, 48), (32, 32), (256, 192), (90, 400)])
def test_the_box_lies_on_what_is_odd(model: Path, tmp_path: Path, settings: dict, size: tuple[int, int]) -> None:
    width, height = size
    save(blotch(20, width, height), tmp_path / "a.png")
    row = scan(model, tmp_path / "a.png", tmp_path / "out", settings, maps=True).iloc[0]
    middle = (row["x0"] + row["x1"]) / 2 / width, (row["y0"] + row["y1"]) / 2 / height
    assert 36 / 64 < middle[0] < 56 / 64
    assert 6 / 48 < middle[1] < 26 / 48
    assert (row["x1"] - row["x0"]) * (row["y1"] - row["y0"]) < 0.4 * width * height
    found = tifffile.imread(tmp_path / "out" / "maps" / "a.tiff")
    peak = np.unravel_index(found.argmax(), found.shape)
    assert row["y0"] <= peak[0] < row["y1"]
    assert row["x0"] <= peak[1] < row["x1"]


def test_an_image_scores_as_in_the_calibration_whatever_its_size(model: Path, tmp_path: Path, settings: dict) -> None:
    """The map that is written has the image's own size; the score is of the size that the threshold is of."""
    large = np.asarray(Image.fromarray(blotch(3)).resize((512, 384), Image.Resampling.NEAREST))
    save(large, tmp_path / "in" / "large.png")
    save(working(large[None], 64, 1)[0], tmp_path / "in" / "reduced.png")
    scores = scan(model, tmp_path / "in", tmp_path / "out", settings)["score"]
    assert scores[0] == scores[1]
    known = storage.load(model)
    assert known.score_samples([large[None]])[0] == known.score_samples([working(large[None], 64, 1)])[0]


def test_grey_and_colour_of_one_content_score_alike(model: Path, tmp_path: Path) -> None:
    save(blotch(), tmp_path / "in" / "grey.png")
    save(np.stack([blotch()] * 3, -1), tmp_path / "in" / "colour.png")
    scores = scan(model, tmp_path / "in", tmp_path / "out")["score"]
    assert scores[0] == scores[1]


def test_a_run_goes_on_where_it_was(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for i in range(3):
        save(texture(i), source / f"{i}.png")
    save(blotch(), source / "dir" / "v.png")
    seen: list[str] = []
    inspect = inspection_scan.inspect

    def killed_after_two(job, run, bar=False):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(job.file)
        return inspect(job, run, bar)

    monkeypatch.setattr(inspection_scan, "inspect", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        scan(model, source, out)
    assert pd.read_csv(out / "scores.csv")["file"].tolist() == seen == ["0.png", "1.png"]

    def note(job, run, bar=False):
        seen.append(job.file)
        return inspect(job, run, bar)

    monkeypatch.setattr(inspection_scan, "inspect", note)

    def rescored(**options: object) -> list[str]:
        seen.clear()
        scan(model, source, out, **options)
        return list(seen)

    everything = ["0.png", "1.png", "2.png", "dir/v.png"]
    assert rescored() == ["2.png", "dir/v.png"]
    assert rescored() == []
    save(texture(9), source / "1.png")
    assert rescored() == ["1.png"]
    (out / "overlays" / "2.png").unlink()
    assert rescored() == ["2.png"]
    assert rescored(settings={"false_alarm_rate": 0.3}) == everything
    assert rescored(settings={"false_alarm_rate": 0.3}, maps=True) == everything
    (source / "0.png").unlink()
    assert rescored(settings={"false_alarm_rate": 0.3}, maps=True) == []
    assert not list(out.rglob("0.*")), "what was made of a vanished file goes with it"
    path = model / "detector.safetensors"
    content = path.read_bytes()
    try:
        known = storage.load(model)
        known = replace(known, level=known.level + 1)
        options = {"settings": {"false_alarm_rate": 0.3}, "maps": True}
        assert rescored(**options) == []
        storage.save(known, model)
        assert len(rescored(**options)) == 3
    finally:
        path.write_bytes(content)
    assert not list(out.rglob("*.partial"))


def test_refused_files_are_tried_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(texture(0), tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").touch()
    assert scan(model, tmp_path / "in", tmp_path / "out")["status"].tolist() == ["ok", "refused"]
    assert scan(model, tmp_path / "in", tmp_path / "out")["status"].tolist() == ["ok", "refused"]
    # the file is as it was, but now it can be opened
    monkeypatch.setattr(normals, "read_picture", lambda path: Frame(0, 0.0, texture(1)[None]))
    assert scan(model, tmp_path / "in", tmp_path / "out")["status"].tolist() == ["ok", "ok"]


def test_a_video_gives_a_row_a_frame_and_a_track(model: Path, tmp_path: Path, settings: dict) -> None:
    video(tmp_path / "v.mp4", [blotch(i) if i in (12, 13) else texture(i) for i in range(20)])
    out = tmp_path / "out"
    table = scan(model, tmp_path / "v.mp4", out, settings, frames=10)
    assert table["frame"].tolist() == list(range(0, 20, 2))
    np.testing.assert_allclose(table["seconds"].astype(float), np.arange(0, 2, 0.2), atol=1e-3)
    assert set(table["file"]) == {"v.mp4"}
    assert table["frame"][table["score"].astype(float).idxmax()] == 12
    assert sorted(path.name for path in (out / "overlays").iterdir()) == [f"v_f{i:06}.png" for i in range(0, 20, 2)]
    with Image.open(out / "tracks" / "v.png") as track:
        assert track.width > 500
    scan(model, tmp_path / "v.mp4", out, settings, frames=3)
    assert len(list((out / "heatmaps").iterdir())) == 3, "frames of the other run are gone"


def test_a_long_video_takes_no_more_memory_than_a_short_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a frame is scored no other one is alive."""
    import weakref

    video(tmp_path / "v.mp4", [texture(i) for i in range(12)])
    alive: list[weakref.ref] = []
    most = 0
    judge = inspection_scan.judge

    def counting(known, threshold, image, *rest):
        nonlocal most
        alive.append(weakref.ref(image))
        most = max(most, sum(reference() is not None for reference in alive))
        return judge(known, threshold, image, *rest)

    monkeypatch.setattr(inspection_scan, "judge", counting)
    scan(model, tmp_path / "v.mp4", tmp_path / "out")
    assert len(alive) == 12
    assert most <= 2


def test_markings_of_a_video_are_neither_learned_nor_found(model: Path, tmp_path: Path, settings: dict) -> None:
    """What lies between them is scored as if it were the whole picture, and boxes are still of the whole."""
    plain = [np.roll(blotch(0, 128, 96) if i == 12 else texture(0, 128, 96), 5 * i, 1) for i in range(24)]
    marked = [np.vstack([frame[:20], frame, frame[-20:]]) for frame in plain]
    for frame in marked:
        frame[4:12, 8:60:3] = 255
        frame[-12:-4, 70:120:3] = 255
    video(tmp_path / "v.mp4", marked)
    rows = normals.unmarked(tmp_path / "v.mp4")
    assert 12 <= rows.start <= 20
    assert 116 <= rows.stop <= 124
    assert {image.shape for image in normals.read_normal(tmp_path, 30, 512).images} == {
        (3, rows.stop - rows.start, 128)
    }
    table = scan(model, tmp_path / "v.mp4", tmp_path / "out", settings, frames=24, maps=True)
    worst = table.loc[table["score"].astype(float).idxmax()]
    assert worst["frame"] == 12
    middle = (worst["x0"] + worst["x1"]) / 2, (worst["y0"] + worst["y1"]) / 2
    assert abs(middle[0] - (92 + 60) % 128) < 12
    assert abs(middle[1] - (32 + 20)) < 12
    found = tifffile.imread(tmp_path / "out" / "maps" / "v_f000012.tiff")
    assert found.shape == (136, 128)
    assert not found[: rows.start].any()
    assert not found[rows.stop :].any()
    assert found[rows].all()


def test_a_video_in_which_nothing_moves_loses_a_tenth_at_both_ends(tmp_path: Path) -> None:
    frame = texture(0)
    frame[2:6, 8:40:3] = 255
    assert normals.unmarked(video(tmp_path / "v.mp4", [frame] * 12)) == slice(5, 43)
    assert normals.unmarked(video(tmp_path / "low.mp4", [frame[:34]] * 12)) == slice(None), "nothing would be left"
    assert normals.unmarked(tmp_path / "a.png") == slice(None)


def test_a_damaged_video_keeps_its_good_frames_and_is_told(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "in" / "v.mkv"
    content = video(path, [texture(i, 128, 96) for i in range(60)]).read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])
    table = scan(model, tmp_path / "in", tmp_path / "out", frames=60)
    assert table["status"].iloc[-1] == "damaged"
    assert "v.mkv is damaged or cut off" in table["message"].iloc[-1]
    assert 5 < (table["status"] == "ok").sum() < 60


def test_mvtec_trees_are_scored_in_test_with_labels_and_its_paths_of_maps(model: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    for name in ("train/good/0.png", "test/good/0.png", "test/crack/0.png", "ground_truth/crack/0_mask.png"):
        save(texture(0), root / name)
    table = scan(model, root, out, maps=True)
    assert table["file"].tolist() == ["test/crack/0.png", "test/good/0.png"]
    assert table["label"].tolist() == ["crack", "good"]
    for label in ("crack", "good"):  # as evaluate_experiment.py, given a folder of data sets and one of maps, does
        for file in (root / "test" / label).iterdir():
            found = tifffile.imread(out / "maps" / "set" / "test" / label / f"{file.stem}.tiff")
            assert (found.dtype, found.shape) == (np.float32, texture(0).shape)
    assert len(list(out.rglob("*.tiff"))) == 2
    scan(model, root, out)
    assert not list(out.rglob("*.tiff")), "maps of an earlier run are not left beside new scores"


def test_files_that_differ_by_suffix_do_not_overwrite_each_other(model: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        save(texture(0), tmp_path / "in" / name)
    scan(model, tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == [
        "a.jpg.png",
        "a.png.png",
        "b.png",
    ]


def test_names_of_pictures_are_of_one_file_each_on_any_disk() -> None:
    files = ["a.png", "A.png", "b.png", "b.jpg", "b.png.jpg", "e\u0301.png", "\u00e9.png", "c.mp4", "c_f000007.png"]
    files += ["d_f000000.png", "d_f000010.png"]
    found = inspection_scan.picture_names([Path(file) for file in files])
    assert len({unicodedata.normalize("NFC", name).casefold() for name in found.values()}) == len(files)
    assert (found["d_f000000.png"], found["c.mp4"]) == ("d_f000000", "c.mp4")
    assert found["b.png"].startswith("b.png")


def test_odd_names_cost_no_other_file_anything(model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    odd = ["lot7\r/1.png", "line\nbreak.png", "-dash.png", "space /x .png", "NA.png", "a.png", "A.png", "$a_{b$.png",
           f"{'n' * 247}.png"]  # fmt: skip
    for name in odd:
        save(texture(0), source / name)
    video(source / "$x_{$.mp4", [texture(i) for i in range(2)])
    save(texture(0), tmp_path / "x.png").rename(source / "M\udcfcller.png")
    (source / f"{'v' * 251}.mp4").write_bytes((source / "$x_{$.mp4").read_bytes())
    table = scan(model, source, out).groupby("file")["status"].first()
    assert table[table == "refused"].index.tolist() == [r"M\xfcller.png", f"{'v' * 251}.mp4"]
    assert set(table[table == "ok"].index) == {*odd, "$x_{$.mp4"}
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    again = scan(model, source, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == kept, "what was written can be read"
    written = pd.read_csv(out / "scores.csv", keep_default_na=False)
    assert set(written["file"]) == {*odd, "$x_{$.mp4", r"M\xfcller.png", f"{'v' * 251}.mp4"}
    assert (
        again.loc[again["file"] == r"M\xfcller.png", "message"].item().endswith("a name that is not UTF-8: rename it")
    )


def test_a_disk_that_is_full_is_no_fault_of_a_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    save(texture(0), tmp_path / "in" / "a.png")
    monkeypatch.setattr(inspection_scan, "judge", full)
    with pytest.raises(InspectionError, match=r"cannot be written .*No space left"):
        scan(model, tmp_path / "in", tmp_path / "out")


def test_files_that_are_not_read_have_rows_and_own_results_have_none(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    save(texture(0), source / "lot" / "a.png")
    (source / "b.heic").write_bytes(b"x")
    scan(model, source / "lot", source / "results")
    table = scan(model, source, tmp_path / "out").set_index("file")["status"]
    assert table.to_dict() == {"b.heic": "refused", "lot/a.png": "ok"}
    assert len(normals.read_normal(source).sources) == 1


def test_processes_and_this_one_write_the_same(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        save(texture(i), tmp_path / "in" / f"{i}.png")
    alone = scan(model, tmp_path / "in", tmp_path / "alone")
    with ThreadPoolExecutor(2) as executor:
        shared = scan(model, tmp_path / "in", tmp_path / "shared", executor=executor)
    pd.testing.assert_frame_equal(alone, shared)


def test_what_cannot_be_scored_is_told(model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    with pytest.raises(InspectionError, match="in holds no image or video"):
        scan(model, source, out)
    (source / "a.png").write_text("no image")
    with pytest.raises(InspectionError, match=r"nothing in .*in could be scored.*a\.png is not a BMP"):
        scan(model, source, out)
    assert pd.read_csv(out / "scores.csv")["status"].tolist() == ["refused"]
    save(texture(0), source / "b.png")
    with pytest.raises(InspectionError, match=r"out .*in/out lies in .*in, which is scored: name a folder outside"):
        scan(model, source, source / "out")
    with pytest.raises(InspectionError, match=r"none\.png is missing: name a folder, a video or an"):
        scan(model, tmp_path / "none.png", tmp_path / "other")
    assert not (tmp_path / "other").exists(), "a slip leaves nothing that stands in the way of the right call"
    with pytest.raises(InspectionError, match=r"out holds the scores of .*in: name another folder"):
        scan(model, source / "b.png", out)
    with pytest.raises(DetectorError, match="fit a detector first"):
        scan(tmp_path / "nowhere", source, out)
    with pytest.raises(InspectionError, match="frames is 0, it must be at least 1"):
        scan(model, source, out, frames=0)
    (tmp_path / "nofolder").touch()
    with pytest.raises(InspectionError, match="cannot be written"):
        scan(model, source, tmp_path / "nofolder" / "out")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "scores.csv").write_text("name,points\na,1\n")
    with pytest.raises(VerdictsError, match=r"scores\.csv is damaged or not ours"):
        scan(model, source, tmp_path / "foreign")
    assert (tmp_path / "foreign" / "scores.csv").read_text() == "name,points\na,1\n"


def test_settings_override_and_unknown_ones_are_refused(model: Path, tmp_path: Path) -> None:
    save(blotch(), tmp_path / "a.png")
    known = storage.load(model)

    def one(**settings: object) -> pd.Series:
        return scan(model, tmp_path / "a.png", tmp_path / "out", settings).iloc[0]

    assert one(false_alarm_rate=0.9)["threshold"] < one(false_alarm_rate=0.3)["threshold"]
    assert one(false_alarm_rate=0.001)["threshold"] == pytest.approx(known.calibration.max(), abs=1e-6)
    for settings, message in [
        ({"treshold": 1}, "settings have treshold: the keys are false_alarm_rate"),
        ({"false_alarm_rate": 5}, "false_alarm_rate is 5, it must lie between 0 and 1"),
        ({"false_alarm_rate": "5 %"}, "false_alarm_rate is '5 %'"),
        ({"map": "ratio"}, "settings have map: the keys are"),
    ]:
        with pytest.raises(InspectionError, match=message):
            one(**settings)
    path = tmp_path / "settings.yaml"
    path.write_text("false_alarm_rate: 0.1\n")
    assert read_settings(path) == {"false_alarm_rate": 0.1}
    for text in ("- PCA", "map: [", "PCA"):
        path.write_text(text)
        with pytest.raises(InspectionError, match=r"settings\.yaml"):
            read_settings(path)
    with pytest.raises(InspectionError, match=r"none\.yaml cannot be read"):
        read_settings(tmp_path / "none.yaml")


# --- normal files ----------------------------------------------------------------------------------------------------


def test_normal_files_are_read_reduced_and_refused_by_name(tmp_path: Path) -> None:
    sizes, bad = write_odd_files(tmp_path), write_bad_files(tmp_path)
    video(tmp_path / "v.mp4", [texture(i, 128, 96) for i in range(40)])
    found = normals.read_normal(tmp_path, 30, size=64)
    assert len(found.images) == len(found.sources) == len(sizes) + 30
    assert found.sources.count(str(tmp_path / "v.mp4")) == 30
    assert sorted(Path(reason.split(".")[0]).name for reason in found.refused) == sorted(Path(n).stem for n in bad)
    assert max(max(image.shape[1:]) for image in found.images) <= 200  # the long one keeps 32 pixels on its other side
    assert {len(image) for image in found.images} == {1, 3}


def test_of_many_normal_files_some_are_taken_evenly(tmp_path: Path) -> None:
    for i in range(10):
        save(np.full((32, 32), 10 * i, np.uint8), tmp_path / f"{i}.png")
    video(tmp_path / "v.mp4", [texture(i) for i in range(20)])
    found = normals.read_normal(tmp_path, 20, 64, most=15)
    assert (len(found.images), found.available) == (15, 30)
    assert found.sources.count(str(tmp_path / "v.mp4")) == 10
    assert [Path(name).name for name in found.sources[:5]] == [f"{i}.png" for i in range(0, 10, 2)]


def test_frames_that_ingest_wrote_know_their_video(tmp_path: Path) -> None:
    from flowlib.inspection.ingest import ingest

    for name in ("a", "b"):
        video(tmp_path / "in" / f"{name}.mp4", [texture(i) for i in range(6)])
    ingest(tmp_path / "in", tmp_path / "frames", frames=3, every=1, crop="none")
    assert sorted(normals.read_normal(tmp_path / "frames").sources) == ["a.mp4"] * 3 + ["b.mp4"] * 3
    (tmp_path / "frames" / "manifest.csv").write_text("a table,of someone else\n1,2\n")
    assert len(set(normals.read_normal(tmp_path / "frames").sources)) == 6


def test_folders_without_normal_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="holds no normal image or video that can be used: add PNG"):
        normals.read_normal(tmp_path)
    save(texture(0, 5, 5), tmp_path / "five.png")
    with pytest.raises(DetectorError, match=r"the first reason: .*five\.png: the image has 5x5 pixels"):
        normals.read_normal(tmp_path)
    with pytest.raises(MediaError, match="is missing: name a folder"):
        normals.read_normal(tmp_path / "none")
    with pytest.raises(DetectorError, match="frames is 0"):
        normals.read_normal(tmp_path, 0)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_colours_mean_the_same_in_every_picture() -> None:
    values = np.array([[-1.0, 0.0, 2.0, 4.0, 90.0]], dtype=np.float32)
    colours = np.asarray(overlays.heat_map(values, 2.0))[0]
    assert (colours[0] == heat.HEAT[0]).all()
    assert (colours[1] == heat.HEAT[0]).all()
    assert (colours[2] == heat.HEAT[127]).all()
    assert (colours[3:] == heat.HEAT[255]).all()


def test_usual_parts_stay_as_they_are_and_only_anomalies_are_boxed() -> None:
    image = np.full((1, 480, 640), 99, np.uint8)
    values = np.zeros((480, 640), np.float32)
    values[100:120, 200:240] = 5
    box = Region(200, 100, 240, 120)
    normal, odd = (np.asarray(overlays.overlay(image, values, 2, box, 1, threshold)) for threshold in (2, 0))
    outside = np.ones((480, 640), bool)
    outside[100:120, 200:240] = False
    assert (normal[:480, :640][outside] == 99).all()
    assert (normal[:480, :640][~outside] != 99).any()
    changed = (odd[:480] != normal[:480]).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert (rows[0], rows[-1]) == (100 - overlays.MARGIN - 3, 119 + overlays.MARGIN + 3)
    assert (columns[0], columns[-1]) == (200 - overlays.MARGIN - 3, 239 + overlays.MARGIN + 3)
    assert not changed[100:120, 200:240].any(), "the box is around the region, not on it"


@pytest.mark.parametrize(
    ("size", "shown"), [((32, 32), (480, 480)), ((640, 480), (640, 480)), ((4000, 1000), (1920, 480))]
)
def test_pictures_can_be_looked_at_whatever_the_size(size: tuple[int, int], shown: tuple[int, int]) -> None:
    picture, factor = overlays.fitted(Image.new("RGB", size))
    assert picture.size == shown
    assert factor == pytest.approx(shown[0] / size[0])
