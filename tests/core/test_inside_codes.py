"""Code maps: every cell has its code and lies where its voxels lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.planted_model import planted_model, planted_volume

from napari_vqldm.checkpoint import Model
from napari_vqldm.codebook import codebook_usage
from napari_vqldm.errors import CheckpointError
from napari_vqldm.inside.cells import cell_geometry, padded_cells
from napari_vqldm.inside.codes import channel_images, code_map, code_map_steps
from napari_vqldm.inside.quantization import quantization_error
from napari_vqldm.inside.table import places
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.reconstruct import encode
from napari_vqldm.tiles import Padding
from napari_vqldm.volume import Float3, Int3, Volume

UNITS = IntensityScale(0.0, 1.0)


@pytest.fixture
def planted(vq_ldm: Model) -> Model:
    return planted_model(vq_ldm)


def test_planted_codes_come_back_each_in_its_place(planted: Model) -> None:
    codes = np.zeros((3, 4, 5), np.int32)
    codes[1, 2, 3], codes[2, 0, 4] = 5, 7
    factor = planted.space.autoencoder.downsampling_factor
    found = code_map(planted, planted_volume(codes, factor), intensity=UNITS)
    assert np.array_equal(found.codes, codes) and found.codes.dtype == np.int32
    assert places(found.codes, 7).tolist() == [[2, 0, 4]]
    assert found.is_filament[1, 2, 3] and found.is_filament[2, 0, 4] and found.is_filament.sum() == 2
    assert found.usage.filament.counts.tolist() == [0, 0, 0, 0, 0, 1, 0, 1]
    assert found.usage.background.counts[0] == codes.size - 2
    assert not found.is_padded.any()


def test_the_first_cell_lies_in_the_middle_of_its_voxels(vq_ldm: Model, stack: Volume) -> None:
    stack = replace(stack, voxel_size_um=(0.2, 0.1, 0.1))
    found = code_map(vq_ldm, stack)
    factor = vq_ldm.space.autoencoder.downsampling_factor
    assert factor == (2, 4, 4)
    assert found.cell_size_um == pytest.approx((0.4, 0.4, 0.4))
    assert found.translate_um == pytest.approx((0.1, 0.15, 0.15))  # means of the centres of 2, 4, 4 voxels
    assert found.codes.shape == (5, 10, 11)
    expected = np.zeros((5, 10, 11), bool)
    expected[4], expected[:, 9], expected[:, :, 10] = True, True, True  # 9, 37, 42 voxels: one side of each is short
    assert np.array_equal(found.is_padded, expected)


def test_padding_before_the_stack_moves_the_first_cell(vq_ldm: Model, stack: Volume) -> None:
    latent = encode(vq_ldm, replace(stack, voxel_size_um=(0.2, 0.1, 0.1)))
    shifted = replace(latent, padding=Padding((1, 3, 0), (0, 0, 2)))
    _, translate = cell_geometry(shifted, (2, 4, 4))
    assert translate == pytest.approx((0.1 - 0.2, 0.15 - 0.3, 0.15))
    padded = padded_cells(shifted, (2, 4, 4))
    assert padded[0].all() and padded[:, 0].all() and padded[:, :, -1].all() and not padded[1:, 1:, :-1].any()


@pytest.mark.parametrize(
    "shape, voxel_size_um, bead_um",
    [
        ((16, 40, 40), (0.2, 0.1, 0.1), (1.5, 1.9, 2.03)),
        ((13, 37, 42), (0.2, 0.1, 0.1), (1.3, 1.73, 2.2)),
        ((15, 33, 61), (0.3, 0.13, 0.07), (2.1, 2.2, 1.6)),  # resampled on every axis, and padded
    ],
)
def test_a_bead_lies_where_its_cells_lie(planted: Model, shape: Int3, voxel_size_um: Float3, bead_um: Float3) -> None:
    axes = [np.arange(n) * s for n, s in zip(shape, voxel_size_um, strict=True)]  # from the first voxel's centre
    z, y, x = (np.exp(-(((a - c) / 0.35) ** 2) / 2) for a, c in zip(axes, bead_um, strict=True))
    bead = Volume((z[:, None, None] * y[:, None] * x).astype(np.float32), voxel_size_um)
    found = quantization_error(planted, bead, intensity=UNITS)
    weight = found.unquantized[0]  # the mean of every cell
    for axis, centre in enumerate(bead_um):
        profile = weight.sum(axis=tuple(a for a in range(3) if a != axis))
        where = found.distance.translate_um[axis] + np.arange(len(profile)) * found.distance.cell_size_um[axis]
        assert float((profile * where).sum() / profile.sum()) == pytest.approx(centre, abs=0.02)


def test_usage_is_what_the_verb_counts_and_steps_end_with_the_map(vq_ldm: Model, stack: Volume) -> None:
    # Long enough for a few tiles: the receptive field alone is larger than the stack.
    wide = stack.with_data(np.concatenate([stack.data, stack.data[:, :, ::-1], stack.data[:, :, :10]], axis=2))
    steps = list(code_map_steps(vq_ldm, wide, max_voxels=36_000))
    assert len(steps) == steps[-1].total > 2
    assert [step.index for step in steps] == list(range(len(steps)))
    assert all(step.result is None for step in steps[:-1])
    result = steps[-1].result
    assert result is not None
    counted = codebook_usage(vq_ldm, [wide])
    assert np.array_equal(result.usage.filament.counts, counted.filament.counts)
    assert np.array_equal(result.usage.background.counts, counted.background.counts)


def test_channels_are_images_over_the_stack(model: Model, stack: Volume) -> None:
    latent = encode(model, stack)
    images = channel_images(model, latent)
    assert len(images) == 3 and images[1].name == "channel 1"
    assert images[0].data.shape == latent.grid and images[0].cell_size_um == cell_geometry(latent, (2, 4, 4))[0]
    if latent.latent is not None:
        assert np.array_equal(images[2].data, latent.latent[2])


def test_a_model_without_codes_is_refused(ldm: Model, stack: Volume) -> None:
    with pytest.raises(CheckpointError, match="no codebook"):
        code_map_steps(ldm, stack)
