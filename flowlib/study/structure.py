"""README's drawing of who imports whom, from the import statements; ``python -m flowlib.study.structure`` renews it."""

import re

from flowlib.runtime.code import imported, known
from flowlib.runtime.files import write_text
from flowlib.runtime.paths import PACKAGE, ROOT

BLOCK = re.compile(r"(<!-- imports -->\n).*?(<!-- /imports -->)", re.DOTALL)
CORE, COMMANDS = "core", "command line"  # the files at the top, and `__main__`, the one of them that uses the folders


def drawing() -> str:
    """A flow chart in Mermaid: folders and the core, an arrow from each to what it imports, but where others lead."""
    lines = [f'  {name.replace(" ", "_")}["{name}"]' for name in sorted(graph())]
    arrows = sorted((one, other) for one, others in reduced(graph()).items() for other in others)
    lines += [f"  {one.replace(' ', '_')} --> {other.replace(' ', '_')}" for one, other in arrows]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```", ""])


def graph() -> dict[str, set[str]]:
    """By room, the rooms that its modules import from."""
    rooms: dict[str, set[str]] = {}
    for module in known():
        rooms.setdefault(room(module), set()).update(room(other) for other in imported(module))
    return {one: others - {one} for one, others in rooms.items()}


def room(module: str) -> str:
    """The folder of flowlib that a module lies in, `CORE` or `COMMANDS`."""
    name = module.split(".")[1] if "." in module else ""
    return name if name and (PACKAGE / name).is_dir() else COMMANDS if name == "__main__" else CORE


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """A graph without circles and without the arrows that follow from longer ways."""

    def reached(one: str) -> set[str]:
        return graph[one].union(*(reached(other) for other in graph[one]))

    return {one: others - set().union(*(reached(other) for other in others)) for one, others in graph.items()}


def renew() -> None:
    """Put the drawing into README, between its two comments."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    write_text(readme, BLOCK.sub(lambda found: found[1] + drawing() + found[2], text))


if __name__ == "__main__":
    renew()
