"""Models of a third party: found by name, refused in one sentence, and guarded against all that they may do."""

import itertools
import json
import logging

import numpy as np
import pytest

from ddmd_mpi import model
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import ModelError, StreamError
from ddmd_mpi.frames.block import FrameBlock

SOUND = """
import numpy as np
from ddmd_mpi.model import Model, Round

class Mine(Model):
    n_latent = 2
    architecture = {"kind": "first residue"}

    def __init__(self, setup):
        self.scale = np.ones(1)

    def train(self, block, supervisor):
        self.scale = self.scale + 1
        return Round(1, len(block), 0.5, 0.25, True)

    def embed(self, block):
        return self.scale * block["ca_positions"][:, 0, :2]

    def weights(self):
        return [self.scale]

    def load(self, arrays):
        (self.scale,) = arrays
"""
NUMBERS = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module onto the path; its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text):
        name = f"foreign_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


@pytest.fixture
def made(module):
    """The model of a sound module in which a piece of code is another one."""

    def make(old="", new=""):
        assert old in SOUND
        return create(module(SOUND.replace(old, new)) + ":Mine")

    return make


def create(name, **settings):
    return model.create(model.Setup(TrainingSection(model=name, **settings), 3))


def block(n_frames=4):
    positions = np.arange(n_frames * 9, dtype="<i2").reshape(n_frames, 3, 3)
    return FrameBlock({"walker": np.zeros(n_frames, "<i4"), "ca_positions": positions})


def sentence(caught):
    """What a ModelError says, which must be one line."""
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_model_trains_embeds_and_travels(made):
    mine = made()
    result = mine.train(block(), model.Supervisor())
    assert (result.loss, result.validation_loss, result.samples, result.accepted) == (0.5, 0.25, 4, True)
    latents = mine.embed(block())
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(latents, 2 * block()["ca_positions"][:, 0, :2])
    other = made()
    other.load(model.ModelWeights.unpack(model.ModelWeights(1, mine.weights()).pack()).arrays)
    np.testing.assert_array_equal(other.embed(block()), latents)
    assert (mine.n_latent, mine.architecture, mine.data_parallel) == (2, {"kind": "first residue"}, "none")
    other.restore(mine.state())
    mine.free()


def test_an_entry_point_is_found_by_its_name(module, tmp_path):
    name = module(SOUND)
    info = tmp_path / "foreign-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ddmd_mpi.models]\nfirst-residue = {name}:Mine\nlost = nowhere:Mine\n")
    assert create("first-residue").architecture == {"kind": "first residue"}
    with pytest.raises(ModelError, match="unknown training.model second") as caught:
        model.check(TrainingSection(model="second"), 3)
    assert "cvae, aae, pca, tica, none, first-residue, lost" in sentence(caught)
    with pytest.raises(ModelError, match="training.model lost cannot be imported: No module named 'nowhere'"):
        model.check(TrainingSection(model="lost"), 3)


@pytest.mark.parametrize(("text", "name", "words"), [
    ("", "nowhere:Nothing", "No module named 'nowhere'; is it installed, or in PYTHONPATH?"),
    ("", "{}:Nothing", "has no attribute 'Nothing'"),
    ("import nowhere", "{}:Mine", "No module named 'nowhere'"),
    ("class", "{}:Mine", "SyntaxError: invalid syntax"),
    ("undefined", "{}:Mine", "NameError: name 'undefined' is not defined"),
    ("raise SystemExit('not today')", "{}:Mine", "SystemExit: not today"),
    ("class Mine: pass", "{}:Mine", "must be a subclass of ddmd_mpi.model.Model"),
    ("Mine = 3", "{}:Mine", r"must be a subclass of ddmd_mpi.model.Model (got 3)"),
    ("from ddmd_mpi.model import Model\nclass Mine(Model):\n  def train(self, block, supervisor): pass\n"
     "  def weights(self): pass", "{}:Mine", "lacks embed, load: see docs/models.md"),
    ("", "mine", "unknown training.model mine"),
])  # fmt: skip
def test_what_can_be_known_before_the_start_is_refused_before_it(module, text, name, words):
    with pytest.raises(ModelError) as caught:
        model.check(TrainingSection(model=name.format(module(text))), 3)
    assert "training.model" in sentence(caught)
    assert words in sentence(caught)


@pytest.mark.parametrize(("old", "new", "words"), [
    ("self.scale = np.ones(1)", "raise OSError('no weights here')", "failed in Mine: OSError: no weights here"),
    ("n_latent = 2", "", "has no attribute 'n_latent'"),
    ("n_latent = 2", "n_latent = 2.5", "failed in its attributes: TypeError"),
    ("n_latent = 2", "n_latent = 0", "at least 1"),
    ('{"kind": "first residue"}', '{"kind": np.int64(3)}', "not JSON serializable"),
    ("n_latent = 2", "n_latent = 2; data_parallel = 'pigeons'", "one of none, mpi, horovod"),
])  # fmt: skip
def test_a_model_that_cannot_be_made(made, old, new, words):
    with pytest.raises(ModelError) as caught:
        made(old, new)
    assert words in sentence(caught)


