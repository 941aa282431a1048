"""What the user has set elsewhere does not break a run."""

import os
import subprocess
import sys
import warnings

import pytest

from ddmd_mpi import environ
from ddmd_mpi.errors import InputError


@pytest.fixture
def settled(tmp_path):
    """The environment that the program makes of one, on a host with such network adapters."""

    def settle(*adapters, **variables):
        for name in adapters:
            (tmp_path / name).mkdir()
        environ.settle(variables, tmp_path)
        return variables

    return settle


@pytest.mark.parametrize(("adapters", "given", "osc"), [
    ((), {}, "^ucx"), (("mlx5_0",), {}, None), (("hfi1_0", "irdma0"), {}, "^ucx"),
    ((), {"OMPI_MCA_osc": "rdma"}, "rdma"), (("mlx5_0",), {"OMPI_MCA_osc": "ucx"}, "ucx"),
])  # fmt: skip
def test_windows_over_ucx_are_left_out_where_there_is_no_adapter_for_them(settled, adapters, given, osc):
    assert settled(*adapters, **given).get("OMPI_MCA_osc") == osc


def test_a_host_without_a_list_of_adapters_has_none(tmp_path):
    variables = {}
    environ.settle(variables, tmp_path / "none")
    assert variables["OMPI_MCA_osc"] == "^ucx"


@pytest.mark.parametrize("given", ["4,2", "0", "", "many", "-2"])
def test_a_number_of_threads_that_is_none_becomes_one(settled, given):
    kept = settled(OMP_NUM_THREADS=given, MKL_NUM_THREADS="4")
    assert (kept["OMP_NUM_THREADS"], kept["MKL_NUM_THREADS"]) == ("1", "4")


def test_a_temporary_directory_that_cannot_be_used_is_left_to_the_system(settled, tmp_path):
    (tmp_path / "file").touch()
    kept = settled(TMPDIR=str(tmp_path), TEMP=str(tmp_path / "none"), TMP=str(tmp_path / "file"))
    assert kept["TMPDIR"] == str(tmp_path)
    assert not {"TEMP", "TMP"} & kept.keys()
    assert "TMPDIR" not in settled(TMPDIR="/tmp/\udce9")


def test_a_launcher_that_is_out_of_reach_is_forgotten(settled):
    """Open MPI crashes where it looks for one."""
    left = {"PMIX_NAMESPACE": "slurm.pmix.1.0", "PMIX_RANK": "0"}
    assert "PMIX_NAMESPACE" not in settled(**left)
    assert "PMIX_NAMESPACE" in settled(**left, PMIX_SERVER_URI41="tcp4://127.0.0.1:4711")


def test_a_notebooks_backend_and_warnings_as_errors_are_for_other_programs(settled):
    kept = settled(MPLBACKEND="module://matplotlib_inline.backend_inline", PYTHONWARNINGS="error", KEEP="me")
    assert (kept["MPLBACKEND"], kept["KEEP"]) == ("agg", "me")
    assert "PYTHONWARNINGS" not in kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        environ.soften_warnings()
        with pytest.warns(DeprecationWarning, match="old"):
            warnings.warn("old", DeprecationWarning, stacklevel=1)


@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "POSIX"}, {"LC_ALL": "C.utf8"}],
)
def test_paths_are_utf8_in_every_locale(tmp_path, locale):
    """The arguments arrive as they were, and nothing is started again for ever."""
    code = (
        "import sys; from ddmd_mpi.environ import use_utf8; use_utf8(); "
        "print(sys.getfilesystemencoding(), ascii(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "Å/é"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, **locale},
    )
    assert done.stdout == "utf-8 '\\xc5/\\xe9'\n"


def test_names_that_are_not_utf8_are_refused(tmp_path, monkeypatch):
    environ.check_paths(["--output", "runs/é Å", "日本"])
    with pytest.raises(InputError, match="is not UTF-8"):
        environ.check_paths([os.fsdecode(b"--output=/tmp/\xe9")])
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/\xe9")
    os.mkdir(strange)
    monkeypatch.chdir(strange)
    with pytest.raises(InputError, match="working directory .* is not UTF-8"):
        environ.check_paths([])
    os.rmdir(strange)
    with pytest.raises(InputError, match="no longer exists"):
        environ.check_paths([])
