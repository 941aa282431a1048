"""Strategies of the user's own: found by name, refused in one sentence, and guarded against all that they may do."""

import re
from pathlib import Path

import numpy as np
import pytest
from frame_windows import choose, pairs, window

from ddmd_mpi import config
from ddmd_mpi.config.schema import SteeringSection
from ddmd_mpi.config.strategies import BUILT_IN
from ddmd_mpi.errors import ConfigError
from ddmd_mpi.steering import plugins
from ddmd_mpi.steering.plugins import check_own
from ddmd_mpi.steering.policy import COPY_VELOCITIES, Policy

PAGE = Path(__file__).parents[3] / "docs" / "steering.md"
#: Walkers 0 .. 2 are at 9, 8 and 3; walker 2 was at 1 and 2 before.
BLOCK = window([(2, 0, 0, 1.0), (2, 0, 1, 2.0), (0, 0, 7, 9.0), (1, 0, 7, 8.0), (2, 0, 2, 3.0)])
MODULE = """
import time
import numpy as np
from ddmd_mpi.steering import Candidates, Choice, Ranking, needs

ALL = np.ones(5, bool)

def sound(seen): return Ranking(seen.coordinate, ALL)
def rows(seen): return Choice(np.array([1, -1, 0]))
def nothing(seen): return None
def nan(seen): return Ranking(np.full(5, np.nan), ALL)
def some_nan(seen): return Ranking(np.where(np.arange(5) == 0, np.nan, seen.coordinate), ALL)
def short(seen): return Ranking(seen.coordinate[:3], ALL)
def numbers(seen): return Ranking(seen.coordinate, np.ones(5))
def outside(seen): return Choice(np.array([0, 5, -1]))
def few(seen): return Choice(np.array([0]))
def floats(seen): return Choice(np.zeros(3))
def broken(seen): return seen.latents.mean()
def lists(seen): return Ranking([float(x) for x in seen.coordinate], [True] * len(seen))
def listed_rows(seen): return Choice([1, -1, 0])
def ragged(seen): return Ranking([[1], [1, 2]], ALL)
def writing(seen):
    seen.memory["n"] = object()
    seen.coordinate[:] = 0
    return sound(seen)
def by_number(seen): return Ranking(seen.coordinate, ALL, {2: (1, 2), "known": sorted(map(str, seen.memory))})
@needs("order_parameters")
def far(seen): return sound(seen)
def forgetful(seen): return Ranking(seen.coordinate, ALL, {"x": np.zeros(2)})
def slow(seen):
    time.sleep(0.01)
    return sound(seen)
def counting(seen): return Ranking(seen.coordinate, ALL, {"n": seen.memory.get("n", 0) + 1})
def optional(seen): return Ranking(seen.options["sign"] * seen.coordinate, ALL)
@needs("latents")
def modelled(seen): return Ranking(seen.latents[:, 0], ALL)
@needs("coordinate")
def targeted(seen): return sound(seen)
class Kind: pass
number = 3
"""


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """Makes the policy of a function of the module."""
    (tmp_path / "own_strategies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, **changes):
        settings = {"strategy": f"own_strategies:{name}", "min_latent_distance": 0.0, **changes}
        return Policy(SteeringSection(**settings), 3, 1)

    return make


def test_a_ranking_goes_through_the_policy(policy):
    chooser = policy("sound")
    assert pairs(choose(chooser, BLOCK), BLOCK) == [(0, 0)]
    assert chooser.strategy.complaint is None
    assert not chooser.needs_model


def test_a_choice_is_carried_out_as_it_is(policy):
    chooser = policy("rows", copy_velocities_probability=1.0)
    for _ in range(2):  # frames may be used again
        restarts = choose(chooser, BLOCK)
        assert pairs(restarts, BLOCK) == [(0, 1), (2, 0)]
        assert [(r.score, r.walker_score, r.velocity_seed) for r in restarts] == [
            (2, 9, COPY_VELOCITIES),
            (1, 3, COPY_VELOCITIES),
        ]
    assert pairs(choose(chooser, BLOCK, may_restart=[False, True, True]), BLOCK) == [(2, 0)]


def test_a_choice_of_a_frame_whose_coordinates_are_gone_leaves_the_walker(policy):
    gone = window([(2, 0, 0, 1.0, 0), (2, 0, 1, 2.0), (0, 0, 7, 9.0), (1, 0, 7, 8.0), (2, 0, 2, 3.0)])
    assert pairs(choose(policy("rows"), gone), gone) == [(0, 1)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "gave None: a Ranking or a Choice of ddmd_mpi.steering is expected"),
        ("nan", "gave no finite score"),
        ("short", r"scores of shape \(3,\), float32: one number for each of the 5 frames"),
        ("numbers", "a bool for each of the 5 frames"),
        ("outside", "chose frame 5, which is not in the window of 5 frames"),
        ("few", "one index for each of the 3 walkers"),
        ("floats", r"shape \(3,\), float64"),
        ("ragged", "failed: ValueError: .* inhomogeneous"),
        ("writing", "failed: ValueError: assignment destination is read-only"),
        ("broken", "failed: AttributeError: 'NoneType' object has no attribute 'mean'"),
        ("forgetful", "a memory that JSON cannot hold"),
    ],
)
def test_a_verdict_that_cannot_be_used_is_one_sentence_and_no_restart(policy, name, words):
    chooser = policy(name)
    assert choose(chooser, BLOCK) == []
    assert re.match(f"strategy own_strategies:{name} .*{words}", chooser.strategy.complaint)
    assert "\n" not in chooser.strategy.complaint
    assert chooser.state()["memory"] == {}


