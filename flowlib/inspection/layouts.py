"""The files of a folder: what may be read, what must be refused, what is left out; and the layouts of data sets.

Nothing is left out without a word. What might be a picture and is not read is refused by name; only what surely is
none, is hidden, or was written by this tool is left out, which `left_out` says in a line.
"""

import re
from pathlib import Path
from typing import NamedTuple

from flowlib.inspection.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES, MediaError, reason

LABELS = ("ground_truth", "regions")  # folders of masks
GOOD = frozenset({"good", "normal", "ok"})  # folders of good parts, in any case
TEST = frozenset({"test", "testing", "val", "valid", "validation"})  # folders of good parts and others
DEFECTS = frozenset(
    {"abnormal", "anomalies", "anomalous", "anomaly", "bad", "broken", "damaged", "defect", "defective", "defects"}
    | {"fail", "failed", "faulty", "ko", "mask", "masks", "ng", "nok", "not_good", "reject", "rejected", "rejects"}
    | {"scrap"}
)  # names of folders whose pictures are no good parts
NO_PICTURES = frozenset(
    {".aac", ".aae", ".bat", ".bib", ".cfg", ".conf", ".css", ".csv", ".db", ".doc", ".docx", ".gpx", ".htm", ".html"}
    | {".ini", ".ipynb", ".js", ".json", ".jsonl", ".lnk", ".log", ".m", ".m4a", ".md", ".md5", ".mp3", ".odt", ".onnx"}
    | {".parquet", ".ps1", ".pt", ".pth", ".py", ".rst", ".rtf", ".safetensors", ".sh", ".sha1", ".sha256", ".sqlite"}
    | {".srt", ".tex", ".toml", ".tsv", ".txt", ".url", ".wav", ".xls", ".xlsx", ".xml", ".xmp", ".yaml", ".yml"}
)  # texts, tables, sounds, models: surely no pictures
NO_PICTURE_NAMES = re.compile(r"(readme|licen[cs]e|notice|changelog|copying|makefile|icon\r)", re.IGNORECASE)
SYSTEM = frozenset({"$recycle.bin", "@eadir", "__macosx", "__pycache__", "lost+found", "system volume information"})
RESULTS = ("overlays", "heatmaps", "tracks", "maps", "thumbnails", "plain")  # what score writes beside its table
RECORDS = {"scores.csv": b"file,score,threshold,", "manifest.csv": b"file,source,frame,"}  # tables of ours: their begin
BOOKKEEPING = frozenset(
    {".lock", "settings.json", "manifest.csv", "scores.csv", "decisions.csv", "index.html", "frames.csv"}
)
SHOWN = 3  # names in a message

Reasons = list[tuple[Path, str]]


class Contents(NamedTuple):
    """What lies in a folder and below: images and videos by their suffix; what is refused and what is left out, with
    the reasons."""

    media: list[Path]
    refused: Reasons
    left_out: Reasons


class Layout(NamedTuple):
    """The files of a data set: those of good parts, the labelled ones to test, the masks of the latter; and of the
    whole folder all images and videos, and what is refused, with the reasons."""

    normal: list[Path]
    test: list[tuple[str, Path]]  # (label, file), where label "good" is normal and any other is a defect's name
    masks: dict[Path, Path]  # test file -> its mask, or the folder of its masks
    media: list[Path]
    refused: Reasons


