"""The rough decoder: near the full one where it has to be, exact where the decoder is linear, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import napari_vqldm as nv
from napari_vqldm import zoo
from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import ConfigError, ShapeError
from napari_vqldm.latent import LatentSpace
from napari_vqldm.preview import coefficient_of_determination, fit_linear_decoder
from napari_vqldm.simulate import Simulator

FLOOR = {"ldm": 0.7, "vq-ldm": 0.7}  # of the variance of a held-out volume


def test_the_map_is_the_same_without_a_rating(ldm: Model) -> None:
    rated, unrated = fit_linear_decoder(ldm, 1), fit_linear_decoder(ldm, 1, rate=False)
    assert np.isfinite(rated.r2) and np.isnan(unrated.r2)
    assert torch.equal(rated.weight, unrated.weight) and torch.equal(rated.bias, unrated.bias)


def test_shape_numbers_and_determinism(model: Model) -> None:
    decoder, again = fit_linear_decoder(model, 1), fit_linear_decoder(model, 1)
    assert torch.equal(decoder.weight, again.weight) and torch.equal(decoder.bias, again.bias)
    assert decoder.r2 == again.r2
    latent = np.random.default_rng(0).normal(size=(3, 2, 5, 1)).astype(np.float32)
    volume = decoder.decode(latent)
    factor = model.space.autoencoder.downsampling_factor
    assert volume.dtype == np.float32 and volume.shape == tuple(n * f for n, f in zip((2, 5, 1), factor, strict=True))
    assert np.isfinite(volume).all() and volume.std() > 0
    assert np.array_equal(volume, decoder.decode(torch.from_numpy(latent)))


@pytest.mark.parametrize("shape", [(2, 4, 4, 4), (3, 4, 4), (1, 3, 4, 4, 4), (3, 0, 4, 4)])
def test_other_latents_are_refused(ldm: Model, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected one latent"):
        fit_linear_decoder(ldm, 1).decode(np.zeros(shape, np.float32))


def test_no_volumes_are_refused(ldm: Model) -> None:
    with pytest.raises(ConfigError, match="1 or more volumes"):
        fit_linear_decoder(ldm, 0)


def test_a_linear_decoder_is_found_exactly(ldm: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    factor = ldm.space.autoencoder.downsampling_factor
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(int(np.prod(factor)), 3, 3, 3, 3, generator=generator)

    def linear(self: LatentSpace, latent: Tensor) -> Tensor:
        blocks = F.conv3d(F.pad(latent, (1,) * 6, mode="replicate"), kernel) + 0.5
        z, y, x = factor
        batch, _, d, h, w = blocks.shape
        parts = blocks.view(batch, z, y, x, d, h, w).permute(0, 4, 1, 5, 2, 6, 3)
        return parts.reshape(batch, 1, d * z, h * y, w * x)

    monkeypatch.setattr(LatentSpace, "decode", linear)
    decoder = fit_linear_decoder(ldm, 4)
    assert decoder.r2 > 0.999
    latent = torch.randn(3, 4, 5, 6, generator=generator)
    with torch.no_grad():
        whole = linear(ldm.space, latent[None])[0, 0].numpy()
    assert coefficient_of_determination(whole, decoder.decode(latent)) > 0.999


def test_how_good_a_guess_is() -> None:
    truth = np.array([0.0, 1.0, 2.0], np.float32)
    assert coefficient_of_determination(truth, truth) == 1.0
    assert coefficient_of_determination(truth, np.full(3, 1.0)) == 0.0
    assert np.isnan(coefficient_of_determination(np.ones(3), truth))


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.NAMES)
def test_bundled_models_are_seen_roughly(name: str) -> None:
    """Better than the best channel, repeated over the voxels of its cell and fitted to the very volume."""
    model = nv.load(name)
    decoder = fit_linear_decoder(model, 1)
    assert model.config.simulation is not None
    noisy = Simulator(model.config.simulation.model_copy(update={"shape": (16, 64, 64)})).sample(7, [0]).noisy
    assert noisy is not None
    with torch.no_grad():
        latent = model.space.encode(noisy)
        full = model.space.decode(latent)[0, 0].numpy()
    repeated = latent[0].numpy()
    for axis, factor in enumerate(model.space.autoencoder.downsampling_factor):
        repeated = repeated.repeat(factor, axis + 1)
    best = max(np.corrcoef(channel.ravel(), full.ravel())[0, 1] ** 2 for channel in repeated)
    found = coefficient_of_determination(full, decoder.decode(latent[0]))
    assert min(found, decoder.r2) > FLOOR[name]
    assert found > best + 0.2
