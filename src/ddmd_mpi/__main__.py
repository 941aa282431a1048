"""The command line."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path

import click

from . import __version__, config
from .errors import DDMDError, RunDirectoryError, sentence
from .files import parse_object, read_bytes, reason

#: Set by launchers before MPI is initialised: only rank 0 speaks.
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
BAD_INPUT = 2
#: The duration of a run that counts its iterations.
UNLIMITED = "3650d"
#: A run that has not written its view for so long is taken for dead.
SILENT_SECONDS = 60.0


def run_options(command):
    """The options that resolve the settings, in the order of the help text."""
    options = [
        click.option("--usecase", help=f"One of: {', '.join(config.usecases())}."),
        click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file over the defaults."),
        click.option("--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting."),
        click.option("--mode", type=click.Choice(["stream", "file"]),
                     help="stream: all roles at once (the default). file: stage after stage, with files in between."),
        click.option("--duration", metavar="TIME", help="How long to run: 90s, 3min, 12h."),
        click.option("--iterations", type=int, metavar="N",
                     help="File mode: how many iterations, whatever time they take; --duration may end them."),
        click.option("--target-rmsd", metavar="Å", type=float, help="Stop when a frame is this near the target."),
        click.option("--seed", type=int, help="Seed of every random stream."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@run_options
@click.option("--output", type=click.Path(path_type=Path), help="Run directory; default runs/USECASE-DATE-TIME.")
@click.option("--resume", metavar="DIR", type=click.Path(path_type=Path),
              help="Go on with the run in DIR from its newest checkpoint, on any number of ranks.")
@click.option("--dry-run", is_flag=True, help="Print the plan for -n ranks and stop; needs no MPI.")
@click.option("-n", "n_ranks", type=click.IntRange(1), help="Number of ranks of the dry run.")
@click.option("--ranks-per-node", type=click.IntRange(1), help="Ranks on each node of the dry run.")
@click.option("--gpus-per-node", type=click.IntRange(0), default=0, help="GPUs on each node of the dry run.")
@click.option("--cores-per-node", type=click.IntRange(1), help="Cores of each node of the dry run.")
@click.pass_context
def cli(context, output, resume, dry_run, n_ranks, ranks_per_node, gpus_per_node, cores_per_node, **settings):
    """DeepDriveMD as one MPI program: machine learning steers an ensemble of MD simulations.

    \b
    mpiexec -n 4 ddmd-mpi --usecase cln025
    srun ddmd-mpi --usecase bba --duration 12h
    """
    if context.invoked_subcommand is not None:
        return
    options = resolve(output=output, resume=resume, **settings)
    if dry_run:
        click.echo(plan(options, n_ranks or 4, ranks_per_node, gpus_per_node, cores_per_node))
        return
    from .run import run

    sys.exit(run(options))


def resolve(usecase, file, assignments, mode, duration, iterations, target_rmsd, seed, output=None, resume=None):
    """The run's options: the dedicated options are short for --set of their keys."""
    from .preparing import Options

    if resume is not None:
        if usecase or file or output:
            raise click.UsageError("--resume takes all settings from DIR: leave --usecase, --config and --output out, "
                                   "and change single ones by --set")
        usecase = ""
    if usecase is None and file is not None:
        usecase = config.usecase_of(file)
    if usecase is None:
        raise click.UsageError(f"which use case? Give --usecase {{{','.join(config.usecases())}}}")
    duration = UNLIMITED if duration is None and iterations is not None else duration
    short = {"run.mode": mode, "run.duration": duration, "run.target_rmsd_angstrom": target_rmsd, "run.seed": seed,
             "file.iterations": iterations}
    given = tuple(f"{key}={json.dumps(value)}" for key, value in short.items() if value is not None)
    return Options(usecase, file, (*assignments, *given), output, resume)


def plan(options, n_ranks: int, ranks_per_node: int | None, gpus_per_node: int, cores_per_node: int | None) -> str:
    """The text of --dry-run."""
    from .parallel import layout
    from .parallel.describe import describe
    from .parallel.stages import PLANS

    settings = options.load()
    nodes, gpus = layout.machine(n_ranks, ranks_per_node=ranks_per_node, gpus_per_node=gpus_per_node)
    planned = PLANS[settings.run.mode](nodes, gpus, settings.ranks, settings.simulation.walkers_per_rank)
    return describe(
        planned,
        ring_nbytes=int(settings.aggregation.ring_mb * 1e6),
        queue_nbytes=int(settings.streams.queue_mb * 1e6),
        windows=window_nbytes(settings, planned.n_walkers),
        n_threads=settings.simulation.threads,
        cores_per_node=cores_per_node,
    )


