"""The features of a frame have the names, dtypes and shapes of the table of frames."""

import numpy as np
import pytest

from ddmd_mpi.config.dynamics import FeaturesSection, OrderParameter
from ddmd_mpi.errors import ConfigError
from ddmd_mpi.frames.block import FIELD
from ddmd_mpi.structure.contacts import contact_csr
from ddmd_mpi.structure.features import FeatureCalculator

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
