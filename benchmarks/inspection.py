"""How fast a stack of videos is inspected, what memory it takes, and what thinning costs: benchmarks/inspection.csv.

Run with nothing beside it: ``python benchmarks/inspection.py DATA``, where DATA is what ``flowlib simulate DATA
--normal 150 --test-normal 60 --defective 56`` wrote. Everything is measured end to end, as the command line does it, on
all cores: reading, scoring, pictures, tables and the page. Of the good videos 39 at a time calibrate.
"""

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pandas as pd
from PIL import Image

from flowlib.detector import fitting, storage
from flowlib.experiments.borescope.videos import rates, unseen_tracks
from flowlib.inspection import calibration, normals
from flowlib.inspection.scan import scan
from flowlib.inspection.videos import video_frames
from flowlib.runtime import parallel

HERE = Path(__file__).parent
FULL_HD = 1920, 1080


def measured(name: str, model: Path, source: Path, **options: object) -> dict[str, object]:
    """One run of `scan` into a fresh folder."""
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        table = scan(model, source, Path(out) / "results", **options)  # type: ignore[arg-type]
        seconds = time.perf_counter() - began
    return {"what": name, "number": len(table), "seconds": seconds, "a second": len(table) / seconds}


def large_video(source: Path, path: Path) -> None:
    """The frames of a video, three times over, enlarged to full HD."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height = FULL_HD
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            for frame in video_frames(source):
                picture = Image.fromarray(frame.image.transpose(1, 2, 0)).resize(FULL_HD, Image.Resampling.BICUBIC)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        file.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--detector", type=Path, help="of these data; fitted where none is named")
    data, model = (lambda given: (given.data, given.detector))(parser.parse_args())
    work = Path(tempfile.mkdtemp())
    rows = []
    if model is None:
        model = work / "detector"
        began = time.perf_counter()
        normal = normals.read_normal(data)
        storage.save(fitting.fit(normal.images, normal.sources), model)
        calibration.after_fit(model, data, normal.sources, 0)
        seconds = time.perf_counter() - began
        rows.append({"what": "fit", "number": len(normal.images), "seconds": seconds})
    good = sorted((data / "test" / "good").glob("*.mp4"))
    for number in (1, len(good)):  # of one video most of the time is that of the start
        small = work / f"small {number}"
        small.mkdir()
        for path in good[:number]:
            shutil.copy(path, small)
        rows.append(measured(f"frames of {number} of the simulator's videos", model, small))
    large = work / "large"
    large.mkdir()
    for number in range(2):
        large_video(good[number], large / f"{number}.mp4")
    rows.append(measured("frames of full HD", model, large))
    images = work / "images"
    images.mkdir()
    for number, frame in enumerate(video_frames(good[0])):
        for copy in range(6):
            Image.fromarray(frame.image.transpose(1, 2, 0)).save(images / f"{number:03}_{copy}.jpg", quality=90)
    rows.append(measured("images", model, images))
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    rows.append({"what": "memory of the largest process, MB", "number": most // 1024})
    pd.DataFrame(rows).round(2).to_csv(HERE / "inspection.csv", index=False)
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    with parallel.processes() as executor:
        tracks = unseen_tracks(model, data, executor)
    table = rates(tracks, every=(1, 2, 4, 8), calibrating=39).round(3)
    table.to_csv(HERE / "inspection_rates.csv", index=False)
    print(table.to_string(index=False))
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
