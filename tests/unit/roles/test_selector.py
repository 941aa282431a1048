"""The window is embedded with one model version, and no frame twice with the same one."""

import numpy as np

from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model import ModelWeights
from ddmd_mpi.roles.selector import Embedding


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
