"""The commands and their options."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .. import __version__, config
from ..config import values
from ..config.dynamics import PROGRAMS
from .report import report

if TYPE_CHECKING:
    from ..prepare import Options

Command = TypeVar("Command", bound=Callable[..., object])
#: The duration of a run that counts its iterations.
UNLIMITED = "3650d"


def run_options(command: Command) -> Command:
    """The options that resolve the settings, in the order of the help text."""
    options = [
        click.option("--usecase", help=f"One of: {', '.join(config.usecases())}."),
        click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file that overrides settings."),
        click.option("--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting."),
        click.option(
            "--mode",
            type=click.Choice(["stream", "file"]),
            help="stream: all roles at once (the default). file: stage by stage, with files in between.",
        ),
        click.option("--duration", metavar="TIME", help="How long to run: 90s, 3min, 12h."),
        click.option(
            "--iterations",
            type=int,
            metavar="N",
            help="File mode: number of iterations; no time limit unless --duration is given.",
        ),
        click.option("--target-rmsd", metavar="Å", type=float, help="Stop when a frame is this close to the target."),
        click.option("--seed", type=int, help="Seed of every random stream."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@run_options
@click.option("--output", type=click.Path(path_type=Path), help="Run directory; default runs/USECASE-DATE-TIME.")
@click.option(
    "--resume",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Resume the run in DIR from its newest checkpoint, on any number of ranks.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan for -n ranks and exit; needs no MPI.")
@click.option("-n", "n_ranks", type=click.IntRange(1), help="Ranks of the dry run; default: 4.")
@click.option("--ranks-per-node", type=click.IntRange(1), help="Ranks on each node of the dry run.")
@click.option("--gpus-per-node", type=click.IntRange(0), default=0, help="GPUs on each node of the dry run.")
@click.option("--cores-per-node", type=click.IntRange(1), help="Cores of each node of the dry run.")
@click.pass_context
def cli(
    context: click.Context,
    output: Path | None,
    resume: Path | None,
    dry_run: bool,
    n_ranks: int | None,
    ranks_per_node: int | None,
    gpus_per_node: int,
    cores_per_node: int | None,
    **settings: Any,
) -> None:
    """DeepDriveMD as one MPI program: machine learning steers an ensemble of MD simulations.

    \b
    mpiexec -n 4 ddmd-mpi --usecase cln025
    srun ddmd-mpi --usecase bba --duration 12h
    """
    if context.invoked_subcommand is not None:
        return
    options = resolve(output=output, resume=resume, **settings)
    if dry_run:
        from .plan import planned

        click.echo(planned(options, n_ranks or 4, ranks_per_node, gpus_per_node, cores_per_node))
        return
    from ..run import run

    sys.exit(run(options))


def resolve(
    usecase: str | None,
    file: Path | None,
    assignments: tuple[str, ...],
    mode: str | None,
    duration: str | None,
    iterations: int | None,
    target_rmsd: float | None,
    seed: int | None,
    output: Path | None = None,
    resume: Path | None = None,
) -> Options:
    """The run's options: the dedicated options are short for --set of their keys."""
    from ..prepare import Options

    if resume is not None:
        if usecase or file or output:
            raise click.UsageError(
                "--resume takes all settings from DIR: omit --usecase, --config and --output, "
                "and change single settings with --set"
            )
        usecase = ""
    if usecase is None and file is not None:
        usecase = config.usecase_of(file)
    if usecase is None:
        raise click.UsageError(f"which use case? Give --usecase {{{','.join(config.usecases())}}}")
    duration = UNLIMITED if duration is None and iterations is not None else duration
    short = {
        "run.mode": mode,
        "run.duration": duration,
        "run.target_rmsd_angstrom": target_rmsd,
        "run.seed": seed,
        "file.iterations": iterations,
    }
    given = tuple(f"{key}={json.dumps(value)}" for key, value in short.items() if value is not None)
    return Options(usecase, file, (*assignments, *given), output, resume)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--usecase", help="Use case whose settings and structures are written.")
