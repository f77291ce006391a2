"""The command line, ``python -m flowlib run|publish|data``. What takes long to import is imported inside a command."""

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

app = typer.Typer(help="Normalizing flows for anomaly detection: run the study, read its report.", no_args_is_help=True)
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
) -> None:
    """Run notebooks of a profile into reports/PROFILE and print the path of its index.html."""
    from flowlib import report, study

    overrides = parse_overrides(parameters or [])
    study.plan(profile, notebooks, overrides)  # what is asked for wrongly is refused before anything is downloaded
    data()
    statuses = study.run(profile, notebooks, overrides, jobs, force)
    print(report.write_index(study.ROOT / "reports" / profile))
    if "failed" in statuses.values():
        raise typer.Exit(1)


@app.command()
def publish(profile: Profile = "quick") -> None:
    """Copy a finished report's figures and tables to reports/ and write reports/README.md."""
    from flowlib import report

    print(report.publish(profile))


@app.command()
def data() -> None:
    """Fetch MNIST and Fashion-MNIST where they are not there yet, and verify them."""
    from flowlib import download

    for name in ("mnist", "fashion-mnist"):
        download.ensure(name)
        print(f"{name}: verified")


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Read NAME=VALUE texts, values as YAML: ``["seed=3", "digits=[1, 8]"]`` is ``{"seed": 3, "digits": [1, 8]}``."""
    import yaml

    from flowlib.study import StudyError

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
    try:
        app()
    except Exception as error:
        if not type(error).__module__.startswith("flowlib."):
            raise
        print(f"flowlib: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