@pytest.mark.parametrize(("old", "new", "words"), [
    ("return Round(1, len(block), 0.5, 0.25, True)", "return 0.5", "failed in train: TypeError: a Round must be"),
    ("self.scale = self.scale + 1", "1 / 0", "failed in train: ZeroDivisionError"),
    ("self.scale = self.scale + 1", "raise SystemExit(1)", "failed in train: SystemExit"),
    ("self.scale = self.scale + 1", "raise ValueError('one\\ntwo')", "failed in train: ValueError: one"),
    ("self.scale = self.scale + 1", "block['ca_positions'][:] = 0", "read-only"),
    ("def train(self, block, supervisor)", "def train(self, block)", "failed in train: TypeError"),
])  # fmt: skip
def test_a_round_that_fails(made, old, new, words):
    mine = made(old, new)
    with pytest.raises(ModelError) as caught:
        mine.train(block(), model.Supervisor())
    assert words in sentence(caught)


def test_a_round_that_fails_half_way_leaves_no_trace(made):
    mine = made("return Round(1, len(block), 0.5, 0.25, True)", "self.scale[:] = 7; 1 / 0")
    before = mine.embed(block())
    with pytest.raises(ModelError, match="ZeroDivisionError"):
        mine.train(block(), model.Supervisor())
    assert np.array_equal(mine.embed(block()), before)


@pytest.mark.parametrize("losses", ["np.nan, 0.25", "0.5, np.inf"])
def test_a_round_without_finite_losses_is_not_accepted(made, losses):
    result = made("0.5, 0.25", losses).train(block(), model.Supervisor())
    assert not result.accepted
    assert result.reason == "the loss is not finite"


def test_a_round_is_given_in_numbers_that_json_holds(made):
    numbers = "np.int32(1), np.int64(len(block)), np.float32(0.5), np.array(0.25), np.bool_(True)"
    result = made("1, len(block), 0.5, 0.25, True", numbers).train(block(), model.Supervisor())
    assert json.loads(json.dumps(vars(result)))["samples"] == 4
    assert result.accepted is True


@pytest.mark.parametrize(("latents", "words"), [
    ("np.zeros((len(block), 3))", "latents of shape (4, 2) were expected (got (4, 3))"),
    ("np.zeros(len(block))", "(got (4,))"),
    ("np.full((len(block), 2), np.nan)", "its latents are not finite"),
    ("np.full((len(block), 2), 1e300)", "its latents are not finite"),
    ("[['a', 'b']] * len(block)", "failed in embed: ValueError"),
    ("block['rmsd']", "failed in embed: KeyError: 'rmsd'"),
    ("None", "(got ())"),
])  # fmt: skip
def test_latents_that_cannot_be_used(made, latents, words):
    mine = made('self.scale * block["ca_positions"][:, 0, :2]', latents)
    with pytest.raises(ModelError) as caught:
        mine.embed(block())
    assert words in sentence(caught)


@pytest.mark.parametrize(("weights", "words"), [
    ("[np.array([1.0, np.nan])]", "its weights are not finite (number 0)"),
    ("[np.ones(2), {}]", "arrays of numbers (got object for number 1)"),
    ("3", "failed in weights: TypeError"),
])  # fmt: skip
def test_weights_that_cannot_be_sent(made, weights, words):
    mine = made("[self.scale]", weights)
    with pytest.raises(ModelError) as caught:
        mine.weights()
    assert words in sentence(caught)


def test_weights_that_do_not_fit(made):
    with pytest.raises(ModelError, match="failed in load: ValueError: too many values"):
        made().load([np.ones(1), np.ones(1)])


def test_weights_are_copies_that_a_further_round_leaves_alone(made):
    mine = made("self.scale = self.scale + 1", "self.scale += 1")
    before = mine.weights()
    mine.train(block(), model.Supervisor())
    assert before[0] == 1
    arrays = [np.full(1, 7.0)]
    mine.load(arrays)
    mine.train(block(), model.Supervisor())
    assert arrays[0] == 7


def test_a_model_that_cannot_be_freed_is_left(made):
    made("def weights(self)", "def free(self):\n        1 / 0\n\n    def weights(self)").free()


def test_the_log_has_the_traceback(made, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ddmd_mpi"), "propagate", True)
    mine = made("self.scale = self.scale + 1", "1 / 0")
    with caplog.at_level(logging.INFO, "ddmd_mpi"), pytest.raises(ModelError):
        mine.train(block(), model.Supervisor())
    assert "in train\n    1 / 0" in caplog.text


def test_the_programs_own_faults_stay_its_own(made):
    """What a supervisor raises in the middle of a round is no fault of the model."""

    class Broken(model.Supervisor):
        def between_batches(self):
            raise StreamError("the stream is gone")

    mine = made("self.scale = self.scale + 1", "supervisor.between_batches()")
    with pytest.raises(StreamError):
        mine.train(block(), Broken())


def test_initial_weights_of_another_model_are_refused(made, module, tmp_path):
    model.ModelWeights(1, [np.full(1, 5.0)], {"architecture": {"kind": "last residue"}}).save(tmp_path)
    with pytest.raises(ModelError, match="kind is last residue there and first residue here"):
        create(module(SOUND) + ":Mine", initial_weights=tmp_path / "v000001")
    model.ModelWeights(2, [np.full(1, 5.0)], {"architecture": {"kind": "first residue"}}).save(tmp_path)
    mine = create(module(SOUND) + ":Mine", initial_weights=tmp_path / "v000002")
    assert mine.weights()[0] == 5
