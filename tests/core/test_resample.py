"""Resampling is linear, keeps constants and positions, does not alias, and comes back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.resample import check_memory, resample, resample_to, resampled_shape, target_voxel_size


def volume(shape=(12, 30, 26), seed=0, smooth=1.5):
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), smooth).astype(np.float32)


def test_nothing_happens_inside_the_trained_range():
    size = (0.2, 0.11, 0.1)
    assert target_voxel_size(size, (0.18, 0.09, 0.09), (0.22, 0.11, 0.11)) == size
    data = volume()
    assert resample(data, size, size) is data
    assert resample_to(data, data.shape) is data


def test_the_nearest_trained_voxel_size_is_taken_per_axis():
    assert target_voxel_size((0.75, 0.05, 0.1), (0.15, 0.08, 0.08), (0.3, 0.13, 0.13)) == (0.3, 0.08, 0.1)


@pytest.mark.parametrize("shape", [(2, 2, 2), (5, 61, 26), (30, 11, 70), (12, 30, 3)])
def test_it_is_linear_and_keeps_constants(shape):
    a, b = volume(seed=1), volume(seed=2)
    both = resample_to(2 * a - 3 * b, shape)
    np.testing.assert_allclose(both, 2 * resample_to(a, shape) - 3 * resample_to(b, shape), atol=2e-6)
    np.testing.assert_allclose(resample_to(np.full((12, 30, 26), 7.0), shape), 7.0, rtol=1e-12)


def test_the_grid_spans_the_same_extent():
    assert resampled_shape((32, 100, 100), (0.75, 0.2, 0.26), (0.3, 0.1, 0.26)) == (80, 200, 100)
    assert resampled_shape((3, 10, 10), (0.05, 0.1, 0.1), (0.5, 0.1, 0.1)) == (2, 10, 10)  # never less than 2


def test_a_blob_stays_where_it_is():
    z, y, x = np.meshgrid(*[np.arange(n) + 0.5 for n in (20, 40, 40)], indexing="ij")
    data = np.exp(-((z - 8.2) ** 2 + (y - 17.3) ** 2 + (x - 25.9) ** 2) / 18)
    for target in ((0.1, 0.25, 0.05), (0.4, 0.2, 0.3)):
        out = resample(data, (0.2, 0.1, 0.1), target)
        centers = [
            np.average(np.arange(n) + 0.5, weights=out.sum(tuple({0, 1, 2} - {axis})))
            for axis, n in enumerate(out.shape)
        ]
        relative = [c / n for c, n in zip(centers, out.shape, strict=True)]
        np.testing.assert_allclose(relative, (8.2 / 20, 17.3 / 40, 25.9 / 40), atol=2e-3)


def test_fine_and_back_keeps_a_smooth_volume():
    data = volume()
    back = resample_to(resample(data, (0.75, 0.26, 0.26), (0.3, 0.1, 0.13)), data.shape)
    assert np.corrcoef(back.ravel(), data.ravel())[0, 1] > 0.99
    assert back.dtype == np.float32


def test_shrinking_averages_what_would_alias():
    checker = (np.indices((8, 64, 64)).sum(0) % 2).astype(np.float64)  # the finest pattern there is
    shrunk = resample_to(checker, (8, 16, 16))[:, 2:-2, 2:-2]
    np.testing.assert_allclose(shrunk, 0.5, atol=0.02)


def test_impossible_requests_are_refused():
    with pytest.raises(ShapeError):
        resample_to(np.zeros((4, 4)), (2, 2, 2))
    with pytest.raises(ShapeError):
        resample_to(np.zeros((4, 4, 4)), (2, 0, 2))
    with pytest.raises(VolumeError, match="--voxel-size"):
        resample(np.zeros((4, 4, 4)), (0.0, 1, 1), (1, 1, 1))


def test_memory_that_is_unknown_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = (10**6, 10**6, 10**6)
    monkeypatch.setattr("napari_vqldm.resample.available_bytes", lambda: None)
    check_memory(huge, (0.2, 0.1, 0.1))
    monkeypatch.setattr("napari_vqldm.resample.available_bytes", lambda: 2**30)
    check_memory((64, 512, 512), (0.2, 0.1, 0.1))
    with pytest.raises(VolumeError, match=r"0\.2 x 0\.1 x 0\.1 um.* 128 x 1024 x 1024 voxels .* 1\.5 GiB .* 1\.0 GiB"):
        check_memory((128, 1024, 1024), (0.2, 0.1, 0.1))
