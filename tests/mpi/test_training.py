"""Several ranks train one model, by Horovod and by MPI."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = [pytest.mark.mpi, pytest.mark.timeout(300)]


@pytest.mark.parametrize("n", [2, 3])
def test_ranks_with_frames_of_their_own_train_one_model(mpiexec, n):
    out = mpiexec(n, HERE / "training_ranks.py", "horovod", "mpi", timeout=240).stdout
    assert "both: the same model within rounding" in out


def test_without_horovod_mpi_sums_the_gradients_and_the_cure_is_said_once(tmp_path, mpiexec):
    (tmp_path / "horovod").mkdir()
    (tmp_path / "horovod" / "__init__.py").write_text('raise ImportError("out of reach")\n')
    out = mpiexec(2, HERE / "training_ranks.py", "auto", tmp_path, PYTHONPATH=str(tmp_path)).stdout
    assert "auto: MPI takes the place of Horovod" in out
