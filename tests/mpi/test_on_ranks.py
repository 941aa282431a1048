"""The functions that run on ranks fail by their names, and hold up none of the others."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi
HERE = Path(__file__).parent

FUNCTIONS = """
import time
from on_ranks import on_ranks

@on_ranks(1, 2)
def test_passes(comm):
    assert comm.size in (1, 2)

@on_ranks(2)
def test_fails_on_one_rank(comm, directory):
    assert directory.is_dir()
    assert comm.rank == 0, f"rank {comm.rank} disagrees"
    comm.Barrier()

@on_ranks(2, seconds=2)
def test_hangs(comm):
    comm.recv(source=1 - comm.rank)

@on_ranks(2)
def test_passes_after_them(comm):
    comm.Barrier()
"""


def test_a_failure_and_a_hang_are_told_from_what_passes(tmp_path):
    shutil.copy(HERE / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(FUNCTIONS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "--rootdir", tmp_path, "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent}"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout
    for name in ("test_passes[1]", "test_passes[2]", "test_passes_after_them[2]"):
        assert f"PASSED test_some.py::{name}" in done.stdout
    for name in ("test_fails_on_one_rank[2]", "test_hangs[2]"):
        assert f"FAILED test_some.py::{name}" in done.stdout
    assert "rank 1 disagrees" in done.stdout
    assert "in test_hangs" in done.stdout, "no rank said where it hung"
