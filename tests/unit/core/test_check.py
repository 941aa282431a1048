"""What ``ddmd-mpi check`` says of the libraries."""

import pytest

from ddmd_mpi import check, rundir


@pytest.fixture
def versions(monkeypatch):
    """Pretends that these versions are installed."""
    return lambda **found: monkeypatch.setattr(rundir, "versions", lambda: found)


def test_a_library_that_is_needed_fails_and_one_that_is_not_says_what_works_without(versions):
    versions(numpy="2.0.2", adios2=None, horovod=None, torch=None)
    numpy, adios2, horovod, torch = check.installed()
    assert numpy == ("numpy", True, "2.0.2")
    assert adios2 == ("adios2", False, "not installed")
    assert horovod[1]
    assert "sum gradients by MPI; make horovod" in horovod[2]
    assert torch[1]
    assert "make torch" in torch[2]


@pytest.mark.parametrize(("module", "ok", "words"), [
    ("mpi_built = lambda: True", True, "0.28.1, loads"),
    ("mpi_built = lambda: False", False, "0.28.1 cannot be loaded (it was built without MPI): "),
    ("raise RuntimeError('undefined symbol')", False, "(RuntimeError: undefined symbol): rm -f .venv/.horovod"),
])  # fmt: skip
def test_horovod_is_loaded_to_see_whether_it_can_be(versions, tmp_path, monkeypatch, module, ok, words):
    (tmp_path / "horovod").mkdir()
    (tmp_path / "horovod" / "__init__.py").write_text("")
    (tmp_path / "horovod" / "tensorflow.py").write_text(module + "\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    versions(horovod="0.28.1")
    ((name, found, detail),) = check.installed()
    assert (name, found) == ("horovod", ok)
    assert words in detail