@click.option("--pdb", type=click.Path(path_type=Path), help="Your protein: a PDB or mmCIF file.")
@click.option("--target", type=click.Path(path_type=Path), help="Target structure; default: that of --pdb.")
@click.option(
    "--topology",
    "--prmtop",
    "--psf",
    "--top",
    "--data",
    "topology",
    type=click.Path(path_type=Path),
    help="In place of --pdb: AMBER prmtop, CHARMM PSF, GROMACS top, OpenMM System XML or LAMMPS data file.",
)
@click.option(
    "--coordinates",
    "--inpcrd",
    "--crd",
    "--gro",
    "coordinates",
    type=click.Path(path_type=Path),
    help="Coordinates for --topology.",
)
@click.option(
    "--parameters",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Parameter file of a PSF, or directory of force fields of a GROMACS top; repeatable.",
)
@click.option(
    "--solvent",
    type=click.Choice(["implicit", "explicit", "vacuum"]),
    help="Default: implicit for --pdb, as in the files for --topology.",
)
@click.option(
    "--box",
    type=click.FloatRange(0, min_open=True),
    nargs=3,
    metavar="X Y Z",
    help="Edges of the box of --topology, nm; replaces the box of its files.",
)
@click.option("--drop", multiple=True, metavar="RESIDUE", help="Leave residues of this name out of --pdb; repeatable.")
@click.option("--name", help="Name of the system; default: that of the file.")
@click.option(
    "--engine",
    type=click.Choice(["openmm", *PROGRAMS]),
    default="openmm",
    help="Engine for --topology; default: openmm, the only one for --pdb.",
)
@click.option("--input", type=click.Path(path_type=Path), help="Input file of --engine lammps, with its read_data.")
def init(
    directory: Path, usecase: str | None, pdb: Path | None, topology: Path | None, engine: str, **options: Any
) -> None:
    """Write a config and structures for a new run. They are those of a use case, or of a system of your own."""
    sources = {"--usecase": usecase, "--pdb": pdb, "--topology": topology}
    given = [option for option, value in sources.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} exclude each other: give one of them")
    if not given:
        others = [f"--{option}" for option, value in options.items() if value]
        known = f"nothing to write with {' and '.join(others)} alone" if others else "nothing to write"
        raise click.UsageError(
            f"{known}: give --usecase, or --pdb, or --topology (--prmtop, --psf, --top) with --coordinates"
        )
    if usecase is not None and engine != "openmm":
        raise click.UsageError("--engine goes with --topology: the embedded use cases are for openmm")
    notes: Sequence[str] = ()
    if usecase is not None:
        from .use_case import initialise

        files = initialise(directory, usecase)
    else:
        from .new_system import Request, new_system

        files, notes = new_system(directory, Request(pdb=pdb, topology=topology, engine=engine, **options))
    for line in (*notes, *files):
        click.echo(line)
    file = shlex.quote(str(directory / "config.toml"))
    click.echo(f"\nEdit {file}, then: mpiexec -n 4 ddmd-mpi --config {file}")


