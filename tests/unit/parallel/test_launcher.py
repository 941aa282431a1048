"""What launchers say in the environment, beside what MPI sees."""

import pytest

from ddmd_mpi.parallel.launcher import cannot_start, mismatch, rank

OPEN_MPI = "Open MPI v5.0.11"


@pytest.mark.parametrize(("variables", "expected"), [
    ({}, None), ({"PMI_RANK": "3"}, 3), ({"SLURM_PROCID": "0"}, 0), ({"JSM_NAMESPACE_RANK": "x"}, None),
    ({"OMPI_COMM_WORLD_RANK": "2", "SLURM_PROCID": "0"}, 2), ({"PMI_RANK": "²"}, None),
])  # fmt: skip
def test_the_rank_is_that_of_the_inner_launcher(variables, expected):
    assert rank(variables) == expected


@pytest.mark.parametrize(("variables", "words"), [
    ({"PMI_RANK": "1", "PMI_SIZE": "4"}, ("mpiexec of MPICH or Intel MPI has started 4 ranks", "PMI_SIZE=4")),
    ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "6"}, ("mpiexec of Open MPI has started 6",)),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, ("srun has started 4", "SLURM_NTASKS=4", "srun --mpi=list")),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_ID": "7"},
     ("SLURM_STEP_NUM_TASKS=4",)),
    ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "PMI_RANK": "2", "PMI_SIZE": "4"}, ("PMI_SIZE=4", "srun --mpi=list")),
    ({"JSM_NAMESPACE_RANK": "5", "JSM_NAMESPACE_SIZE": "1020"}, ("jsrun has started 1020 ranks",)),
    ({"MV2_COMM_WORLD_RANK": "5", "MV2_COMM_WORLD_SIZE": "8"}, ("MVAPICH",)),
    ({"FLUX_TASK_RANK": "5", "FLUX_JOB_SIZE": "8"}, ("flux run",)),
    ({"PMIX_RANK": "3"}, ("PMIx has started at least 4 ranks", "PMIX_RANK=3")),
    ({"MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "4"}, ("at least 4 ranks", "MPI_LOCALNRANKS=4")),
])  # fmt: skip
def test_a_world_of_one_under_a_launcher_of_many_is_said_with_both_and_the_cure(variables, words):
    said = mismatch(variables, 1, OPEN_MPI)
    for word in ("another MPI", OPEN_MPI, "sees only itself", *words):
        assert word in said
    assert "mpiexec -n" not in said, "what the user has done"


def test_mpich_is_not_started_by_the_mpiexec_of_open_mpi():
    """Which would end every process with messages of MPICH's own."""
    four = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}
    assert "mpiexec of Open MPI has started 4 ranks" in cannot_start(four, "MPICH Version: 5.0.2")
    assert cannot_start(four, OPEN_MPI) is None
    assert cannot_start({**four, "PMI_SIZE": "4", "PMI_RANK": "0"}, "MPICH Version: 5.0.2") is None
    assert cannot_start({}, "MPICH Version: 5.0.2") is None


@pytest.mark.parametrize(("variables", "size"), [
    ({}, 1),
    ({"PMI_RANK": "0", "PMI_SIZE": "4"}, 4),
    ({"PMI_RANK": "0", "PMI_SIZE": "1"}, 1),
    ({"PMI_RANK": "0", "PMI_SIZE": "many"}, 1),
    ({"SLURM_NTASKS": "8"}, 1),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "7"}, 1),
    ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "6", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, 6),
    ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "PMI_RANK": "3", "PMI_SIZE": "4"}, 4),
    ({"MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"}, 8),
    ({"PMIX_RANK": "0"}, 1), ({"PMIX_RANK": "3"}, 4),
])  # fmt: skip
def test_what_fits_is_let_be(variables, size):
    """A batch script of Slurm is no step, mpiexec may be started under srun, and a process of a shell stands alone."""
    assert mismatch(variables, size, OPEN_MPI) is None
