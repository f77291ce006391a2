"""What is kept of earlier runs: a list of it, and the removal of what no one needs any more.

Only files that `flowlib.runtime.artifacts` names are looked at, and each is removed under the lock that whoever makes
it holds. Nothing here needs torch.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from safetensors import safe_open
from tqdm import tqdm

from flowlib.runtime import artifacts, code
from flowlib.runtime.artifacts import ArtifactError, artifact_folder

NAME = re.compile(
    r"(?P<key>[0-9a-f]{64})\.(?P<suffix>safetensors|checkpoint|damaged|lock)"
    r"|\.(?P<of>[0-9a-f]{64})\.(safetensors|checkpoint)\.\w+\.(?P<partial>partial)"
)
MODULE = re.compile(r"flowlib(\.\w+)+")
DAY = 24 * 3600  # seconds


class KeptError(ValueError):
    """Nothing can be removed as asked; the message says what to write instead."""


class Kept(NamedTuple):
    """A file: its artifact's kind and key, what it is of, and state.

    state: "" of an artifact that is whole, "older code" (what asked for it has changed since), "damaged", "checkpoint"
        (of training that goes on from there when it is asked for again), "done checkpoint" (left over), "partial" (the
        beginning of a file) or "lock". what: in words, such as the model. size: bytes. made: seconds since 1970.
        seconds: that it took to make, where that is known.
    """

    path: Path
    kind: str
    key: str
    what: str
    state: str
    size: int
    made: float
    seconds: float | None


def listed(verify: bool = False) -> list[Kept]:
    """Every file of the artifact folder, by kind and age; where `verify` is asked, each artifact's SHA-256 is compared.

    Otherwise an artifact counts as damaged when its header is not that of a whole one.
    """
    paths = [path for path in artifact_folder().glob("*/*") if NAME.fullmatch(path.name)]
    notes = {path: read_notes(path, verify) for path in tqdm(paths, desc="reading", unit="file", disable=None)}
    keys = {path.stem: found for path, found in notes.items() if found and path.parent.name == "model"}
    items = []
    for path in paths:
        parts = {} if notes[path] is None else notes[path].get("parts", {})  # type: ignore[union-attr]
        of = keys.get(str(parts.get("model"))) or {}  # scores know their model by its key
        state = state_of(path, [found for found in (notes[path], of) if found])
        match = NAME.fullmatch(path.name)
        assert match is not None
        try:
            status = path.stat()
        except FileNotFoundError:  # gone meanwhile
            continue
        seconds = (notes[path] or {}).get("seconds")
        key, what = match["key"] or match["of"], described(parts | of.get("parts", {}))
        items.append(Kept(path, path.parent.name, key, what, state, status.st_size, status.st_mtime, seconds))
    return sorted(items, key=lambda item: (item.kind, item.made))


def read_notes(path: Path, verify: bool) -> dict[str, Any] | None:
    """The notes of an artifact; {} of any other file; None where it is damaged."""
    if path.suffix != ".safetensors":
        return {}
    try:
        artifacts.check_file(path)
        if verify:
            notes = artifacts.read(path).notes
        else:
            with safe_open(path, framework="numpy") as file:
                notes = json.loads((file.metadata() or {})["notes"])
        return notes if sound(notes) else None
    except FileNotFoundError:
        return {}
    except (ArtifactError, *artifacts.UNREADABLE):
        return None


def sound(notes: Any) -> bool:
    """Whether notes are such as `artifacts.cached` writes, as far as they are used here."""
    return (
        isinstance(notes, dict)
        and isinstance(notes.get("parts", {}), dict)
        and isinstance(notes.get("seconds", 0), int | float)
        and isinstance(modules := notes.get("modules", {}), dict)
        and all(
            isinstance(names, list) and all(MODULE.fullmatch(str(name)) for name in names) for names in modules.values()
        )
    )


def state_of(path: Path, notes: list[dict[str, Any]]) -> str:
    """The state, as in `Kept`, of a file; of an artifact by its own notes and those of its model."""
    if path.suffix == ".checkpoint":
        return "done checkpoint" if path.with_suffix(".safetensors").exists() else "checkpoint"
    if path.suffix != ".safetensors":
        return path.suffix.removeprefix(".")
    if not notes:
        return "damaged"
    codes = {made: names for found in notes for made, names in found.get("modules", {}).items()}
    return "older code" if any(made != present_code(names) for made, names in codes.items()) else ""


def present_code(modules: Iterable[str]) -> str:
    """`code.code_hash` of modules; "" when one of them is no more."""
    try:
        return code.code_hash(*modules)
    except code.UnknownModule:
        return ""


def described(parts: dict[str, Any]) -> str:
    """What an artifact is of, by the parts of its key."""
    model = parts.get("model")
    recipe = parts.get("recipe") or (model.get("recipe") if isinstance(model, dict) else None)
    if not isinstance(recipe, dict):
        return " ".join(str(parts[name]) for name in ("name", "settings") if name in parts)[:60]
    return f"{recipe.get('model')}, {recipe.get('steps')} steps, seed {recipe.get('seed')}"


def needless(items: Iterable[Kept], days: float | None = None, everything: bool = False) -> list[Kept]:
    """Of these files what is damaged, left over or of older code, and what was made more than `days` ago; or all."""
    if days is not None and not days >= 0:
        raise KeptError(f"days is {days}, it must be at least 0")
    oldest = 0.0 if days is None else time.time() - days * DAY
    return [item for item in items if everything or item.state not in ("", "checkpoint") or item.made < oldest]


def remove(items: Iterable[Kept]) -> list[Kept]:
    """Delete files, each under its lock; those whose lock someone holds are left. Returns what was deleted."""
    removed = []
    for key, of_key in grouped(items).items():
        lock = FileLock(key.with_suffix(".lock"))
        with artifacts.clear_error(key):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                for item in of_key:
                    item.path.unlink(missing_ok=True)
                key.with_suffix(".lock").unlink(missing_ok=True)
            finally:
                lock.release()
        removed += of_key
    return removed


def grouped(items: Iterable[Kept]) -> dict[Path, list[Kept]]:
    """Files by the path of their artifact."""
    found: dict[Path, list[Kept]] = {}
    for item in items:
        found.setdefault(item.path.with_name(f"{item.key}.safetensors"), []).append(item)
    return found


# --- in words ------------------------------------------------------------------------------------------------------


def lines(items: list[Kept]) -> list[str]:
    """A line a file, but locks, which are counted; and the total."""
    shown = [item for item in items if item.state != "lock"]
    rows = [("kind", "key", "size", "made", "took", "state", "what")]
    for item in shown:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.made))
        took = "" if item.seconds is None else f"{item.seconds:.0f} s"
        rows.append((item.kind, item.key[:12], size(item.size), made, took, item.state, item.what))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*(table if shown else []), f"{artifact_folder()}: {total(items)}"]


def total(items: Iterable[Kept]) -> str:
    items = list(items)
    kinds = Counter(item.kind if item.state in ("", "older code") else item.state for item in items)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{len(items)} files, {size(sum(item.size for item in items))}" + (f" ({counts})" if counts else "")


def size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"
