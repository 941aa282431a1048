"""What ``ddmd-mpi check`` says of the libraries."""

import subprocess
import sys

import pytest

from ddmd_mpi.cli import checks
from ddmd_mpi.parallel.hosts import Peer


@pytest.fixture
def versions(monkeypatch):
    """Pretends that these versions are installed."""
    return lambda **found: monkeypatch.setattr(checks, "versions", lambda: found)


def test_a_library_that_is_needed_fails_and_one_that_is_not_says_what_works_without(versions):
    versions(numpy="2.0.2", adios2=None, horovod=None, torch=None)
    numpy, adios2, horovod, torch = checks.installed()
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
    ((name, found, detail),) = checks.installed()
    assert (name, found) == ("horovod", ok)
    assert words in detail


def test_hosts_that_do_not_fit_fail():
    one = Peer("node1", "0.1.0", "Open MPI v5.0.11", 0.0)
    assert checks.hosts([one, one._replace(host="node2")])[1]
    name, ok, detail = checks.hosts([one, one._replace(host="node2", mpi="MPICH 4")])
    assert (name, ok) == ("hosts", False)
    assert "node2" in detail


def test_a_system_is_stepped(tmp_path, monkeypatch):
    """A directory of plug-ins that has none leaves OpenMM without its CPU platform."""
    monkeypatch.delenv("OPENMM_PLUGIN_DIR", raising=False)
    name, ok, detail = checks.tried("OpenMM", "engine")
    assert (name, ok) == ("OpenMM", True), detail
    assert "steps of cln025" in detail
    monkeypatch.setenv("OPENMM_PLUGIN_DIR", str(tmp_path))
    name, ok, detail = checks.tried("OpenMM", "engine")
    assert (name, ok) == ("OpenMM", False)
    assert f"none of the plugins in {tmp_path} has it): unset OPENMM_PLUGIN_DIR" in detail


def test_a_report_is_drawn_whatever_its_user_has_set_for_matplotlib(tmp_path, monkeypatch):
    """LaTeX is not needed, and no window is opened."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nsavefig.format: pdf\nbackend: TkAgg\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path / "matplotlibrc"))
    assert checks.tried("report", "report") == ("report", True, "a figure is drawn")


def test_without_the_libraries_of_a_report_all_is_well(monkeypatch):
    monkeypatch.setattr(checks, "lacking", lambda: ["matplotlib"])
    monkeypatch.setattr(checks, "tried", lambda name, *_: (name, True, ""))
    ((name, ok, detail),) = (finding for finding in checks.trials(0) if finding[0] == "report")
    assert ok
    assert "pip install 'ddmd-mpi[report]'" in detail


def test_a_model_takes_a_step_whatever_its_user_has_set_for_keras(tmp_path, monkeypatch):
    (tmp_path / "keras.json").write_text(
        '{"floatx": "float16", "epsilon": 0.1, "backend": "torch", "image_data_format": "channels_first"}'
    )
    for name, value in {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax", "KERAS_MAX_EPOCHS": "many"}.items():
        monkeypatch.setenv(name, value)
    name, ok, detail = checks.tried("model", "model")
    assert (name, ok) == ("model", True), detail


@pytest.mark.parametrize(("code", "detail"), [
    ("import sys; print('12 GPUs')", (True, "12 GPUs")),
    ("raise RuntimeError('no')", (False, "RuntimeError: no")),
    ("import os; os.abort()", (False, "it ends with code -6 and gives no reason")),
    ("import time; time.sleep(60)", (False, "it does not finish within 1 s")),
])  # fmt: skip
def test_a_trial_that_ends_its_process_fails_alone(monkeypatch, code, detail):
    run = subprocess.run
    monkeypatch.setattr(checks, "TRIAL_SECONDS", 60.0 if "sleep" not in code else 1.0)
    monkeypatch.setattr(checks.subprocess, "run", lambda _, **options: run([sys.executable, "-c", code], **options))
    assert checks.tried("it", "engine") == ("it", *detail)
