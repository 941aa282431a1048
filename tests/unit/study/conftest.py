"""Studies whose trials are carried out by a stand-in for the program."""

import sys

import pytest

from ddmd_mpi.study.study_file import read_study
from ddmd_mpi.study.trials import plan

TEXT = """
systems = ["bba-go-markov"]
arms = ["none", "greedy"]
seeds = 2
aggregate_ns = 2.4
ranks = 1
at_once = {at_once}
launcher = "{launcher}"

[settings]
run.mode = "file"
training.model = "none"
"""


@pytest.fixture
def make(tmp_path):
    """``make(launcher)``: a study of four trials, and the trials."""

    def function(launcher=f"{sys.executable} {{ranks}}", at_once=1, change=("", "")):
        path = tmp_path / "small.toml"
        path.write_text(TEXT.format(launcher=launcher, at_once=at_once).replace(*change))
        study = read_study(path)
        return study, plan(study, tmp_path / "out")

    return function
