"""Structural similarity in 3D: the values of other libraries where those are right, and the planes that they refuse."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import structural_similarity

from napari_vqldm.errors import ConfigError, ShapeError, VolumeError
from napari_vqldm.metrics.fidelity import unit_range
from napari_vqldm.metrics.micro_ms3im import micro_ms3im_slice_mean
from napari_vqldm.metrics.ssim import ms_ssim3d_unit_range, ssim3d_unit_range


def pair(shape=(26, 40, 40), noise=0.15, seed=0):
    """Smooth structure far from zero, and the same with noise."""
    rng = np.random.default_rng(seed)
    reference = 90.0 + 300.0 * ndimage.gaussian_filter(rng.normal(size=shape), (0.8, 1.5, 1.5))
    return reference + noise * np.ptp(reference) * rng.normal(size=shape), reference


def in_unit_range(volume, reference):
    low, high = unit_range(reference)
    return (volume - low) / (high - low), (reference - low) / (high - low)


@pytest.mark.parametrize("shape", [(11, 11, 11), (26, 40, 37), (27, 20, 33), (43, 24, 24)])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_is_that_of_scikit_image(shape, noise):
    volume, reference = pair(shape, noise)
    x, y = in_unit_range(volume, reference)
    expected = structural_similarity(  # it leaves out 5 voxels at every face
        x, y, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim3d_unit_range(volume, reference) == pytest.approx(expected, abs=1e-9)
    single = ssim3d_unit_range(volume.astype(np.float32), reference.astype(np.float32))
    assert single == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ssim_is_that_of_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    import torch

    volume, reference = pair()
    x, y = (torch.tensor(v[None, None], dtype=torch.float64) for v in in_unit_range(volume, reference))
    mean, full = functional.structural_similarity_index_measure(x, y, sigma=1.5, data_range=1.0, return_full_image=True)
    inside = full[..., 5:-5, 5:-5, 5:-5]
    assert ssim3d_unit_range(volume, reference) == pytest.approx(float(inside.mean()), abs=1e-6)
    assert float(mean) > float(inside.mean())  # its mean counts windows over mirrored borders, ours does not


def test_ms_ssim_is_that_of_monai_with_the_same_window_and_weights():
    import torch
    from monai.metrics.regression import compute_ms_ssim

    volume, reference = pair((32, 64, 64), 0.1)
    x, y = (torch.tensor(v[None, None], dtype=torch.float32) for v in in_unit_range(volume, reference))
    expected = compute_ms_ssim(
        x, y, spatial_dims=3, data_range=1.0, kernel_size=7, kernel_sigma=1.0, weights=(0.3, 0.3, 0.4)
    )
    assert ms_ssim3d_unit_range(volume, reference) == pytest.approx(float(expected), abs=2e-5)
    with pytest.raises(ValueError, match="kernel size"):  # five scales of 11 voxels need 161 planes
        compute_ms_ssim(x, y, spatial_dims=3)


def test_ms_ssim_is_what_single_windows_give_by_hand():
    # 28 planes: the coarsest scale is one single window of 7 voxels, so that every mean there can be written out.
    volume, reference = pair((28, 28, 28), 0.2)
    x, y = in_unit_range(volume, reference)
    taps = np.exp(-0.5 * np.arange(-3.0, 4.0) ** 2)
    window = taps[:, None, None] * taps[:, None] * taps
    window /= window.sum()

    def factors(a, b):
        views = [np.lib.stride_tricks.sliding_window_view(v, (7, 7, 7)) for v in (a, b)]
        u, v = views
        mean_u, mean_v = (np.einsum("zyxabc,abc->zyx", w, window) for w in views)
        du, dv = u - mean_u[..., None, None, None], v - mean_v[..., None, None, None]
        s_uu, s_vv, s_uv = (
            np.einsum("zyxabc,zyxabc,abc->zyx", p, q, window) for p, q in ((du, du), (dv, dv), (du, dv))
        )
        contrast = (2 * s_uv + 9e-4) / (s_uu + s_vv + 9e-4)
        return contrast, contrast * (2 * mean_u * mean_v + 1e-4) / (mean_u**2 + mean_v**2 + 1e-4)

    expected = 1.0
    for scale in range(3):
        contrast, full = factors(x, y)
        expected *= (full if scale == 2 else contrast).mean() ** (0.4 if scale == 2 else 0.3)
        if scale < 2:
            x, y = (sum(v[i::2, j::2, k::2] for i, j, k in np.ndindex(2, 2, 2)) / 8 for v in (x, y))
    assert full.size == 1
    assert ms_ssim3d_unit_range(volume, reference) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("measure", [ssim3d_unit_range, ms_ssim3d_unit_range])
def test_similarity_is_one_for_equal_volumes_and_ignores_a_common_unit(measure):
    volume, reference = pair((28, 32, 32))
    assert measure(reference, reference) == pytest.approx(1.0, abs=1e-12)
    assert measure(5 * volume - 400, 5 * reference - 400) == pytest.approx(measure(volume, reference), abs=1e-9)
    assert measure(volume + 0.3 * np.ptp(reference), reference) < measure(volume, reference)  # not a common offset


@pytest.mark.parametrize("measure", [ssim3d_unit_range, ms_ssim3d_unit_range])
def test_more_noise_and_more_blur_score_lower(measure):
    reference = pair((32, 48, 48))[1]
    noisy = [measure(pair((32, 48, 48), s)[0], reference) for s in (0.02, 0.05, 0.2, 0.8)]
    blurred = [measure(ndimage.gaussian_filter(reference, s), reference) for s in (0.4, 0.8, 1.6, 3.2)]
    assert noisy == sorted(noisy, reverse=True) and blurred == sorted(blurred, reverse=True)
    assert noisy[0] > 0.8 > 0.4 > noisy[-1]


def test_inverted_structure_is_negative_at_one_scale_and_zero_at_three():
    reference = pair((28, 32, 32))[1]
    inverted = 2 * reference.mean() - reference
    assert ssim3d_unit_range(inverted, reference) < -0.3
    assert ms_ssim3d_unit_range(inverted, reference) == 0.0


def test_an_odd_size_loses_its_last_plane_at_the_coarse_scales_only():
    volume, reference = pair((32, 32, 32), 0.0)
    longer = [np.concatenate([v, v[-1:]]) for v in (volume, reference)]
    assert ms_ssim3d_unit_range(*longer) == pytest.approx(1.0, abs=1e-12)
    longer[0][-1] += 1e3  # the plane counts at the first scale
    assert ms_ssim3d_unit_range(*longer) < 0.999


def test_what_the_window_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="at least 11"):
        ssim3d_unit_range(*pair((10, 20, 20)))
    with pytest.raises(ShapeError, match="at least 28"):
        ms_ssim3d_unit_range(*pair((27, 40, 40)))
    with pytest.raises(ShapeError, match="one shape"):
        ssim3d_unit_range(np.zeros((12, 12, 12)), np.zeros((12, 12, 13)))
    with pytest.raises(VolumeError, match="not constant"):
        ssim3d_unit_range(np.zeros((12, 12, 12)), np.ones((12, 12, 12)))


def test_micro_ms3im_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "microssim", None)
    with pytest.raises(ConfigError, match="pip install microssim"):
        micro_ms3im_slice_mean(*pair((3, 48, 48)))


def test_micro_ms3im_is_fitted_once_and_averaged_over_the_planes_with_contrast(monkeypatch):
    fitted = []

    class Recorder:
        def fit(self, gt, pred):
            fitted.append((gt.shape, pred.shape))

        def score(self, gt, pred, *, betas):
            assert gt.shape == pred.shape == (48, 48) and len(betas) == 3
            return gt.max()

    monkeypatch.setitem(sys.modules, "microssim", SimpleNamespace(MicroMS3IM=Recorder))
    volume, reference = pair((4, 48, 48))
    reference[2] = 7.0
    expected = np.mean([reference[i].max() for i in (0, 1, 3)])
    assert micro_ms3im_slice_mean(volume, reference) == pytest.approx(expected)
    assert fitted == [((4, 48, 48), (4, 48, 48))]


def test_micro_ms3im_refuses_small_planes_and_constants():
    with pytest.raises(ShapeError, match="41 x 41"):
        micro_ms3im_slice_mean(*pair((4, 40, 48)))


@pytest.mark.filterwarnings("ignore")
def test_micro_ms3im_ignores_gain_and_offset():
    pytest.importorskip("microssim")
    volume, reference = pair((4, 64, 64), 0.05)
    assert micro_ms3im_slice_mean(reference, reference) == pytest.approx(1.0, abs=1e-3)
    score = micro_ms3im_slice_mean(volume, reference)
    assert micro_ms3im_slice_mean(4 * volume + 500, reference) == pytest.approx(score, abs=0.02)
    assert micro_ms3im_slice_mean(pair((4, 64, 64), 0.5)[0], reference) < score