def natural(path: Path) -> tuple[tuple[tuple[str, int], ...], ...]:
    """A key that sorts paths folder by folder and numbers in names by value."""
    return tuple(
        tuple((text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", part)) for part in path.parts
    )


def media_files(folder: Path) -> list[Path]:
    """All images and videos in a folder and below, by suffix, in natural order (2 before 10): those of `contents`."""
    return contents(folder).media


def contents(folder: Path) -> Contents:
    """All that lies in a folder and below, in natural order (2 before 10).

    Links are followed, and each folder is read once. Refused is what might be a picture: a suffix that is not known, an
    archive, a link to nothing, a name that is no UTF-8, a folder that cannot be opened. Left out is what surely is none
    (`NO_PICTURES`), folders of masks (``ground_truth``, ``regions``), what is hidden or the system's own, and what this
    tool has written: the pictures of ``score`` beside its table, and folders of frames that ``ingest`` made, unless
    `folder` is such a folder itself.

    Raises MediaError when `folder` is not a folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MediaError(f"{folder} is {'not a folder' if folder.exists() else 'missing'}: name a folder of files")
    found = Contents([], [], [])
    seen: dict[tuple[int, int], Path] = {}
    links = [folder]
    for link in links:  # grows: whatever can be reached without a link is found there first
        _visit(link, found, seen, links)
    for paths in found[1:]:
        paths.sort(key=lambda pair: natural(pair[0].relative_to(folder)))
    found.media.sort(key=lambda path: natural(path.relative_to(folder)))
    return found


def _visit(folder: Path, found: Contents, seen: dict[tuple[int, int], Path], links: list[Path]) -> None:
    """Sort what lies in a folder and below; linked folders are only noted in `links`."""
    try:
        stat = folder.stat()
        here = sorted(folder.iterdir(), key=lambda path: natural(Path(path.name)))
    except OSError as error:
        found.refused.append((folder, f"cannot be opened ({reason(error)}): check its permissions"))
        return
    if (same := seen.setdefault((stat.st_dev, stat.st_ino), folder)) != folder:
        found.left_out.append((folder, f"the same folder as {same}"))
        return
    written = {path.name for path in here if path.name in RECORDS and _begins(path, RECORDS[path.name])}
    if written:
        here = [path for path in here if path.name not in BOOKKEEPING]
    if "manifest.csv" in written and folder != links[0]:
        found.left_out.append((folder, "frames that ingest wrote: name it itself to use it"))
        return
    for path in here:
        try:
            if "scores.csv" in written and path.name in RESULTS:
                found.left_out.append((path, "pictures that score wrote"))
            elif path.name.casefold() in SYSTEM:
                found.left_out.append((path, "the system's own"))
            elif not path.is_dir():
                _sort_file(path, found)
            elif path.name.startswith("."):
                found.left_out.append((path, "hidden"))
            elif path.name.casefold() in LABELS:
                found.left_out.append((path, "masks"))
            elif not is_utf8(path.name):
                found.refused.append((path, "has a name that is not UTF-8: rename it"))
            elif path.is_symlink():
                links.append(path)
            else:
                _visit(path, found, seen, links)
        except OSError as error:  # of a folder that may be listed but not entered
            found.refused.append((path, f"cannot be opened ({reason(error)}): check its permissions"))


def _sort_file(path: Path, found: Contents) -> None:
    suffix = path.suffix.lower()
    known = suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES
    if path.name.startswith("."):
        if known and not _begins(path, b"\0\5\x16\7"):  # what a Mac leaves beside each file on other disks
            found.refused.append((path, "is hidden, its name begins with a dot: rename it"))
        else:
            found.left_out.append((path, "hidden"))
    elif not known and (suffix in NO_PICTURES or NO_PICTURE_NAMES.fullmatch(path.stem)):
        found.left_out.append((path, suffix or path.name))
    elif not is_utf8(path.name):
        found.refused.append((path, "has a name that is not UTF-8: rename it"))
    elif path.is_symlink() and not path.exists():
        found.refused.append((path, f"is a link to {path.readlink()}, which is missing: copy the file itself"))
    elif not path.is_file():
        found.refused.append((path, "is neither file nor folder: remove it"))
    elif not known:
        kind = f"of a kind ({suffix})" if suffix else "without a suffix"
        found.refused.append(
            (path, f"is a file {kind} that is not read: convert it to PNG, TIFF or MP4, or move it away")
        )
    else:
        found.media.append(path)


def left_out(folder: Path) -> list[str]:
    """A line that says what of a folder is left out, none where nothing is."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    reasons: dict[str, list[str]] = {}
    tree = "train" in _folders(folder)
    for path, why in contents(folder).left_out:
        if not (tree and why == "masks" and path.parent == folder):
            reasons.setdefault("no pictures" if why.startswith(".") else why, []).append(
                path.relative_to(folder).as_posix()
            )
    parts = [f"{why} ({_some(names)})" for why, names in reasons.items()]
    return [f"left out: {'; '.join(parts)}"] if parts else []


def layout(folder: Path) -> Layout:
    """Find the files of a data set in the layout of MVTec AD, or of a plain folder of good parts.

    With a folder ``train``: the normal files are those of ``train/good``, or of ``train`` where it has no ``good``; the
    test files are ``test/<label>/...``, their masks ``ground_truth/<label>/..._mask`` with any image or video suffix.
    Names may be in capitals, ``good`` may be ``ok`` or ``normal`` and ``_mask`` may be missing (BTAD); the masks of an
    image may lie in a folder of its name (MVTec LOCO). Without ``train``, every file below is normal.

    Raises MediaError when `folder` is not a folder, or a file in ``test`` lies in no folder that would label it.
    """
    folder = Path(folder)
    found = contents(folder)
    if "train" not in _folders(folder):
        return Layout(found.media, [], {}, found.media, found.refused)
    inside = {path: path.relative_to(folder).parts for path in found.media}
    train = [path for path in found.media if top(path, folder) == "train"]
    good = [path for path in train if len(inside[path]) > 2 and inside[path][1].casefold() in GOOD]
    known = _masks(_folders(folder).get("ground_truth"))
    test: list[tuple[str, Path]] = []
    masks: dict[Path, Path] = {}
    for path, (_, *parts) in inside.items():
        if top(path, folder) != "test":
            continue
        if len(parts) == 1:
            raise MediaError(f"{path} has no label: move it to test/good or to test/<name of its defect>")
        test.append(("good" if parts[0].casefold() in GOOD else parts[0], path))
        place = "/".join([*parts[:-1], path.stem])
        if mask := known.get(f"{place}_mask") or known.get(place):
            masks[path] = mask
    return Layout(good or train, test, masks, found.media, found.refused)


def check_normal(folder: Path, files: list[Path]) -> None:
    """MediaError where a folder's normal files are in folders whose names say that not all of them are normal.

    Those are ``test`` with other folders than ``good``, ``train`` below the top (a folder of data sets), and names such
    as ``bad``, ``anomaly`` or ``masks``. The message names the folder of good parts to use, where one is found.
    """
    root = Path(folder).resolve()
    wrong: dict[Path, None] = {}  # as sets, in their order
    good: dict[Path, None] = {}
    for path in files:
        parts = path.relative_to(folder).parent.parts
        names = [part.casefold() for part in (root.name, *parts)]
        for depth, name in enumerate(names):
            place = root.joinpath(*parts[:depth])
            below = names[depth + 1] if depth + 1 < len(names) else "" if depth else "good"  # root was meant as it is
            if (depth and name in DEFECTS) or (name in TEST and below not in GOOD):
                wrong[place] = None
            elif name in GOOD and not TEST & set(names[:depth]):
                good[place] = None
    if wrong:
        hint = f"name a folder of good parts alone, such as {next(iter(good))}" if good else "move the good parts apart"
        raise MediaError(f"{folder} holds more than good parts ({_some([str(path) for path in wrong])}): {hint}")


def in_doubt(folder: Path, files: list[Path]) -> list[str]:
    """Lines on normal files that may be none: in folders beside one named ``good``, or with a word such as ``defect``
    in their own names. What `check_normal` lets pass is taken for good, but not without a word."""
    lines = []
    inside = dict.fromkeys(parent for path in files for parent in path.parents if folder in parent.parents)
    goods = {place.parent: place for place in inside if place.name.casefold() in GOOD}  # one of each folder
    for good in goods.values():
        beside = [str(place) for place in inside if place.parent == good.parent and place.name.casefold() not in GOOD]
        if beside:
            lines.append(
                f"warning: {_some(beside)} beside {good} taken for good parts, too: if they are not, name {good} itself"
            )
    named = [str(path) for path in files if DEFECTS & set(re.findall(r"[^\W\d_]+", path.stem.casefold()))]
    if named:
        lines.append(f"warning: taken for good parts in spite of their names: {_some(named)}; if not, move them apart")
    return lines


def top(path: Path, folder: Path) -> str:
    """The folder in `folder` that a path lies in, or its own name, in small letters."""
    return path.relative_to(folder).parts[0].casefold()


def _folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder, by their names in small letters."""
    return {path.name.casefold(): path for path in folder.iterdir() if path.is_dir()}


def _masks(folder: Path | None) -> dict[str, Path]:
    """Mask files by their path in ``ground_truth`` without suffix, and the folders that hold any by theirs."""
    known: dict[str, Path] = {}
    if folder is None:
        return known
    for path in media_files(folder):
        known[path.relative_to(folder).with_suffix("").as_posix()] = path
        known.setdefault(path.relative_to(folder).parent.as_posix(), path.parent)
    return known


def _begins(path: Path, with_bytes: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(with_bytes)) == with_bytes
    except OSError:
        return False


def is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
