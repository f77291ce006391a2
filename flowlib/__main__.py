"""The command line, ``python -m flowlib``: run, publish, data for the study; simulate, ingest, fit, score for your own.

What takes long to import is imported inside a command.
"""

import os
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Normalizing flows for anomaly detection: run the study, or fit a detector on your own normal images.",
    no_args_is_help=True,
)
NETWORK = "tf_efficientnet_lite2"  # as flowlib.detector.features has it
Profile = Annotated[str, typer.Option(help="A file of notebooks/profiles, without .yaml.")]


@app.command()
def run(
    notebooks: Annotated[
        list[str] | None, typer.Argument(metavar="NOTEBOOK", help="01_contamination; all if none.")
    ] = None,
    profile: Profile = "quick",
    parameters: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="Override a parameter.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Notebooks run at once: while one draws, another trains.")] = 2,
    force: Annotated[bool, typer.Option("--force", help="Run what is up to date, too.")] = False,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", envvar="FLOWLIB_DASK", help="Train on the Dask cluster of this scheduler."),
    ] = None,
) -> None:
    """Run notebooks of a profile into reports/PROFILE and print the path of its index.html."""
    from flowlib.runtime import parallel, paths
    from flowlib.study import parameters as checking
    from flowlib.study import report, runner

    checking.need_checkout()
    overrides = parse_overrides(parameters or [])
    checking.plan(profile, notebooks, overrides)  # what is asked for wrongly is refused before anything is downloaded
    if dask:
        with parallel.cluster(dask):  # so is a cluster that cannot be used
            os.environ[parallel.DASK] = dask  # for the notebooks' kernels
    data()
    statuses = runner.run(profile, notebooks, overrides, jobs, force)
    print(report.write_index(paths.ROOT / "reports" / profile))
    if "failed" in statuses.values():
        raise typer.Exit(1)


@app.command()
def publish(profile: Profile = "quick") -> None:
    """Copy a finished report's figures and tables to reports/ and write reports/README.md."""
    from flowlib.study import parameters, publication

    parameters.need_checkout()
    print(publication.publish(profile))


@app.command()
def data() -> None:
    """Fetch MNIST and Fashion-MNIST where they are not there yet, and verify them."""
    from flowlib.runtime import download
    from flowlib.study import parameters

    parameters.need_checkout()
    for name in ("mnist", "fashion-mnist"):
        download.ensure(name)
        print(f"{name}: verified")


@app.command()
def artifacts(
    clean: Annotated[
        bool, typer.Option("--clean", help="Show what no one needs any more, or what else is asked.")
    ] = False,
    days: Annotated[float | None, typer.Option(help="With --clean: also what was made so many days ago.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="With --clean: all.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --clean: remove what it shows.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every SHA-256: minutes.")] = False,
) -> None:
    """List what is kept of trained models, their scores and maps; remove what no one needs any more.

    That is what is damaged, left over from killed runs, or made by older code. What a running process is making stays.
    """
    from flowlib.runtime import kept

    if not clean and (everything or yes or days is not None):
        raise kept.KeptError("--all, --days and --yes say what --clean removes: add --clean")
    found = kept.listed(verify)
    if clean:
        found = kept.needless(found, days, everything)
    print("\n".join(kept.lines(found)))
    if clean and not yes and found:
        print("nothing was removed: add --yes to remove these")
    elif clean and found:
        removed = kept.remove(found)
        print(f"removed: {kept.total(removed)}")
        if held := len(found) - len(removed):
            print(f"{held} left: a running process holds them")


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    normal: Annotated[int, typer.Option(help="Videos of normal blades to train on.")] = 16,
    test_normal: Annotated[int, typer.Option(help="Videos of normal blades to test on.")] = 8,
    defective: Annotated[int, typer.Option(help="Videos of damaged blades to test on.")] = 24,
    frames: Annotated[int, typer.Option(help="Frames a video.")] = 40,
    seed: Annotated[int, typer.Option(help="The same seed gives the same frames.")] = 0,
) -> None:
    """Write simulated borescope videos with exact masks, in the layout of MVTec AD."""
    from flowlib.runtime import parallel
    from flowlib.simulator.dataset import simulate as make

    with parallel.processes() as executor:
        table = make(out, normal, test_normal, defective, frames, seed, executor)
    print(f"{table['video'].nunique()} videos of {frames} frames: {out / 'frames.csv'}")


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="Folder of videos and images.")],
    out: Annotated[Path, typer.Argument(help="Folder for the frames, outside of SOURCE.")],
    frames: Annotated[int, typer.Option(help="Evenly spread frames of each video.")] = 300,
    every: Annotated[int, typer.Option(help="Of these, each so-manieth is kept.")] = 10,
    crop: Annotated[str, typer.Option(help="auto (cuts off markings of videos), none, or x0,y0,x1,y1.")] = "auto",
    grey: Annotated[bool, typer.Option("--grey", help="Write grey images.")] = False,
) -> None:
    """Turn videos into cropped frames, with a manifest of what came from where. Exit status 1 if a file was refused."""
    from flowlib.inspection import layouts, normals
    from flowlib.inspection.ingest import ingest as take

    table = take(source, out, frames, every, crop, grey)
    print(f"{(table['status'] == 'ok').sum()} images: {out / 'manifest.csv'}")
    tell([*layouts.left_out(source), *normals.doubts(table, "source")])
    complain(table.loc[table["status"].isin(["refused", "damaged"]), "message"])


