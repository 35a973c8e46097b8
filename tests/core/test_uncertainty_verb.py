"""Spread of reconstructions: planted noise comes back, draws are functions of seed and number, both families."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

import napari_vqldm as nv
from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import ConfigError, VolumeError
from napari_vqldm.intensity import estimate_intensity
from napari_vqldm.metrics.noise import estimate_noise
from napari_vqldm.metrics.uncertainty import voxel_spread
from napari_vqldm.reconstruct import ReconstructionStep, reconstruct
from napari_vqldm.uncertainty import draw_noise, uncertainty, uncertainty_steps
from napari_vqldm.volume import Volume, hash_voxels


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a network that returns its input."""

    def steps(model: Model, volume: Volume, **coding: Any) -> Iterator[ReconstructionStep]:
        yield ReconstructionStep(0, 2, "encode")
        yield ReconstructionStep(1, 2, "decode", volume=volume)

    monkeypatch.setattr(sys.modules[uncertainty.__module__], "reconstruct_steps", steps)


@pytest.mark.usefixtures("identity")
def test_a_network_that_copies_shows_the_planted_noise(ldm: Model) -> None:
    rng = np.random.default_rng(1)
    expected = np.full((12, 48, 48), 100.0)
    expected[:, :, 24:] = 400.0
    expected = gaussian_filter1d(expected, 3.0)
    noisy = Volume(rng.poisson(expected) + rng.normal(0.0, 3.0, expected.shape), (0.2, 0.1, 0.1))
    found = uncertainty(ldm, noisy, draws=60).data.astype(np.float64)
    for side, level in ((np.s_[:, :, :15], 100.0), (np.s_[:, :, 33:], 400.0)):
        planted = np.sqrt(level + 9.0)
        assert np.sqrt(np.mean(found[side] ** 2)) == pytest.approx(planted, rel=0.05)
    mean = uncertainty(ldm, noisy, draws=60, statistic="mean")
    assert np.abs(mean.data - noisy.data).mean() < 0.2 * np.sqrt(100.0)


def test_the_map_is_the_spread_of_reconstructions_of_noisier_stacks(model: Model, stack: Volume) -> None:
    found = uncertainty(model, stack, draws=3, seed=5)
    noise, held = estimate_noise(stack.data), estimate_intensity(stack.data)
    draws = [reconstruct(model, draw_noise(stack, noise, 5, i), intensity=held).data for i in range(3)]
    assert np.array_equal(found.data, voxel_spread(draws).standard_deviation)
    assert found.data.any() and found.shape == stack.shape and found.voxel_size_um == stack.voxel_size_um


def test_draws_are_functions_of_seed_and_number(stack: Volume) -> None:
    noise = estimate_noise(stack.data)
    first = draw_noise(stack, noise, 2, 1).data
    assert np.array_equal(first, draw_noise(stack, noise, 2, 1).data)
    for seed, draw in ((2, 0), (1, 1)):
        assert not np.array_equal(first, draw_noise(stack, noise, seed, draw).data)


@pytest.mark.parametrize("kind", ["noise", "posterior"])
def test_steps_count_to_their_end_and_carry_the_result(ldm: Model, stack: Volume, kind: Any) -> None:
    steps = list(uncertainty_steps(ldm, stack, 4, kind=kind, max_voxels=2**15))
    assert [step.index for step in steps] == list(range(len(steps)))
    assert steps[-1].total == len(steps) and len(steps) > 4
    assert [step.result is not None for step in steps] == [False] * (len(steps) - 1) + [True]
    assert sorted({step.draw for step in steps}) == [0, 1, 2, 3]
    result = steps[-1].result
    assert result is not None and result.num_draws == 4
    again = uncertainty(ldm, stack, 4, kind=kind, max_voxels=2**15)
    mean = uncertainty(ldm, stack, 4, kind=kind, max_voxels=2**15, statistic="mean")
    assert np.array_equal(result.standard_deviation.data, again.data)
    assert np.array_equal(result.mean.data, mean.data)
    assert mean.provenance["request"]["statistic"] == "mean"


