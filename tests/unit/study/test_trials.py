"""The trials of a study: equal steps, taking turns, and how far each has come."""

import json

import pytest

from ddmd_mpi import config
from ddmd_mpi.errors import ConfigError, RunDirectoryError
from ddmd_mpi.study.trials import State


def test_arms_take_turns_seed_after_seed(make):
    _, trials = make()
    assert [(t.arm, t.seed) for t in trials] == [("none", 1), ("greedy", 1), ("none", 2), ("greedy", 2)]
    assert len({t.directory for t in trials}) == 4


def test_walkers_share_the_time_of_a_trial(make):
    _, (trial, *_) = make()
    settings = config.load(trial.system.usecase, None, trial.assignments)
    assert trial.n_walkers == 12
    assert settings.simulation.walker_length_ns == pytest.approx(2.4 / 12)
    assert (settings.run.seed, settings.run.mode, settings.steering.strategy) == (1, "file", "none")
    assert trial.options[:2] == ["--usecase", "bba-go-markov"]
    assert trial.options[-2:] == ["--output", str(trial.run)]


def test_trials_side_by_side_do_not_bind_to_the_same_cores(make):
    _, (alone, *_) = make()
    _, (beside, *_) = make(at_once=2, change=("launcher", "#"))
    assert not any("bind" in text for text in alone.assignments)
    assert "simulation.bind=false" in beside.assignments


def test_trials_at_once_are_no_setting_of_a_trial(make):
    _, (alone, *_) = make(change=("launcher", "#"))
    alone.clear()
    _, (beside, *_) = make(at_once=2, change=("launcher", "#"))
    beside.check_settings()
    _, (bound, *_) = make(change=('run.mode = "file"', 'run.mode = "file"\nsimulation.bind = false'))
    with pytest.raises(RunDirectoryError, match="other settings"):
        bound.check_settings()


@pytest.mark.parametrize(
    ("summary", "checkpoint", "state"),
    [
        (None, False, State.LOST),
        (None, True, State.UNFINISHED),
        ({"completed": True, "stop_reason": "all simulations ended"}, True, State.FINISHED),
        ({"completed": False, "stop_reason": ""}, True, State.UNFINISHED),
        ({"completed": True, "stop_reason": "SIGTERM"}, True, State.UNFINISHED),
        ({"completed": True, "stop_reason": "walltime"}, False, State.LOST),
        ({"completed": True, "stop_reason": "failure"}, True, State.UNFINISHED),
        ({"completed": True, "stop_reason": "rmsd_plateau"}, True, State.FINISHED),
        ("{half", True, State.UNFINISHED),
    ],
)
def test_a_trial_is_finished_only_if_its_summary_says_so(make, summary, checkpoint, state):
    _, (trial, *_) = make()
    assert trial.state() is State.NEW
    (trial.run / "checkpoints").mkdir(parents=True)
    if summary is not None:
        text = summary if isinstance(summary, str) else json.dumps(summary)
        (trial.run / "summary.json").write_text(text)
    if checkpoint:
        (trial.run / "checkpoints" / "manifest-000001.json").write_text("{}")
    assert trial.state() is state


def test_a_trial_of_other_settings_is_refused(make):
    _, (before, *_) = make()
    before.clear()
    before.check_settings()
    _, (same, *_) = make(change=("seeds = 2", "seeds = 9"))
    same.check_settings()
    _, (other, *_) = make(change=("aggregate_ns = 2.4", "aggregate_ns = 4.8"))
    with pytest.raises(RunDirectoryError, match="seed-0001 was begun with other settings"):
        other.check_settings()


def test_an_invalid_setting_of_an_arm_is_named_before_any_trial(make):
    with pytest.raises(
        ConfigError, match=r"arm none on bba-go-markov: unknown setting run\.mdoe: did you mean run\.mode"
    ):
        make(change=("run.mode", "run.mdoe"))


def test_a_strategy_that_cannot_be_imported_is_named_before_any_trial(make):
    with pytest.raises(ConfigError, match=r"arm none on bba-go-markov: .*absent_module"):
        make(
            change=(
                'training.model = "none"',
                'training.model = "none"\n[arm.none]\nsteering.strategy = "absent_module:f"',
            )
        )