def checked_interface(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """The value of ``--interface``, as ``streams.interface`` would be."""
    try:
        return None if value is None else values.interface(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@cli.command()
@click.option(
    "--interface", metavar="NAME|NETWORK", callback=checked_interface, help="Try a value of streams.interface."
)
@click.option("--engine", metavar="NAME", help="Test this engine alone: its program, a short run, its energies.")
@click.option("--program", metavar="PATH", help="Program of --engine; default: the one found on PATH.")
def check(interface: str | None, engine: str | None, program: str | None) -> None:
    """Test whether runs will work here. Tests MPI, windows, streams, engines, GPUs; alone or under mpiexec."""
    if engine is not None:
        from .engine_checks import check_engine

        sys.exit(check_engine(engine, program))
    if program is not None:
        raise click.UsageError("--program goes with --engine: add it")
    from .checks import check as run_checks

    sys.exit(run_checks(interface))


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Show the state once, in a line, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print the state once, with every walker, as JSON.")
def status(directory: Path, once: bool, as_json: bool) -> None:
    """Show a live view of the run in DIRECTORY. Also of one that has ended, or was killed."""
    if once and as_json:
        raise click.UsageError("--once and --json exclude each other: give one of them")
    from .status import show

    show(directory, "json" if as_json else "screen" if sys.stdout.isatty() and not once else "line")


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--walker", type=click.IntRange(0), required=True, help="Index of the walker.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8889, show_default=True, help="0: any free port.")
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0: all.")
@click.option("--imd-version", type=click.Choice(["2", "3"]), default="3", show_default=True, help="VMD needs 2.")
def watch(directory: Path, walker: int, port: int, address: str, imd_version: str) -> None:
    """Serve a walker of a run to VMD or MDAnalysis. Works while the run in DIRECTORY goes on."""
    from .watch import watch as serve

    serve(directory, walker, address, port, int(imd_version))


cli.add_command(report)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--best", is_flag=True, help="Trace the frame with the lowest RMSD (the default).")
@click.option("--frame", metavar="WALKER:SEGMENT:FRAME", help="Frame to trace.")
@click.option(
    "--reached",
    type=click.FloatRange(0, min_open=True),
    metavar="Å",
    help="All first arrivals within this RMSD; writes trajectories of the independent ones.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Where to write; default DIRECTORY/lineage.")
@click.option("--format", "suffix", type=click.Choice(["dcd", "xtc"]), help="Default: that of the run.")
@click.option("--superpose", is_flag=True, help="Superpose all frames on the last one, by the descriptor atoms.")
@click.option("--solute", is_flag=True, help="Leave out water and ions.")
def lineage(
    directory: Path, best: bool, frame: str | None, reached: float | None, suffix: str | None, **options: Any
) -> None:
    """Trace a frame of a run back to its start. Writes the trajectory from the start to the frame."""
    if best + (frame is not None) + (reached is not None) > 1:
        raise click.UsageError("--best, --frame and --reached exclude each other: give one of them")
    from .lineage import Wanted, trace

    for line in trace(directory, Wanted(frame=frame, reached=reached, suffix=suffix or "", **options)):
        click.echo(line)


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--coordinate",
    "coordinates",
    multiple=True,
    metavar="NAME",
    help="A column of the frames, or latent; repeatable. Default: RMSD and native contacts.",
)
@click.option("--from", "source", metavar="REGION", help="Where passages start, such as 'rmsd_angstrom>6'.")
@click.option("--to", "target", metavar="REGION", help="Where they end, such as 'rmsd_angstrom<3'.")
@click.option("--topology", metavar="NAME", help="Topology, if the run has several.")
@click.option("--samples", type=click.IntRange(50), default=100, show_default=True, help="Bootstrap samples.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
@click.option("--output", type=click.Path(path_type=Path), help="Where to write; default DIRECTORY/populations.")
def populations(directory: Path, **options: Any) -> None:
    """Estimate populations and passage times of a run. With free energies, intervals and a verdict."""
    from .populations import Asked, answer

    for line in answer(directory, Asked(**options)):
        click.echo(line)


@cli.command()
@click.argument("file", metavar="FILE.toml", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the study; default runs/study-NAME.")
@click.option("--at-once", type=click.IntRange(1), metavar="K", help="Trials at a time; default: that of the file.")
@click.option("--dry-run", is_flag=True, help="Check the file and say what would be run.")
def study(file: Path, output: Path | None, at_once: int | None, dry_run: bool) -> None:
    """Compare strategies: arms x seeds x systems, with statistics. Resumes a study that was stopped or killed."""
    from .study import study as run_study

    sys.exit(run_study(file, output, at_once, dry_run=dry_run))
