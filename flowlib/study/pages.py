"""Pages for a browser, from the templates beside this file; whatever is put into one is escaped."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jupyter_core.paths import ENV_JUPYTER_PATH
from nbconvert import HTMLExporter

from flowlib.runtime.paths import PACKAGE

TEMPLATES = PACKAGE / "study"


def render(template: str, **values: Any) -> str:
    """A template of this folder, by the name of its file, filled in. Raises jinja2's UndefinedError for a value that
    it wants and is not given."""
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(**values)


class NotebookPage(HTMLExporter):
    """nbconvert's page with ``notebook.html`` laid over it."""

    def get_prefix_root_dirs(self) -> list[str]:
        """Where nbconvert's templates lie: this environment's, before any of the same name that a user has."""
        return [*ENV_JUPYTER_PATH, *super().get_prefix_root_dirs()]


def notebook_page(path: Path) -> str:
    """An executed notebook as HTML: images embedded, code hidden until its button is pressed."""
    page, _ = NotebookPage(embed_images=True, template_file=str(TEMPLATES / "notebook.html")).from_filename(str(path))
    return page
