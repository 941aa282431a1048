"""Private directories: what a killed process has left goes, what a living one uses stays."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ddmd_mpi.errors import StreamError
from ddmd_mpi.streams.sst_guards import PREFIX, PrivateDirectory

OWNER = """
import sys
from ddmd_mpi.streams.sst_guards import PrivateDirectory
own = PrivateDirectory()
(own.path / "SimulationOutput-0000-to-3.sst").write_text("a contact of a run that is over")
print(own.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_what_a_killed_process_has_left_is_swept_and_a_living_one_is_left_alone():
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        theirs = Path(owner.stdout.readline().strip())
        mine = PrivateDirectory()
        assert theirs.is_dir()
        assert (theirs / "SimulationOutput-0000-to-3.sst").exists()
        owner.kill()
        owner.wait()
    again = PrivateDirectory()
    assert not theirs.exists()
    assert mine.path.is_dir()
    for own in (mine, again):
        own.free()
        assert not own.path.exists()


def test_a_directory_that_is_being_made_and_those_of_others_stay(temporary):
    for name in (f"{PREFIX}begun", "something-else"):
        (temporary / name).mkdir()
    (temporary / "something-else" / "lock").write_text("")
    PrivateDirectory().free()
    assert sorted(p.name for p in temporary.iterdir()) == [f"{PREFIX}begun", "something-else"]


def test_no_room_for_contact_files_is_one_sentence(limited):
    with limited(1000), pytest.raises(StreamError, match="make room, or set TMPDIR"):
        PrivateDirectory()
