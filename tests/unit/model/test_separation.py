"""Models tell states apart: folded and unfolded BBA of the structure-based model, by a line through the latents.

The models never see the labels. Each walker's first half trains model and classifier, its second half tests them.
"""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ddmd_mpi import config, model
from ddmd_mpi.config.dynamics import FeaturesSection
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.md.openmm_engine import OpenMMEngine
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.structure.features import FeatureCalculator

pytestmark = pytest.mark.timeout(240)

FOLDED_KELVIN, UNFOLDED_KELVIN = 200.0, 400.0  # it folds at about 300 K
N_FRAMES, STEPS = 400, 100  # of each walker, and between two of its frames
FOLDED, UNFOLDED = 0.7, 0.5  # fraction of native contacts: at least and at most; what lies between is left out
SETTINGS = {
    "cvae": {"filters": 8, "latent_dimensions": 5, "epochs": 12, "batch_size": 16},
    "pca": {"latent_dimensions": 5},
}


@pytest.fixture(scope="module")
def frames():
    """A cold walker from the target and a hot one from the unfolded start, and the fraction of native contacts."""
    settings = config.load("bba-go")
    structures = load_structures(settings.system)
    calculator = FeatureCalculator(structures.target_nm, FeaturesSection())
    rows = []
    for kelvin, positions in ((FOLDED_KELVIN, structures.target_nm), (UNFOLDED_KELVIN, structures.positions_nm)):
        simulation = replace(settings.simulation, temperature_kelvin=kelvin)
        engine = OpenMMEngine(structures, simulation, settings.system, seed=5)
        engine.set_state(positions, seed=3)
        for _ in range(N_FRAMES):
            engine.advance(STEPS)
            rows.append(calculator.compute(engine.state().positions))
        engine.free()
    block = FrameBlock({
        "walker": np.repeat([0, 1], N_FRAMES), "frame": np.tile(np.arange(N_FRAMES), 2),
        "ca_positions": np.array([r["ca_positions"] for r in rows]),
        "contact_counts": np.array([r["contact_counts"] for r in rows]),
        "contact_columns": np.concatenate([r["contact_columns"] for r in rows]),
    })  # fmt: skip
    return block, np.array([r["order_parameters"][1] for r in rows])


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_line_through_the_latents_parts_folded_from_unfolded(frames, kind):
    block, native = frames
    first_half = np.arange(len(block)) % N_FRAMES < N_FRAMES // 2
    labelled, folded = (native >= FOLDED) | (native <= UNFOLDED), native >= FOLDED
    assert 0.3 < folded[labelled].mean() < 0.7

    def accuracy(latents):
        known, tested = labelled & first_half, labelled & ~first_half
        classifier = make_pipeline(StandardScaler(), LogisticRegression())
        return classifier.fit(latents[known], folded[known]).score(latents[tested], folded[tested])

    n_residues = block["ca_positions"].shape[1]
    network = model.create(model.Setup(TrainingSection(model=kind, **SETTINGS[kind]), n_residues, seed=1))
    before = accuracy(network.embed(block))
    assert network.train(block.take(first_half), model.Supervisor()).accepted
    after = accuracy(network.embed(block))
    assert after >= 0.95
    assert before < 0.95, "the line needs no model"
