"""Codes without a table: points of a fixed grid are counted, mapped and painted as learned ones are, and named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.planted_model import CODES, STEP, planted_model, planted_volume
from torch import Tensor, nn

from napari_vqldm.checkpoint import Model
from napari_vqldm.config import QuantizerConfig
from napari_vqldm.inside.atoms import atom
from napari_vqldm.inside.codes import CodeMap, code_map
from napari_vqldm.inside.quantization import quantization_error
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.latent import LatentSpace
from napari_vqldm.quantizers import CodebookQuantizer


class Grid(CodebookQuantizer):
    """Finite scalar quantization (Mentzer et al. 2023, arXiv:2309.15505): each channel is rounded by itself.

    The first channel has 8 levels, the second one 3; the last channel counts slowest.
    """

    is_implicit = True
    levels = ((CODES, STEP), (3, 0.5))

    def __init__(self) -> None:
        super().__init__(QuantizerConfig(codebook_size=3 * CODES), 2)
        del self.codebook
        first, second = (step * torch.arange(float(count)) for count, step in self.levels)
        points = torch.stack([first.repeat(3), second.repeat_interleave(CODES)], dim=1)
        self.codebook = nn.Buffer(points, persistent=False)

    @torch.no_grad()
    def nearest(self, latent: Tensor) -> Tensor:
        first, second = (
            (latent[:, channel] / step).round().clamp(0, count - 1).long()
            for channel, (count, step) in enumerate(self.levels)
        )
        return first + CODES * second


@pytest.fixture
def gridded(vq_ldm: Model) -> Model:
    model = planted_model(vq_ldm)
    autoencoder = model.space.autoencoder
    autoencoder.quantizer = Grid()
    return replace(model, space=LatentSpace.unit(autoencoder).eval().requires_grad_(False))


@pytest.fixture
def codes() -> np.ndarray:
    codes = np.random.default_rng(0).integers(0, CODES, (4, 7, 6)).astype(np.int32)
    codes[np.random.default_rng(1).random(codes.shape) < 0.6] = 0
    return codes


@pytest.fixture
def found(gridded: Model, codes: np.ndarray) -> CodeMap:
    factor = gridded.space.autoencoder.downsampling_factor
    return code_map(gridded, planted_volume(codes, factor), intensity=IntensityScale(0.0, 1.0))


def test_points_of_the_grid_are_mapped_and_counted(gridded: Model, codes: np.ndarray, found: CodeMap) -> None:
    assert gridded.space.quantizer.is_implicit
    assert np.array_equal(found.codes, codes)
    counts = found.usage.everywhere.counts
    assert counts.tolist() == np.bincount(codes.ravel(), minlength=3 * CODES).tolist()
    assert found.usage.everywhere.dead_codes == 2 * CODES + np.count_nonzero(counts[:CODES] == 0)


def test_a_point_paints_its_kernel(gridded: Model, found: CodeMap) -> None:
    painted = atom(gridded, 6, [found])
    kernel = gridded.space.autoencoder.kernel  # type: ignore[attr-defined]
    vectors = gridded.space.quantizer.codebook
    expected = torch.einsum("c,czyx->zyx", vectors[6] - vectors[0], kernel[:, 0])
    assert np.allclose(painted.volume.data, expected.numpy(), atol=1e-5) and painted.background_code == 0


def test_the_error_is_the_distance_to_the_grid(gridded: Model, codes: np.ndarray) -> None:
    factor = gridded.space.autoencoder.downsampling_factor
    volume = planted_volume(codes, factor)
    shifted = volume.with_data(volume.data + np.float32(0.2 * STEP))
    error = quantization_error(gridded, shifted, intensity=IntensityScale(0.0, 1.0))
    assert np.allclose(error.distance.data, 0.2 * STEP / 2**0.5, atol=1e-6)  # of two channels, root mean square
