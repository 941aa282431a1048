"""``tools/gromacs.sh``: it takes a gmx on PATH, and names what is missing."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "gromacs.sh"
TOOLS = ("sh", "mkdir", "rm", "ln", "cat", "awk", "grep")


@pytest.fixture
def installed(tmp_path):
    """Runs the script where PATH has these programs alone, each of which is a shell script."""

    def run(**programs):
        place = tmp_path / "bin"
        place.mkdir()
        for tool in TOOLS:
            (place / tool).symlink_to(shutil.which(tool))
        for name, script in programs.items():
            (place / name.replace("_", "-")).write_text(f"#!/bin/sh\n{script}\n")
            (place / name.replace("_", "-")).chmod(0o755)
        command = ["sh", str(SCRIPT), str(tmp_path / "programs")]
        return subprocess.run(command, env={"PATH": str(place)}, capture_output=True, text=True, check=False)

    return run


def test_a_program_on_path_is_taken(installed, tmp_path):
    done = installed(gmx="echo GROMACS version: 2099")
    assert (done.returncode, done.stdout) == (0, "GROMACS version: 2099\n"), done.stderr
    assert (tmp_path / "programs" / "bin" / "gmx").resolve() == tmp_path / "bin" / "gmx"


def test_without_packages_the_cure_is_named(installed):
    done = installed()
    assert done.returncode == 3
    assert "without apt-get it is not installed here: install GROMACS, then make programs" in done.stderr


def test_packages_that_cannot_be_had_are_a_failure(installed):
    done = installed(apt_get="echo E: no network >&2; exit 100")
    assert done.returncode == 100
    assert done.stderr.splitlines() == [
        "E: no network",
        "GROMACS cannot be installed from the packages of this machine (exit code 100): see above",
    ]