def test_lists_are_as_good_as_arrays(policy):
    assert pairs(choose(policy("lists"), BLOCK), BLOCK) == [(0, 0)]
    assert pairs(choose(policy("listed_rows"), BLOCK), BLOCK) == [(0, 1), (2, 0)]


def test_a_memory_is_what_a_resumed_run_has(policy):
    chooser = policy("by_number")
    for _ in range(2):
        choose(chooser, BLOCK)
    assert chooser.state()["memory"] == {"2": [1, 2], "known": ["2", "known"]}


def test_frames_with_nan_are_left_out(policy):
    chooser = policy("some_nan")
    assert pairs(choose(chooser, BLOCK), BLOCK) == [(0, 1)]
    assert chooser.strategy.complaint is None


def test_a_slow_strategy_is_named_and_used(policy, monkeypatch):
    monkeypatch.setattr(plugins, "SLOW_SECONDS", 0.005)
    chooser = policy("slow")
    assert pairs(choose(chooser, BLOCK), BLOCK) == [(0, 0)]
    assert re.match(r"strategy own_strategies:slow took 0\.\d s on 5 frames", chooser.strategy.complaint)


def test_what_it_remembers_comes_back_and_survives_a_resume(policy):
    chooser = policy("counting")
    for _ in range(2):
        choose(chooser, BLOCK)
    other, stranger = policy("counting"), policy("sound")
    for resumed in (other, stranger):
        resumed.restore(chooser.state())
    choose(other, BLOCK)
    assert other.state()["memory"] == {"n": 3}
    assert stranger.state()["memory"] == {}
    assert other.state()["bit_generator"] == chooser.state()["bit_generator"]


def test_a_checkpoint_without_a_memory_is_restored(policy):
    chooser = policy("counting")
    old = {k: v for k, v in chooser.state().items() if k not in ("strategy", "memory")}
    chooser.restore(old)
    assert chooser.state()["memory"] == {}


def test_options_reach_it(policy):
    assert pairs(choose(policy("optional", options={"sign": -1}), BLOCK), BLOCK) == [(2, 7)]


def test_latents_are_given_to_those_that_say_so(policy):
    chooser = policy("modelled")
    assert chooser.needs_model
    assert not chooser.needs_outliers
    assert choose(chooser, BLOCK) == []
    latents = np.array([[3.0], [0.0], [9.0], [5.0], [4.0]])
    assert pairs(choose(chooser, BLOCK, latents), BLOCK) == [(0, 1)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_strategies:missing", "cannot be imported: module 'own_strategies' has no attribute 'missing'"),
        ("own_strategiez:sound", "is it installed, or in PYTHONPATH"),
        ("own_strategies:Kind", "is no function"),
        ("own_strategies:number", "is no function"),
    ],
)
def test_what_is_no_strategy_is_refused(policy, name, words):
    with pytest.raises(ConfigError, match=words):
        Policy(SteeringSection(strategy=name), 3, 1)


