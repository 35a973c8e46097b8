"""Foreground fidelity: the tube is where the lines are, and only errors in it count."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import cKDTree

from napari_vqldm.config import SimulationConfig
from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.fidelity import blank_baseline, psnr_unit_range
from napari_vqldm.metrics.foreground import foreground_psnr_unit_range, tube_mask
from napari_vqldm.simulate import Simulator

VOXEL = (0.2, 0.1, 0.1)
SHAPE = (12, 24, 32)


def straight_line():
    """Through the centres of voxels (5, 8, 4..20)."""
    return np.array([[5.5, 8.5, 4.5], [5.5, 8.5, 20.5]]) * VOXEL


def test_tube_of_a_line_through_voxel_centres_is_three_by_three_voxels():
    mask = tube_mask([straight_line()], SHAPE, VOXEL)
    expected = np.zeros(SHAPE, bool)
    expected[4:7, 7:10, 4:21] = True  # diagonal neighbours are 1.41 voxels away
    expected[5, 7:10, [3, 21]] = expected[4:7, 8, [3, 21]] = True  # round caps: 1 and 1.41 voxels from the end
    np.testing.assert_array_equal(mask, expected)


def test_tube_of_a_curve_holds_the_voxels_near_it():
    s = np.linspace(0, 1, 60)
    curve = np.stack([0.3 + 1.8 * s, 1.2 + 0.8 * np.sin(5 * s), -0.3 + 4.0 * s], axis=1)  # leaves the volume
    fine = np.concatenate([a + (b - a) * np.linspace(0, 1, 200)[:, None] for a, b in pairwise(curve)])
    centres = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 3) + 0.5
    for width in (1.0, 3.0, 4.4):
        distance = cKDTree(fine / VOXEL).query(centres)[0].reshape(SHAPE)
        mask = tube_mask([curve], SHAPE, VOXEL, width)
        sure = np.abs(distance - width / 2) > 1e-3
        assert sure.mean() > 0.999
        np.testing.assert_array_equal(mask[sure], (distance < width / 2)[sure])
    long_segments = tube_mask([curve[[0, -1]]], SHAPE, VOXEL)
    short_segments = tube_mask([curve[0] + s[:, None] * (curve[-1] - curve[0])], SHAPE, VOXEL)
    np.testing.assert_array_equal(long_segments, short_segments)


def test_error_of_known_size_in_the_tube():
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.0, 100.0, SHAPE)
    low, high = np.percentile(reference, (0.1, 99.9))
    mask = tube_mask([straight_line()], SHAPE, VOXEL)
    volume = np.where(mask, reference + 0.1 * (high - low), reference)
    assert foreground_psnr_unit_range(volume, reference, [straight_line()], VOXEL) == pytest.approx(20.0)
    assert psnr_unit_range(volume, reference) == pytest.approx(20.0 - 10 * math.log10(mask.mean()))


def test_the_background_does_not_count():
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.0, 100.0, SHAPE)
    mask = tube_mask([straight_line()], SHAPE, VOXEL)
    volume = reference + rng.normal(size=SHAPE)
    score = foreground_psnr_unit_range(volume, reference, [straight_line()], VOXEL)
    wrong = np.where(mask, volume, 1e4)
    assert foreground_psnr_unit_range(wrong, reference, [straight_line()], VOXEL) == score
    perfect = np.where(mask, reference, 1e4)
    assert foreground_psnr_unit_range(perfect, reference, [straight_line()], VOXEL) == math.inf


def test_the_tube_lies_on_the_filaments_of_simulated_volumes():
    batch = Simulator(SimulationConfig(shape=(16, 48, 48))).sample(1, [0, 1], noisy=False)
    for clean, lines in zip(batch.clean[:, 0].numpy(), batch.centre_lines, strict=True):
        mask = tube_mask(lines, clean.shape, VOXEL)
        assert clean[mask].mean() > 8 * clean[~mask].mean()
        for shift in ((0, 2, 0), (0, 0, -2), (2, 0, 0)):  # nowhere else does it hold more light
            assert clean[mask].mean() > clean[np.roll(mask, shift, (0, 1, 2))].mean()
        # An empty volume looks good over all voxels and bad on the filaments.
        blank = blank_baseline(clean)
        assert foreground_psnr_unit_range(blank, clean, lines, VOXEL) < psnr_unit_range(blank, clean) - 5


def test_volumes_without_filaments_and_wrong_lines_are_refused():
    volume = np.random.default_rng(0).normal(size=SHAPE)
    for lines in ([], [straight_line() + 100.0], [straight_line()[:1]]):
        with pytest.raises(VolumeError, match="centre line"):
            foreground_psnr_unit_range(volume, volume, lines, VOXEL)
    with pytest.raises(ShapeError, match=r"\(n, 3\)"):
        tube_mask([np.zeros((4, 2))], SHAPE, VOXEL)
    with pytest.raises(ShapeError, match="one shape"):
        foreground_psnr_unit_range(volume, volume[1:], [straight_line()], VOXEL)
