"""``ddmd-mpi report``: the page of a run, or of several, and what it needs."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import InputError

OUTPUT = Path("comparison")
BANDS = {"quartiles": "interquartile range", "95": "95 % of the runs"}
PATH = click.Path(path_type=Path)
EXISTING = click.Path(path_type=Path, exists=True)


@click.command()
@click.argument("directories", metavar="DIRECTORY...", nargs=-1, required=True, type=PATH)
@click.option("--model-version", type=click.IntRange(1), help="Whose latent space is drawn; default: the newest one.")
@click.option(
    "--projection",
    type=click.Choice(["pca", "tsne", "umap"]),
    help="Of the latent space to the plane: principal components (default), t-SNE, or UMAP if it is installed.",
)
@click.option(
    "--reference",
    type=EXISTING,
    help="Run directory or trajectory whose states coverage counts; default: the run itself, or all runs together.",
)
@click.option(
    "--reference-topology", type=EXISTING, help="PDB file of the atoms of a reference trajectory; default: the run's."
)
@click.option("--output", type=PATH, help=f"Where to write the page of several runs; default: {OUTPUT}.")
@click.option(
    "--band",
    type=click.Choice(list(BANDS)),
    default="quartiles",
    help="Of several runs, between which percentiles bands lie (default: quartiles).",
)
def report(
    directories: tuple[Path, ...],
    model_version: int | None,
    projection: str | None,
    reference: Path | None,
    reference_topology: Path | None,
    output: Path | None,
    band: str,
) -> None:
    """Write report.html, plots and tables of the run in DIRECTORY. Several runs: one page that compares them."""
    check_libraries()
    from ..analysis import open_run
    from ..report.compare import write_comparison
    from ..report.write import Wanted, reference_states, write_report

    wanted = Wanted(model_version, reference, reference_topology, projection or "pca")
    if len(directories) == 1:
        if output is not None:
            raise InputError("--output is for several runs: the report of one run is written into its directory")
        written = write_report(directories[0], wanted)
    else:
        for name, value in (("--model-version", model_version), ("--projection", projection)):
            if value is not None:
                raise InputError(f"{name} is for one run: each run has a latent space of its own")
        known = reference_states(open_run(directories[0]), wanted)
        written = write_comparison(list(directories), output or OUTPUT, known, BANDS[band])
    for path in written:
        click.echo(path)


def check_libraries() -> None:
    """Refuse to start if a library is missing, or matplotlib cannot be loaded.

    Raises
    ------
    InputError
    """
    from ..report import CURE, lacking

    if missing := lacking():
        raise InputError(f"a report needs {' and '.join(missing)}, not installed here: {CURE}")
    try:
        import ddmd_mpi.report.style  # noqa: F401
    except UnicodeDecodeError as error:
        raise InputError(
            "matplotlib cannot read a matplotlibrc that is not UTF-8 (in the "
            "working directory, at $MATPLOTLIBRC, or in ~/.config/matplotlib): save it as UTF-8, or "
            "delete it"
        ) from error
