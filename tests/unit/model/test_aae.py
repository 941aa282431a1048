"""The adversarial autoencoder: its layers, its losses against NumPy, its rounds, and its latents."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from watch import Watch

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import ModelError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model import aae as module
from ddmd_mpi.model import torch_backend
from ddmd_mpi.model.point_clouds import chamfer, nearest

N_RESIDUES, N_LATENT = 28, 16
SMALL = {"model": "aae", "latent_dimensions": N_LATENT, "batch_size": 16, "epochs": 3}


def make(seed: int = 1, n_residues: int = N_RESIDUES, **changes):
    return model.create(model.Setup(TrainingSection(**{**SMALL, **changes}), n_residues, seed))


def is_stretched(n_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n_frames) < 0.5


def chain_block(n_frames: int, n_residues: int = N_RESIDUES, seed: int = 0) -> FrameBlock:
    """Chains that are compact or stretched (:func:`is_stretched`), turned at random."""
    generator = np.random.default_rng(seed)
    drift = np.where(generator.random(n_frames) < 0.5, 0.3, 0.0)
    steps = 0.15 * generator.normal(size=(n_frames, n_residues, 3)) + drift[:, None, None] * np.array([0.0, 0.0, 1.0])
    turns = np.linalg.qr(generator.normal(size=(n_frames, 3, 3)))[0]
    chains = np.cumsum(steps, axis=1) @ turns
    return features(chains, 8.0)


@pytest.fixture(scope="module")
def trained():
    """A model after one round on 200 frames, and the round."""
    aae = make(epochs=20, patience=20)
    return aae, aae.train(chain_block(200), Watch())


def linear_layers(network) -> list[tuple[int, int]]:
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    return [(layer.in_features, layer.out_features) for layer in layers]


def test_the_layers_are_the_published_ones():
    aae = model.create(model.Setup(TrainingSection(model="aae"), 3375, 1))
    convolutions = [layer for layer in aae._encoder.modules() if isinstance(layer, torch.nn.Conv1d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        (3, 64),
        (64, 128),
        (128, 256),
        (256, 256),
        (256, 512),
    ]
    assert [(*c.kernel_size, *c.stride, *c.padding) for c in convolutions] == [
        (5, 1, 0),
        (5, 1, 0),
        (3, 1, 0),
        (1, 1, 0),
        (1, 1, 0),
    ]
    assert linear_layers(aae._encoder) == [(512, 256), (256, 64), (256, 64)]
    assert linear_layers(aae._generator) == [(64, 64), (64, 128), (128, 512), (512, 1024), (1024, 3 * 3375)]
    assert linear_layers(aae._critic) == [(64, 512), (512, 512), (512, 128), (128, 64), (64, 1)]
    counts = [sum(p.numel() for p in n.parameters()) for n in (aae._encoder, aae._generator, aae._critic)]
    assert counts == [
        (3 * 5 + 1) * 64 + (64 * 5 + 1) * 128 + (128 * 3 + 1) * 256 + 257 * 256 + 257 * 512 + 513 * 256 + 2 * 257 * 64,
        65 * 64 + 65 * 128 + 129 * 512 + 513 * 1024 + 1025 * 3 * 3375,
        65 * 512 + 513 * 512 + 513 * 128 + 129 * 64 + 65,
    ]
    assert sum(a.size for a in aae.weights()[:-1]) == sum(counts)
    assert aae.weights()[-1].shape == (3375, 3)
    assert aae._autoencoder_adam.rate == aae._critic_adam.rate == 1e-4


def test_the_architecture_holds_every_number_that_weights_depend_on():
    first, second = (model.create(model.Setup(TrainingSection(model="aae"), n, 1)) for n in (28, 10))
    assert first.architecture == {
        "model": "aae",
        "n_residues": 28,
        "latent_dimensions": 64,
        "filters": (64, 128, 256, 256, 512),
        "kernels": (5, 5, 3, 1, 1),
        "encoder_units": 256,
        "generator_units": (64, 128, 512, 1024),
        "critic_units": (512, 512, 128, 64),
    }
    assert first.architecture != second.architecture


@pytest.mark.parametrize("n_residues", [1, 10, 11, 12])
def test_chains_shorter_than_the_convolutions_are_embedded(n_residues):
    aae = make(n_residues=n_residues)
    assert aae._shape.field == 11
    clouds = torch.randn(2, n_residues, 3, generator=torch.Generator().manual_seed(0))
    seen = [0, 0]
    aae._encoder.convolutions.register_forward_hook(lambda _, given, got: seen.__setitem__(0, (given[0], got)))
    assert aae._encoder(clouds)[0].shape == (2, N_LATENT)
    given, got = seen[0]
    assert given.shape[2] == max(11, n_residues)
    assert got.shape[2] == max(1, n_residues - 10)
    first = (11 - n_residues) // 2 if n_residues < 11 else 0
    assert torch.equal(given[:, :, first : first + n_residues], clouds.transpose(1, 2))
    assert torch.equal(given[:, :, 0], clouds[:, 0])
    assert torch.equal(given[:, :, -1], clouds[:, -1])


def test_chamfer_distance_and_its_gradient_are_those_of_brute_force():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 5, 40, 3))
    distances = [cdist(a, b, "sqeuclidean") for a, b in zip(x, y, strict=True)]
    expected = [d.min(axis=0).sum() + d.min(axis=1).sum() for d in distances]
    clouds, others = torch.tensor(x), torch.tensor(y, requires_grad=True)
    found = chamfer(clouds, others)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-9)
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    (found @ weights).backward()
    for frame, d in enumerate(distances):
        slope = 2 * (y[frame] - x[frame][d.argmin(axis=0)])
        np.add.at(slope, d.argmin(axis=1), 2 * (y[frame][d.argmin(axis=1)] - x[frame]))
        np.testing.assert_allclose(others.grad[frame].numpy(), weights[frame].item() * slope, atol=1e-9)
    assert not others.grad[1].any()
    for limit in (1, 2 * 40 * 40, 10**9):
        for few, all_ in zip(nearest(clouds, others, limit), nearest(clouds, others), strict=True):
            assert torch.equal(few, all_)


def test_penalty_of_a_linear_critic_is_that_of_its_slope():
    aae, slope = make(), torch.tensor([[3.0, 0.0, 4.0]])
    aae._critic = torch.nn.Linear(3, 1)
    aae._critic.weight.data, aae._critic.bias.data = slope, torch.tensor([7.0])
    noise = module.draw([0], 6, 3)
    codes = torch.ones(6, 3)
    expected = (codes - noise.prior) @ slope[0] + 10 * (5 - 1) ** 2
    np.testing.assert_allclose(aae._critic_losses(codes, noise).detach(), expected, rtol=1e-5)
    (gradient,) = torch.autograd.grad(aae._critic_losses(codes, noise).sum(), aae._critic.weight)
    expected = (codes - noise.prior).sum(dim=0) + 6 * 10 * 2 * (5 - 1) * slope[0] / 5
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-5)


def test_penalty_is_taken_between_code_and_prior():
    aae, seen = make(), []
    aae._critic.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    noise = module.draw([0], 4, N_LATENT)._replace(between=torch.tensor([[0.0], [1.0], [0.5], [0.25]]))
    codes = torch.full((4, N_LATENT), 10.0)
    aae._critic_losses(codes, noise)
    expected = noise.prior * torch.tensor([[1.0], [0.0], [0.5], [0.75]]) + torch.tensor([[0.0], [10.0], [5.0], [2.5]])
    np.testing.assert_allclose(seen[0], expected, rtol=1e-5)


def test_adam_is_that_of_pytorch():
    ours, theirs = ([torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)] for _ in range(2))
    for networks in (ours, theirs):
        torch_backend.initialise(networks, 4)
    adam = torch_backend.Adam(ours, 1e-2)
    reference = torch.optim.Adam([p for network in theirs for p in network.parameters()], 1e-2)
    for step in range(5):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        adam.step(adam.gradient((ours[1](ours[0](x).relu()) ** 2).mean()))
        reference.zero_grad()
        (theirs[1](theirs[0](x).relu()) ** 2).mean().backward()
        reference.step()
    for mine, its in zip(adam.weights(), reference.param_groups[0]["params"], strict=True):
        np.testing.assert_allclose(mine, its.detach(), rtol=1e-5, atol=1e-7)


def test_a_step_moves_the_critic_first_and_then_the_autoencoder_against_it():
    aae, block, noise = make(), chain_block(16), module.draw([5], 16, N_LATENT)
    clouds, weights = aae._nm(block["ca_positions"]), torch.ones(16)
    twin = make()
    codes = twin._codes(clouds, noise)
    twin._critic_adam.step(twin._critic_adam.gradient(twin._critic_losses(codes.detach(), noise).mean()))
    reconstruction, adversarial = twin._autoencoder_losses(clouds, codes)
    loss = 0.5 * reconstruction.mean() + adversarial.mean()
    twin._autoencoder_adam.step(twin._autoencoder_adam.gradient(loss))
    losses, stopped = aae._train(clouds, weights, noise, stop=False)
    assert not stopped
    np.testing.assert_allclose(losses[:2], [reconstruction.sum().item(), adversarial.sum().item()], rtol=1e-5)
    for mine, its in zip(aae.weights(), twin.weights(), strict=True):
        np.testing.assert_allclose(mine, its, atol=2e-6)
    for mine, its in zip(aae.state()[-6:], twin.state()[-6:], strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-3 * np.abs(its).max())


def test_the_loss_is_the_reconstruction_in_nm2_per_frame(trained):
    aae, _ = trained
    batch, weights = chain_block(6)["ca_positions"], np.array([1, 1, 0, 1, 0, 0], np.float32)
    loss, adversarial, _ = aae.test_batch(batch, weights)
    with torch.no_grad():
        codes = aae._codes(torch.from_numpy(batch * np.float32(1e-3)), aae._noise(6))
        made, marks = aae._generator(codes).numpy(), aae._critic(codes).numpy()
    distances = [cdist(a * 1e-3, b, "sqeuclidean") for a, b in zip(batch, made, strict=True)]
    expected = [d.min(axis=0).sum() + d.min(axis=1).sum() for d in distances]
    assert loss == pytest.approx(weights @ expected, rel=1e-4)
    assert adversarial == pytest.approx(-weights @ marks[:, 0], rel=1e-4)


def test_frames_of_weight_zero_do_not_count():
    batch = chain_block(16)["ca_positions"].copy()
    weights = (np.arange(16) < 10).astype(np.float32)
    other = batch.copy()
    other[10:] = 3 * other[10:][::-1] + 5
    results = []
    for frames in (batch, other):
        aae = make()
        results.append([aae.test_batch(frames, weights), aae.train_batch(frames, weights, False)[0], *aae.weights()])
    for mine, its in zip(*results, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-6)
    assert not np.allclose(make().test_batch(other, np.ones(16, np.float32)), results[0][0])


def test_a_round_learns(trained):
    _, result = trained
    first, last = result.history[0], result.history[-1]
    assert last.training.loss < 0.5 * first.training.loss
    assert last.validation.loss < 0.5 * first.validation.loss
    assert set(last.training.terms) == {"adversarial", "critic"}
    assert (result.epochs, result.samples, result.accepted, result.stopped) == (20, 20 * 160, True, False)
    assert result.validation_loss == min(epoch.validation.loss for epoch in result.history)


def test_compact_and_stretched_chains_lie_apart_in_the_latents(trained):
    """A plane fitted to the latents of half of the frames parts those of the other half."""
    aae, _ = trained
    latents = np.column_stack([aae.embed(chain_block(400, seed=7)), np.ones(400)])
    side = np.where(is_stretched(400, seed=7), 1.0, -1.0)
    plane = np.linalg.lstsq(latents[:200], side[:200], rcond=None)[0]
    assert (np.sign(latents[200:] @ plane) == side[200:]).mean() > 0.9


def test_the_same_seed_gives_the_same_round_and_another_seed_another():
    results, latents, first = [], [], []
    for seed in (5, 5, 6):
        aae = make(seed, epochs=1)
        first.append(aae.weights()[0])
        results.append(aae.train(chain_block(40), Watch()).validation_loss)
        latents.append(aae.embed(chain_block(5)))
    assert results[0] == results[1] != results[2]
    assert np.array_equal(latents[0], latents[1])
    assert np.array_equal(first[0], first[1])
    assert not np.array_equal(first[1], first[2])


def test_making_and_training_leaves_the_global_random_numbers_alone():
    before = torch.random.get_rng_state()
    make(epochs=1).train(chain_block(20), Watch())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_loss_that_is_not_finite_leaves_the_model_as_it_was():
    aae = make(learning_rate=1e25)
    before = aae.state()
    result = aae.train(chain_block(64), Watch())
    assert not result.accepted
    assert "learning_rate" in result.reason
    for old, new in zip(before, aae.state(), strict=True):
        assert np.array_equal(old, new)


def test_a_round_stops_between_batches():
    aae, watch = make(epochs=50, patience=50), Watch(2)
    first = aae.weights()
    result = aae.train(chain_block(40), watch)
    assert (watch.left, result.epochs, result.stopped, result.accepted) == (0, 0, True, False)
    assert all(np.array_equal(a, b) for a, b in zip(first, aae.weights(), strict=True))


def test_latents_depend_on_frame_and_weights_alone(trained):
    aae, _ = trained
    block = chain_block(300, seed=3)
    latents = aae.embed(block)
    assert latents.shape == (300, N_LATENT)
    assert latents.dtype == np.float32
    assert np.array_equal(aae.embed(block), latents)
    picked = np.array([299, 5, 17])
    assert np.array_equal(aae.embed(block.take(picked)), latents[picked])
    assert aae.embed(block.take(np.array([], int))).shape == (0, N_LATENT)
    with torch.no_grad():
        mean, _ = aae._encoder(torch.from_numpy(aae.samples(block).batch(np.arange(4)) * np.float32(1e-3)))
    np.testing.assert_allclose(latents[:4], mean, rtol=1e-5, atol=1e-5)
    other = make(seed=9)
    assert not np.allclose(other.embed(block), latents)
    other.load(aae.weights())
    assert np.array_equal(other.embed(block), latents)


def test_a_molecule_that_has_turned_has_the_same_latents(trained):
    aae, _ = trained
    block = chain_block(20, seed=4)
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = FrameBlock({**block.columns, "ca_positions": (block["ca_positions"] @ turn).astype(np.int16)})
    mirrored = FrameBlock({**block.columns, "ca_positions": -block["ca_positions"]})
    latents, spread = aae.embed(block), aae.embed(block).std()
    np.testing.assert_allclose(aae.embed(turned), latents, rtol=0, atol=0.05 * spread)
    assert abs(aae.embed(mirrored) - latents).max() > 0.5 * spread


def test_the_reference_is_chosen_once_and_goes_with_the_weights():
    aae, other, first = make(epochs=1), make(seed=2), chain_block(20)
    assert not aae.weights()[-1].any()
    for block in (first, chain_block(20, seed=1)):
        aae.train(block, Watch())
        assert np.array_equal(aae.weights()[-1], first["ca_positions"][0])
    other.load(aae.weights())
    assert np.array_equal(other.embed(first), aae.embed(first))
    other.load(make().weights())
    assert np.array_equal(other.weights()[-1], first["ca_positions"][0])


def test_a_restored_state_goes_on_with_the_same_bits(trained):
    batch, weights = chain_block(16)["ca_positions"], np.ones(16, np.float32)
    aae = make()
    aae.train_batch(batch, weights, False)
    state = aae.state()
    assert [(a.shape, a.dtype) for a in state] == [(a.shape, a.dtype) for a in make().state()]
    after = [aae.train_batch(batch, weights, False)[0] for _ in range(2)]
    other = make()
    other.restore(state)
    assert all(np.array_equal(other.train_batch(batch, weights, False)[0], losses) for losses in after)
    assert all(np.array_equal(a, b) for a, b in zip(aae.state(), other.state(), strict=True))
    other.load(aae.weights())
    other.train_batch(batch, weights, False)
    assert not np.array_equal(other.state()[0], state[0])


def test_weights_of_another_architecture_are_refused(trained):
    aae, _ = trained
    for other in (make(latent_dimensions=4), make(n_residues=27)):
        with pytest.raises(ModelError, match="architecture"):
            aae.load(other.weights())
    with pytest.raises(ModelError, match="architecture"):
        aae.load(aae.weights()[:-1])
    with pytest.raises(ModelError, match="architecture"):
        aae.restore(aae.weights())


def test_a_round_may_begin_with_the_first_weights_again():
    results = []
    for block in (chain_block(40), chain_block(40, seed=1)):
        aae = make(reinitialize=True, epochs=1)
        first = aae.state()
        aae.train(block, Watch())
        assert all(np.array_equal(a, b) for a, b in zip(first, aae._initial, strict=True))
        aae._rounds = 0
        aae.train(chain_block(40), Watch())
        results.append(aae.weights())
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_bfloat16_is_used_when_asked_for_and_latents_stay_float32(trained):
    aae, _ = trained
    batch, weights = chain_block(4)["ca_positions"], np.ones(4, np.float32)
    mixed = make(mixed_precision=True)
    mixed.restore(aae.state())
    kinds = []
    mixed._generator[0].register_forward_hook(lambda *_: kinds.append(_[2].dtype))
    close, exact = mixed.test_batch(batch, weights), aae.test_batch(batch, weights)
    assert kinds == [torch.bfloat16]
    assert not np.array_equal(close, exact)
    np.testing.assert_allclose(close[0], exact[0], rtol=0.1)
    assert np.isfinite(mixed.train_batch(batch, weights, False)[0]).all()


def test_a_gpu_that_pytorch_cannot_use_is_done_without(caplog):
    assert torch_backend.start(1, 0, module.log) == torch.device("cpu" if not torch.cuda.is_available() else "cuda:0")
    assert ("cannot use it" in caplog.text) != torch.cuda.is_available()


def test_tensorflow_is_not_loaded():
    code = (
        "import sys; from ddmd_mpi import model; from ddmd_mpi.config.schema import TrainingSection;"
        "model.create(model.Setup(TrainingSection(model='aae'), 28));"
        "print([m for m in ('tensorflow', 'keras', 'sklearn') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