def window_nbytes(settings, n_walkers: int) -> dict[str, int]:
    """Bytes of a full window of training and of inference, of frames like the start structure."""
    import numpy as np

    from .frames import Extents, Hop, packed_nbytes
    from .md.topologies import check_topologies
    from .structure.features import FeatureCalculator
    from .window import inference_frames

    first = list(check_topologies(settings))[0]  # all of them, so that what is wrong with any is said here
    structures = first.structures
    start = FeatureCalculator(structures.target_nm, settings.features, structures.molecules, first.pose).compute(
        structures.positions_nm[structures.descriptor], np.zeros((3, 3)), structures.positions_nm)
    one = Extents(1, 0, len(structures.descriptor), len(start["order_parameters"]), len(start["contact_columns"]))
    n_frames = {"inference": inference_frames(settings, n_walkers)[1]}
    if settings.training.model != "none":
        n_frames["training"] = settings.training.window_frames
    return {role: n * packed_nbytes(Hop.FEATURES, one) for role, n in n_frames.items()}


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--usecase", help="Whose settings and structures to start from.")
@click.option("--pdb", type=click.Path(path_type=Path), help="A protein of yours: a PDB or mmCIF file.")
@click.option("--target", type=click.Path(path_type=Path), help="What to reach; default: the given structure.")
@click.option("--topology", "--prmtop", "--psf", "--top", "topology", type=click.Path(path_type=Path),
              help="In place of --pdb: AMBER prmtop, CHARMM PSF, GROMACS top or OpenMM System XML.")
@click.option("--coordinates", "--inpcrd", "--crd", "--gro", "coordinates", type=click.Path(path_type=Path),
              help="The coordinates that go with it.")
@click.option("--parameters", multiple=True, type=click.Path(path_type=Path),
              help="Parameter files of a PSF, or the directory of force fields of a GROMACS top.")
@click.option("--solvent", type=click.Choice(["implicit", "explicit"]), help="Of --pdb; default implicit.")
@click.option("--drop", multiple=True, metavar="RESIDUE", help="Name of residues of --pdb to leave out.")
@click.option("--name", help="Of the system; default: that of the file.")
def init(directory: Path, usecase: str | None, pdb: Path | None, topology: Path | None, **options):
    """Write an editable config and its structures into DIRECTORY: a use case's, or those of a system of your own."""
    sources = {"--usecase": usecase, "--pdb": pdb, "--topology": topology}
    given = [option for option, value in sources.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} are given, and each says alone what to write: keep one of them")
    if not given:
        others = [f"--{option}" for option, value in options.items() if value]
        known = f"{' and '.join(others)} alone cannot say" if others else "nothing says"
        raise click.UsageError(f"{known} what to write: give --usecase, or --pdb, or --topology (--prmtop, --psf, "
                               "--top) with --coordinates")
    if usecase is not None:
        from .initialise import initialise

        files, notes = initialise(directory, usecase), ()
    else:
        from .newsystem import Request, new_system

        files, notes = new_system(directory, Request(pdb=pdb, topology=topology, **options))
    for line in (*notes, *files):
        click.echo(line)
    file = shlex.quote(str(directory / "config.toml"))
    click.echo(f"\nEdit {file}, then: mpiexec -n 4 ddmd-mpi --config {file}")


@cli.command()
def check():
    """Test MPI, windows, streams, engines and GPUs of this environment. Works alone and under mpiexec."""
    from .check import check as run_checks

    sys.exit(run_checks())


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Show the state once and stop.")
def status(directory: Path, once: bool):
    """A live view of the run in DIRECTORY."""
    from .progress import Progress

    progress = Progress("screen" if sys.stdout.isatty() and not once else "lines")
    while True:
        view = read_status(directory)
        progress.show(view)
        silent = time.time() - view["time"]
        if not view["done"] and silent > SILENT_SECONDS:
            click.echo(f"No news for {silent:.0f} s: the run was killed, or its machine is out of reach.")
            return
        if once or view["done"] or not sys.stdout.isatty():
            return
        time.sleep(1.0)


def read_status(directory: Path) -> dict:
    """The live view that a run leaves in its directory, which can be shown."""
    from .progress import line, screen

    try:
        view = parse_object(read_bytes(directory / "status.json"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{directory} holds no run that shows itself ({reason(error)}): name the directory "
                                "of a run") from error
    try:
        view["done"], time.time() - view["time"], screen(view), line(view)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunDirectoryError(f"{directory} holds no run: its status.json is of another program") from error
    return view


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
def report(directory: Path):
    """Write report.html, plots and tables of the run in DIRECTORY."""
    from .report import write_report

    for path in write_report(directory):
        click.echo(path)


def main() -> None:
    """Entry point: bad input is one sentence on one rank and exit code 2."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (DDMDError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else sentence(error)
        if launcher_rank() in (0, None):
            click.echo(f"ddmd-mpi: {message}", err=True)
        if launcher_rank() is not None:
            meet()
        sys.exit(BAD_INPUT)


def meet() -> None:
    """Wait until every rank has got here: a launcher ends all ranks when the first one leaves with an exit code."""
    from .parallel.launch import launch

    world = launch()
    world.free()


def launcher_rank() -> int | None:
    """This process's rank as its launcher says, None without a launcher."""
    return next((int(os.environ[name]) for name in RANK_VARIABLES if os.environ.get(name, "").isdigit()), None)


if __name__ == "__main__":
    main()
