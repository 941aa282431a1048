"""What the launcher (mpiexec, srun, jsrun) says about this process in its environment.

Started by the launcher of another MPI than the one that mpi4py uses, every process is alone in a world of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Launcher(NamedTuple):
    """A launcher by the variables that it sets; of `sizes` the first one that is set holds the number of ranks."""

    name: str
    rank: str
    sizes: tuple[str, ...] = ()


#: Inner ones first: mpiexec may itself be started under srun, whose variables its ranks inherit.
LAUNCHERS = (
    Launcher("mpiexec of Open MPI", "OMPI_COMM_WORLD_RANK", ("OMPI_COMM_WORLD_SIZE",)),
    Launcher("jsrun", "JSM_NAMESPACE_RANK", ("JSM_NAMESPACE_SIZE",)),
    Launcher("mpiexec of MVAPICH", "MV2_COMM_WORLD_RANK", ("MV2_COMM_WORLD_SIZE",)),
    Launcher("mpiexec of MPICH or Intel MPI", "PMI_RANK", ("PMI_SIZE",)),
    Launcher("flux run", "FLUX_TASK_RANK", ("FLUX_JOB_SIZE",)),
    Launcher("srun", "SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")),
    Launcher("a launcher with PMIx", "PMIX_RANK"),
    Launcher("mpiexec of PALS", "PALS_RANKID"),
    Launcher("mpiexec of MPICH or Intel MPI", "MPI_LOCALRANKID"),
)
#: Ranks of this host alone, so no more than there are in all.
LOCAL_SIZE = "MPI_LOCALNRANKS"
#: In a step of Slurm one of these is set; a batch script has the number of tasks of its entire job, and is not a step.
STEP_VARIABLES = ("SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS")
SRUN_CURE = (
    '"srun --mpi=list" shows what srun offers (pmix for Open MPI, pmi2 for MPICH): name it by --mpi, or use '
    "the mpiexec of that MPI"
)


def tell_script(code: int) -> None:
    """Tell the script that has started the launcher how the ranks end: it may not hear it from the launcher."""
    path = os.environ.get("DDMD_MPI_EXIT_CODE")
    if path:
        with suppress(OSError):
            Path(path).write_text(f"{code}\n")


def rank(variables: Mapping[str, str]) -> int | None:
    """This process's rank as its launcher says, None without a launcher."""
    return next((value for one in LAUNCHERS if (value := _count(variables, one.rank)) is not None), None)


def size(variables: Mapping[str, str]) -> int:
    """How many ranks a launcher has started this process with, as far as it says; 1 without a launcher."""
    return max((n for _, _, n in _announced(variables)), default=1)


def mismatch(variables: Mapping[str, str], size: int, library: str) -> str | None:
    """Why the launcher and MPI do not fit, in one sentence; None if they do.

    Parameters
    ----------
    variables
        The environment.
    size
        Ranks that MPI sees.
    library
        Name and version of the MPI library.
    """
    announced = list(_announced(variables))
    sizes = [n for _, _, n in announced]  # a launcher inside an allocation comes before that of the allocation
    if sizes and (max(sizes) < size or size in (sizes if size > 1 else sizes[:1])):
        return None
    least = [(one, name, n) for one, name, n in _least(variables) if n > size]
    if not announced and not least:
        return None
    launcher, name, n_ranks = (announced or least)[0]
    srun = any(one.name == "srun" for one, *_ in announced)
    cure = SRUN_CURE if srun else f"use the mpiexec of {library}, or an mpi4py of the launcher's MPI"
    seen = "only itself" if size == 1 else f"{size} ranks"
    at_least = "" if announced else "at least "
    return (
        f"the launcher belongs to another MPI than the one that mpi4py uses: {launcher.name} has started {at_least}"
        f"{n_ranks} ranks ({name}={variables[name]}), and each process of {library} sees {seen}; {cure}"
    )


def cannot_start(variables: Mapping[str, str], library: str) -> str | None:
    """As :func:`mismatch`, before MPI is started: MPICH ends a process that the mpiexec of Open MPI has started."""
    alone = {name: text for name, text in variables.items() if name.startswith("OMPI_COMM_WORLD_")}
    return mismatch(alone, 1, library) if library.startswith("MPICH") and "PMI_SIZE" not in variables else None


def _announced(variables: Mapping[str, str]) -> Iterator[tuple[Launcher, str, int]]:
    """The numbers of ranks that launchers say they have started, each with its variable."""
    for launcher in LAUNCHERS:
        name = next((name for name in launcher.sizes if _count(variables, name)), None)
        if name is None or _count(variables, launcher.rank) is None:
            continue
        if launcher.name == "srun" and "SLURM_JOB_ID" in variables and not set(STEP_VARIABLES) & set(variables):
            continue
        yield launcher, name, int(variables[name])


def _least(variables: Mapping[str, str]) -> Iterator[tuple[Launcher, str, int]]:
    """How many ranks there must be, as ranks and numbers of this host's ranks tell."""
    for launcher in LAUNCHERS:
        number = _count(variables, launcher.rank)
        if number is not None and not (launcher.name == "srun" and "SLURM_JOB_ID" in variables):
            yield launcher, launcher.rank, number + 1
    if local := _count(variables, LOCAL_SIZE):
        yield LAUNCHERS[-1], LOCAL_SIZE, local


def _count(variables: Mapping[str, str], name: str) -> int | None:
    text = variables.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