def test_the_posterior_is_that_of_the_encoder(ldm: Model, stack: Volume) -> None:
    """Without its spread every draw decodes to the reconstruction; with it, draws differ and the seed decides how."""
    found = uncertainty(ldm, stack, 3, kind="posterior")
    assert found.data.max() > 0
    other = uncertainty(ldm, stack, 3, seed=1, kind="posterior")
    assert not np.array_equal(found.data, other.data)
    mean = uncertainty(ldm, stack, 24, kind="posterior", statistic="mean").data
    deviation = uncertainty(ldm, stack, 24, kind="posterior").data
    away = np.abs(mean - reconstruct(ldm, stack).data)
    assert np.median(away / np.maximum(deviation, 1e-6)) < 1.0


def test_no_spread_in_the_posterior_is_no_spread_in_the_map(
    ldm: Model, stack: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(ldm.space), "posterior_deviation", lambda self, encoding: 0.0 * self.normalize(encoding.mean)
    )
    found = uncertainty(ldm, stack, 3, kind="posterior")
    assert not found.data.any()
    mean = uncertainty(ldm, stack, 3, kind="posterior", statistic="mean")
    assert np.array_equal(mean.data, reconstruct(ldm, stack).data)


def test_the_posterior_deviation_is_in_the_standardised_space(ldm: Model) -> None:
    volumes = torch.rand(1, 1, *ldm.config.window, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        encoding = ldm.space.autoencoder.encode(volumes)
        deviation = ldm.space.posterior_deviation(encoding)
        noise = torch.randn(encoding.mean.shape, generator=torch.Generator().manual_seed(1))
        drawn = ldm.space.latent_of(encoding, noise)
        assert deviation is not None
        torch.testing.assert_close(ldm.space.latent_of(encoding) + deviation * noise, drawn)


def test_closing_the_steps_cancels(model: Model, stack: Volume) -> None:
    steps = uncertainty_steps(model, stack, 50)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert next(steps, None) is None


def test_the_record_holds_what_is_needed_to_do_it_again(model: Model, stack: Volume) -> None:
    found = uncertainty(model, stack, 2, seed=9)
    request = found.provenance["request"]
    assert found.provenance["verb"] == "uncertainty" and found.name == "stack-uncertainty"
    assert request["source_sha256"] == hash_voxels(stack) and request["weights_sha256"] == model.weights_sha256
    wanted = {name: request[name] for name in ("draws", "seed", "kind", "statistic", "max_voxels")}
    assert np.array_equal(nv.uncertainty(model, stack, **wanted).data, found.data)


def test_the_intensity_is_held(ldm: Model, stack: Volume) -> None:
    held = estimate_intensity(stack.data)
    doubled = dataclasses.replace(held, scale=2 * held.scale)
    plain = uncertainty(ldm, stack, 2)
    assert np.array_equal(plain.data, uncertainty(ldm, stack, 2, intensity=held).data)
    assert not np.array_equal(plain.data, uncertainty(ldm, stack, 2, intensity=doubled).data)


def test_impossible_requests_are_refused(ldm: Model, vq_ldm: Model, stack: Volume) -> None:
    with pytest.raises(ConfigError, match="2 draws or more, got 1"):
        uncertainty_steps(ldm, stack, 1)
    with pytest.raises(ConfigError, match="no posterior"):
        uncertainty_steps(vq_ldm, stack, kind="posterior")
    with pytest.raises(ConfigError, match="noise or posterior"):
        uncertainty_steps(ldm, stack, kind="guess")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seed"):
        uncertainty_steps(ldm, stack, seed=-1)
    with pytest.raises(ConfigError, match="statistic"):
        uncertainty(ldm, stack, statistic="median")  # type: ignore[arg-type]
    smooth = stack.with_data(np.broadcast_to(np.linspace(0, 1, 42), stack.shape))
    with pytest.raises(VolumeError, match="no noise to draw again"):
        uncertainty_steps(ldm, smooth)