def test_needs_that_the_run_cannot_meet_are_refused_before_it_starts(policy):
    def load(name, *more):
        return config.load("cln025", assignments=(f"steering.strategy=own_strategies:{name}", *more))

    check_own(load("modelled"))
    check_own(load("targeted"))
    with pytest.raises(ConfigError, match="own_strategies:modelled needs a model"):
        check_own(load("modelled", "training.model=none"))
    check_own(load("far"))
    with pytest.raises(ConfigError, match="own_strategies:far needs order parameters"):
        check_own(load("far", "features.order_parameters=[]"))


def test_a_name_that_stands_for_nothing_lists_the_strategies():
    with pytest.raises(
        ConfigError, match=r"unknown steering.strategy greddy: choose one of ml, .* or give an entry point or module:f"
    ):
        config.load("cln025", assignments=("steering.strategy=greddy",))
    assert config.load("cln025", assignments=("steering.strategy=fast", "steering.options={alpha=2.5}"))
    for options, words in (("{alpha=-1}", "a number above 0"), ("{beta=1}", "known are clusters, alpha")):
        with pytest.raises(ConfigError, match=words):
            config.load("cln025", assignments=("steering.strategy=fast", f"steering.options={options}"))
    with pytest.raises(ConfigError, match="a whole number above 0"):
        config.load("cln025", assignments=("steering.strategy=knn", "steering.options={neighbours=2.5}"))


def test_an_entry_point_names_one(policy, monkeypatch):
    from importlib import metadata

    point = metadata.EntryPoint("mine", "own_strategies:sound", "ddmd_mpi.strategies")
    monkeypatch.setattr(metadata, "entry_points", lambda **_: metadata.EntryPoints([point]))
    chooser = Policy(SteeringSection(strategy="mine"), 3, 1)
    assert pairs(choose(chooser, BLOCK), BLOCK) == [(0, 0)]


def test_the_strategy_of_the_page_works_and_is_short(tmp_path, monkeypatch):
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    assert len(code.splitlines()) <= 30
    (tmp_path / "lonely.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    chooser = Policy(SteeringSection(strategy="lonely:lonely", min_latent_distance=0.0), 3, 1)
    latents = np.array([[0.0, 9.0], [0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [0.1, 0.1]])
    assert pairs(choose(chooser, BLOCK, latents), BLOCK) == [(1, 0)]  # walker 1 is nearest to the mean
    assert chooser.strategy.complaint is None


def test_the_page_names_every_strategy_and_option():
    page = PAGE.read_text()
    for name, built_in in BUILT_IN.items():
        for word in (name, *built_in.options):
            assert f"`{word}`" in page


#: Order parameters 5, 1, 4 where the RMSDs are 1, 2, 9: walkers 0 and 1, which is at its second frame.
WITH_PARAMETERS = window(
    [(1, 0, 0, 1.0), (1, 0, 1, 2.0), (0, 0, 7, 9.0)], order_parameters=np.array([[0, 5], [0, 1], [0, 4]], np.float32)
)


@pytest.mark.parametrize(
    ("goal", "expected"),
    [("down", [(0, 1)]), ("up", [(1, 0)]), (1.2, [(0, 1)]), (4.9, [(1, 0)]), (4.0, [(1, 7)])],
)
def test_strategies_rank_by_an_order_parameter(goal, expected):
    settings = SteeringSection(
        strategy="greedy", coordinate="second", coordinate_goal=goal, min_latent_distance=0.0, restart_fraction=1.0
    )
    restarts = choose(Policy(settings, 2, 1, coordinate=1), WITH_PARAMETERS)
    assert pairs(restarts, WITH_PARAMETERS) == expected


def test_the_coordinate_is_one_of_the_order_parameters():
    named = ("steering.coordinate=native_contacts", "steering.coordinate_goal=up")
    assert config.load("cln025", assignments=named).coordinate == 1
    assert config.load("cln025").coordinate is None
    with pytest.raises(
        ConfigError, match="steering.coordinate helicity is no order parameter: choose one of radius_of"
    ):
        config.load("cln025", assignments=("steering.coordinate=helicity",))
    with pytest.raises(ConfigError, match="set steering.coordinate to its name"):
        config.load("cln025", assignments=("steering.coordinate_goal=up",))
