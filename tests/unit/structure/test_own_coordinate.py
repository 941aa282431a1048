"""Order parameters of the user's own: computed, checked at the start, and named where they fail."""

import numpy as np
import pytest

from ddmd_mpi import config
from ddmd_mpi.config.dynamics import FeaturesSection, OrderParameter
from ddmd_mpi.errors import ConfigError
from ddmd_mpi.structure.features import FeatureCalculator

MODULE = """
import numpy as np

def end_to_end(x, target): return 10 * np.linalg.norm(x[-1] - x[0])
def ratio(x, target): return np.linalg.norm(x[-1] - x[0]) / np.linalg.norm(target[-1] - target[0])
def destroy(x, target):
    x *= 0
    target *= 0
    return 1.0
def many(x, target): return x[:, 0]
def nan(x, target): return np.nan
def picky(x, target):
    if x[0, 0] > 5: raise KeyError("far")
    return 1
number = 3
"""
TARGET = np.cumsum(np.tile([0.38, 0.0, 0.0], (6, 1)), axis=0) + np.array([[0, (-1) ** i * 0.1, 0] for i in range(6)])


@pytest.fixture
def calculator(tmp_path, monkeypatch):
    """Makes the calculator of an order parameter that is built in, and of functions of the module."""
    (tmp_path / "own_coordinates.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def make(*functions):
        own = [OrderParameter(name=f"own_{f}", kind="function", function=f"own_coordinates:{f}") for f in functions]
        first = OrderParameter(name="size", kind="radius_of_gyration")
        return FeatureCalculator(TARGET, FeaturesSection(order_parameters=[first, *own]))

    return make


def test_values_stand_beside_the_built_in_ones(calculator):
    found = calculator("end_to_end", "ratio").compute(2 * TARGET)["order_parameters"]
    length = np.linalg.norm(TARGET[-1] - TARGET[0])
    assert found[1:] == pytest.approx([20 * length, 2.0])
    assert found[0] == calculator().compute(2 * TARGET)["order_parameters"][0]


def test_a_function_cannot_change_the_frame(calculator):
    features, x = calculator("destroy"), 1.5 * TARGET
    expected = calculator().compute(x)
    for _ in range(2):
        found = features.compute(x)
        assert found["rmsd"] == expected["rmsd"] > 0
        np.testing.assert_array_equal(found["ca_positions"], expected["ca_positions"])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("many", "own_coordinates:many failed: TypeError"),
        ("nan", "own_coordinates:nan gave nan: a finite number is expected; it was called with the target"),
        ("missing", "no attribute 'missing'"),
        ("number", "is no function"),
    ],
)
def test_what_fails_on_the_target_is_refused_at_the_start(calculator, function, words):
    with pytest.raises(ConfigError, match=words):
        calculator(function)


def test_what_fails_on_a_frame_is_named(calculator):
    features = calculator("picky")
    assert features.compute(TARGET)["order_parameters"][1] == 1
    with pytest.raises(ValueError, match="order parameter own_picky: own_coordinates:picky failed: KeyError: 'far'"):
        features.compute(TARGET + 6)


def test_kind_and_function_go_together():
    for row in ("{name = 'a', kind = 'function'}", "{name = 'a', kind = 'distance', function = 'a:b'}"):
        with pytest.raises(ConfigError, match="order parameter a: kind function and function"):
            config.load("cln025", assignments=(f"features.order_parameters=[{row}]",))


def test_strategies_can_rank_by_one():
    row = "{name = 'ends', kind = 'function', function = 'own_coordinates:end_to_end'}"
    loaded = config.load("cln025", assignments=(f"features.order_parameters=[{row}]", "steering.coordinate=ends"))
    assert loaded.coordinate == 0
