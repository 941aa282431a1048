"""The features of a frame have the names, dtypes and shapes of the table of frames."""

import numpy as np
import pytest

from ddmd_mpi.config.dynamics import FeaturesSection, OrderParameter
from ddmd_mpi.errors import ConfigError
from ddmd_mpi.frames.block import FIELD
from ddmd_mpi.structure.contacts import contact_csr
from ddmd_mpi.structure.features import FeatureCalculator, FeatureTable

TARGET = np.random.default_rng(0).normal(size=(10, 3))


def test_features_of_the_target_itself():
    found = FeatureCalculator(TARGET, FeaturesSection()).compute(TARGET.astype(np.float32))
    assert found["rmsd"] == pytest.approx(0.0, abs=1e-3)
    assert len(found["order_parameters"]) == 2
    for name in ("ca_positions", "contact_counts", "contact_columns", "order_parameters"):
        assert found[name].dtype == np.dtype(FIELD[name].dtype)


def test_rmsd_is_in_angstrom_and_contacts_come_from_the_rounded_positions():
    calculator = FeatureCalculator(TARGET, FeaturesSection(cutoff_angstrom=12.0))
    found = calculator.compute(TARGET * 1.1)
    assert found["rmsd"] == pytest.approx(1.0 * np.sqrt(np.square(TARGET - TARGET.mean(axis=0)).sum() / 10))
    counts, columns = contact_csr(found["ca_positions"], 12.0)
    np.testing.assert_array_equal(found["contact_counts"], counts)
    np.testing.assert_array_equal(found["contact_columns"], columns)


@pytest.mark.parametrize(("residues", "message"), [([0], "needs two residues"), ([0, 10], "residue 10 does not exist")])
def test_residues_that_cannot_be_used_are_refused(residues, message):
    parameter = OrderParameter(name="ends", kind="distance", residues=residues)
    with pytest.raises(ConfigError, match=message):
        FeatureCalculator(TARGET, FeaturesSection(order_parameters=[parameter]))


def of_two_groups(**changes):
    groups = {"name": "groups", "kind": "contacts", "residues": [0, 1], "partners": [8, 9], **changes}
    return OrderParameter(**groups)


def test_contacts_between_two_groups_use_the_cutoff_of_the_map():
    near = np.zeros((10, 3))
    near[8:, 0] = 0.9
    for cutoff, expected in ((8.0, 0), (9.5, 4)):
        features = FeaturesSection(order_parameters=[of_two_groups()], cutoff_angstrom=cutoff)
        assert FeatureCalculator(TARGET, features).compute(near)["order_parameters"] == [expected]


def test_the_distance_between_two_groups():
    features = FeaturesSection(order_parameters=[of_two_groups(kind="centre_distance")])
    expected = 10 * np.linalg.norm(TARGET[:2].mean(axis=0) - TARGET[8:].mean(axis=0))
    assert FeatureCalculator(TARGET, features).compute(TARGET)["order_parameters"] == pytest.approx([expected])


@pytest.mark.parametrize("changes", [{"partners": []}, {"residues": []}, {"kind": "end_to_end"}])
def test_two_groups_go_with_the_kinds_that_need_them(changes):
    with pytest.raises(ValueError, match="set residues and partners"):
        of_two_groups(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partners": [8, 10]}, "residue 10 does not exist"),
        ({"kind": "dihedral", "partners": [], "residues": [1, 2, 3]}, "dihedral needs four residues"),
        ({"kind": "end_to_end", "partners": [], "residues": [1, 12]}, "residue 12 does not exist"),
    ],
)
def test_residues_of_other_kinds_that_cannot_be_used_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        FeatureCalculator(TARGET, FeaturesSection(order_parameters=[of_two_groups(**changes)]))


def test_repeated_frames_are_computed_once_and_are_the_same(monkeypatch):
    rng = np.random.default_rng(3)
    frames = rng.normal(size=(4, 9, 3)).astype(np.float32)
    plain = FeatureCalculator(frames[0].astype(float), FeaturesSection())
    table, asked = FeatureTable(frames[0].astype(float), FeaturesSection()), []
    once = FeatureCalculator.compute
    monkeypatch.setattr(FeatureCalculator, "compute", lambda *given: asked.append(1) or once(*given))
    contacts = 0
    for shown in ([0], [1, 2, 1], [2, 0], [3, 1]):
        chosen = np.array(shown)
        table.learn(chosen, frames[chosen], np.arange(9), np.zeros((3, 3)))
        found = table.columns(chosen)
        expected = [once(plain, frames[i]) for i in shown]
        assert list(found) == list(expected[0])
        for name in ("rmsd", "order_parameters", "ca_positions", "contact_counts"):
            np.testing.assert_array_equal(found[name], np.array([e[name] for e in expected], found[name].dtype))
        np.testing.assert_array_equal(
            found["contact_columns"], np.concatenate([e["contact_columns"] for e in expected])
        )
        np.testing.assert_array_equal(table.columns(chosen, "rmsd")["rmsd"], found["rmsd"])
        contacts += len(found["contact_columns"])
    assert len(asked) == 4
    assert contacts > 0
