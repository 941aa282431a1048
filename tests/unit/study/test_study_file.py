"""The file of a study: what it may say, and the sentence about what it may not."""

import pytest

from ddmd_mpi.errors import ConfigError
from ddmd_mpi.study.study_file import read_study

GOOD = """
systems = ["bba-go-markov"]
arms = ["none", "greedy", "early"]
seeds = 3
aggregate_ns = 2.4
ranks = 1

[settings]
run.mode = "file"
training.model = "none"
steering.window_rounds = 7.0

[arm.early]
steering.strategy = "greedy"
steering.window_rounds = 2.0
"""


@pytest.fixture
def read(tmp_path):
    def function(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return read_study(path)

    return function


def test_an_arm_is_a_strategy_or_a_table(read):
    study = read(GOOD)
    assert study.name == "mine"
    assert list(study.arms) == ["none", "greedy", "early"]
    assert study.arms["greedy"] == {"steering": {"strategy": "greedy"}}
    assert study.seeds == (1, 2, 3)
    assert study.reference == "none"
    (system,) = study.systems
    assert (system.usecase, system.n_ranks, system.aggregate_ns) == ("bba-go-markov", 1, 2.4)


def test_an_arm_overrides_the_settings_of_all(read):
    study = read(GOOD)
    (system,) = study.systems
    assert study.settings(system, "early")["steering"] == {"strategy": "greedy", "window_rounds": 2.0}
    assert study.settings(system, "greedy")["steering"] == {"strategy": "greedy", "window_rounds": 7.0}
    assert study.settings(system, "early")["run"] == {"mode": "file"}


def test_a_system_may_differ_from_the_others(read):
    study = read(GOOD.replace('"bba-go-markov"', '"bba-go-markov", "long"') + """
        [system.long]
        usecase = "bba-go"
        aggregate_ns = 9.0
        passages_angstrom = [1.0, 2.0]
        settings.simulation.walkers_per_rank = 3
    """)  # fmt: skip
    short, long = study.systems
    assert (long.usecase, long.aggregate_ns, long.passages_angstrom) == ("bba-go", 9.0, (2.0, 1.0))
    assert study.settings(long, "none")["simulation"] == {"walkers_per_rank": 3}
    assert "simulation" not in study.settings(short, "none")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"greedy", "early"', '"gredy", "early"', "arm gredy is not a strategy and has no table [arm.gredy]"),
        ('"greedy", "early"', '"gredy", "early"', "did you mean greedy?"),
        ("[arm.early]", "[arm.eraly]", "arm early is not a strategy and has no table [arm.early]: did you mean eraly?"),
        ('"greedy", "early"', '"greedy"', "the table [arm.early] is of no arm in arms"),
        ('"greedy", "early"', '"greedy", "early", "none"', "arm none is listed twice"),
        ('["bba-go-markov"]', '["bba-go-makrov"]', "did you mean bba-go-markov?"),
        ("aggregate_ns", "agregate_ns", "unknown setting agregate_ns: did you mean aggregate_ns?"),
        ("seeds = 3", "seeds = [1, 2, 1]", "a seed is listed twice"),
        ("seeds = 3", "seeds = 0", "seeds"),
        (
            "seeds = 3",
            'seeds = 3\nreference = "nonne"',
            "reference nonne is not an arm of this study: did you mean none?",
        ),
        ("seeds = 3", 'seeds = 3\nlauncher = "srun -n {rank}"', "may contain {ranks} and {slot} only"),
        ("seeds = 3", 'seeds = 3\nlauncher = "srun"', "must say {ranks}"),
        ('run.mode = "file"', "run.seed = 4", "run.seed is set by the study itself: leave it out, and use seeds"),
        ("[settings]", "[system.bba-go-markov]\nrnaks = 2\n[settings]", "did you mean system.bba-go-markov.ranks?"),
        ("seeds = 3", "seeds = ", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(read, old, new, said):
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        read(GOOD.replace(old, new))
    assert said in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the config file .*absent\.toml"):
        read_study(tmp_path / "absent.toml")