@app.command()
def fit(
    folder: Annotated[Path, typer.Argument(help="Normal images and videos; of an MVTec AD tree, its train/good.")],
    out: Annotated[Path, typer.Option(help="Folder for the detector.")],
    features: Annotated[str, typer.Option(help="Network of timm whose features are modelled, or pixels.")] = NETWORK,
    size: Annotated[int, typer.Option(help="Longest side in pixels that images are worked on at.")] = 512,
    frames: Annotated[int, typer.Option(help="Evenly spread frames of each video.")] = 30,
    seed: int = 0,
    also: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Marks saved from a page: its false alarms are normal, too.")
    ] = None,
) -> None:
    """Fit a detector on normal images alone. Exit status 1 if a file was refused."""
    from flowlib.detector import fitting, storage
    from flowlib.detector.model import Settings
    from flowlib.inspection import calibration, layouts, marks, normals

    settings = Settings(features, size, seed=seed)  # refused at once where it is wrong
    more = marks.false_alarms(also) if also else {}
    normal = normals.read_normal(folder, frames, size, also=more)
    if normal.available > normals.MOST:
        print(f"{len(normal.images)} of about {normal.available} normal images and frames are used, evenly spread")
    fitted = fitting.fit(normal.images, normal.sources, settings)
    path = storage.save(fitted, out)
    calibration.after_fit(out, folder, normal.sources, seed)
    print("\n".join([*normals.described(fitted), str(path)]))
    tell([*normals.warnings(fitted), *normal.notes, *layouts.left_out(folder)])
    complain(normal.refused)


@app.command()
def calibrate(
    model: Annotated[Path, typer.Argument(metavar="DETECTOR", help="Folder that fit wrote.")],
    folder: Annotated[Path, typer.Argument(help="Good images and videos, which the detector was not fitted on.")],
    frames: Annotated[int, typer.Option(help="Evenly spread frames of each video, as in score.")] = 60,
    every: Annotated[int | None, typer.Option(help="Instead: each so-manieth frame of each video.")] = None,
) -> None:
    """Set a detector's thresholds anew on other good parts, without training. Exit status 1 if a file was refused."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from flowlib.inspection import calibration, decisions, normals
    from flowlib.inspection.tracks import promise

    detector, reasons, refused = calibration.calibrate(model, folder, frames, every)
    good = calibration.read(model).good
    for kind, scores in (("video", good.of_videos()), ("image", detector.calibration)):
        promised = promise(scores, normals.RATE) if len(scores) else None
        print(f"{kind}s: {decisions.described(promised, kind, normals.RATE)}")
    for line in [*reasons, *normals.warnings(detector)]:
        print(line, file=sys.stderr)
    complain(refused)


@app.command()
def score(
    model: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="Folder that fit wrote.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder, video or image.")],
    out: Annotated[Path, typer.Option(help="Folder for scores.csv and pictures, outside of INPUT.")],
    maps: Annotated[bool, typer.Option("--maps", help="Write maps, too: float32 TIFF of each image's size.")] = False,
    settings: Annotated[Path | None, typer.Option(help="YAML file: false_alarm_rate.")] = None,
    false_alarm_rate: Annotated[float | None, typer.Option(help="Of normal images, at most.  [default: 0.05]")] = None,
    frames: Annotated[int, typer.Option(help="Evenly spread frames of each video.")] = 60,
    every: Annotated[int | None, typer.Option(help="Instead: each so-manieth frame of each video.")] = None,
) -> None:
    """Score images and videos: a page to work through, tables, pictures. Exit status 1 if a file was refused."""
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # read when torch is imported; more threads are slower on shared cores
    from flowlib.detector import storage
    from flowlib.inspection import layouts, normals, results, scan, verdicts

    chosen = scan.read_settings(settings) if settings else {}
    if false_alarm_rate is not None:
        chosen["false_alarm_rate"] = false_alarm_rate
    table = scan.scan(model, source, out, chosen, frames, maps, every=every)
    print("\n".join([*verdicts.summary(table, out), *results.summary(out)]))
    promise = normals.warnings(storage.load(model), chosen.get("false_alarm_rate", normals.RATE))
    tell([*promise, *normals.doubts(table, "file"), *layouts.left_out(source)])
    complain(table.loc[table["status"] != "ok", "message"])


def tell(lines: Iterable[str]) -> None:
    """Lines on standard error, each on one line whatever the names of files hold."""
    for line in lines:
        print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line), file=sys.stderr)


def complain(messages: Iterable[str]) -> None:
    """Name on standard error what could not be read, and end with exit status 1 if there is any."""
    if messages := list(messages):
        tell([*messages, f"flowlib: {len(messages)} refused or damaged"])
        raise typer.Exit(1)


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Read NAME=VALUE texts, values as YAML: ``["seed=3", "digits=[1, 8]"]`` is ``{"seed": 3, "digits": [1, 8]}``."""
    import yaml

    from flowlib.study.parameters import StudyError

    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise StudyError(f"-p {pair!r}: write NAME=VALUE")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise StudyError(f"-p {pair!r}: the value is not YAML: {' '.join(str(error).split())}") from None
    return values


def main() -> None:
    """Run the command line; an error of ours is one line and exit status 2, any other keeps its traceback."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error does; names of files may be anything
    try:
        app()
    except Exception as error:
        from flowlib.runtime.parallel import JobError

        origin = error.__cause__ if isinstance(error, JobError) else error  # a job's error is what it was in its worker
        if not type(origin).__module__.startswith("flowlib."):
            raise
        tell([f"flowlib: {error}"])
        sys.exit(2)


if __name__ == "__main__":
    main()
