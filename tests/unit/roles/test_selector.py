"""The window is embedded with one model version, and no frame twice with the same one."""

import logging
from types import SimpleNamespace

import numpy as np

from ddmd_mpi.errors import ModelError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model import ModelWeights
from ddmd_mpi.roles.selector import Embedding, RestartSelector


class CountingModel:
    """Latents are (frame, scale * frame); remembers how many frames it was asked for."""

    n_latent = 2

    def __init__(self):
        self.scale, self.asked = 1.0, []

    def load(self, arrays):
        self.scale = float(arrays[0])

    def embed(self, block):
        self.asked.append(len(block))
        frame = block["frame"].astype(np.float32)
        return np.stack([frame, self.scale * frame], axis=1)


def block(simulation, frame):
    n = len(frame)
    return FrameBlock(
        {
            "walker": np.asarray(simulation, "<i4"),
            "frame": np.asarray(frame, "<i8"),
            "contact_counts": np.zeros((n, 3), "<u2"),
            "contact_columns": np.zeros(0, "<u2"),
        }
    )


def test_only_new_frames_are_embedded_until_the_model_changes():
    model = CountingModel()
    embedding = Embedding(model)
    embedding.load(ModelWeights(1, [np.array(1.0)], {}))
    first = embedding.embed(block([0, 1, 0], [0, 0, 1]))
    np.testing.assert_array_equal(first[:, 0], [0, 0, 1])
    second = embedding.embed(block([1, 0, 1, 0], [0, 1, 7, 8]))
    np.testing.assert_array_equal(second[:, 0], [0, 1, 7, 8])
    embedding.embed(block([1, 0, 1, 0], [0, 1, 7, 8]))
    assert model.asked == [3, 2]
    embedding.load(ModelWeights(2, [np.array(3.0)], {}))
    third = embedding.embed(block([1, 0, 1, 0], [0, 1, 7, 8]))
    np.testing.assert_array_equal(third[:, 1], [0, 3, 21, 24])
    assert embedding.version == 2


def test_a_model_that_fails_in_every_round_is_named_once(caplog):
    said = ["no weights", "no weights", None, "no weights", "no memory"]

    def embed(_):
        if (sentence := said.pop(0)) is not None:
            raise ModelError(sentence)
        return np.zeros((1, 2))

    selector = RestartSelector.__new__(RestartSelector)
    selector.context = SimpleNamespace(log=logging.getLogger("ddmd_mpi.test"))
    selector.context.log.propagate = True
    selector.policy = SimpleNamespace(needs_model=True)
    selector.embedding = SimpleNamespace(version=1, embed=embed)
    selector._failure = None
    with caplog.at_level(logging.INFO):
        found = [selector.embed(block([0], [0])) is None for _ in range(5)]
    assert found == [True, True, False, True, True]
    errors = [r.getMessage().rpartition(": ")[2] for r in caplog.records if r.levelname == "ERROR"]
    assert errors == ["no weights", "no weights", "no memory"]
    assert [r.getMessage() for r in caplog.records if r.levelname == "INFO"] == ["the model embeds again"]
