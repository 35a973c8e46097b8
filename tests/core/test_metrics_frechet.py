import warnings

import numpy as np
import pytest
import torch
from scipy import linalg

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics import frechet


def gauss(seed, n=500, d=64, mean=0.0, sd=1.0):
    return np.random.default_rng(seed).normal(mean, sd, (n, d))


def covariance(seed, d=6, rank=None):
    a = np.random.default_rng(seed).normal(size=(d, rank or d + 3))
    return a @ a.T / a.shape[1]


def test_one_dimension_is_the_textbook_formula():
    found = frechet.frechet_distance([3.0], [[4.0]], [1.0], [[9.0]])
    assert found == pytest.approx((3 - 1) ** 2 + (2 - 3) ** 2)


def test_the_matrix_root_of_scipy_gives_the_same():
    a, b = covariance(0), covariance(1)
    mean = np.arange(6) / 10
    expected = mean @ mean + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert frechet.frechet_distance(mean, a, np.zeros(6), b) == pytest.approx(expected, rel=1e-9)


def test_it_is_the_cost_of_the_best_linear_transport():
    """For normal sets the optimal map is linear: no map that turns one into the other is cheaper."""
    a, b = covariance(2), covariance(3)
    best = frechet.frechet_distance(np.zeros(6), a, np.zeros(6), b)
    rng = np.random.default_rng(4)
    root_a, root_b = np.linalg.cholesky(a), np.linalg.cholesky(b)
    for _ in range(50):
        turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        transport = root_b @ turn @ np.linalg.inv(root_a)  # maps covariance a to b
        cost = np.trace((transport - np.eye(6)) @ a @ (transport - np.eye(6)).T)
        assert cost >= best - 1e-9


def test_singular_covariances_are_fine():
    a, b = covariance(5, d=20, rank=3), covariance(6, d=20, rank=4)
    same = frechet.frechet_distance(np.zeros(20), a, np.zeros(20), a)
    assert same == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(frechet.frechet_distance(np.zeros(20), a, np.zeros(20), b))


def test_whitening_makes_the_reference_white_and_units_irrelevant():
    scale = np.diag(np.logspace(-1, 1, 8))
    reference = gauss(7, 2000, 8) @ scale
    white = frechet.whitening(reference, 1e-9)(reference)
    assert np.allclose(np.cov(white.T), np.eye(8), atol=1e-4)
    shifted = gauss(8, 2000, 8) @ scale + 1.0
    plain = frechet.whitened_frechet(shifted, reference, regularization=1e-9).distance
    other = frechet.whitened_frechet(shifted * 7 - 3, reference * 7 - 3, regularization=1e-9).distance
    assert other == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("n, expected", [(500, 4.4), (2000, 1.1)])
def test_equal_distributions_score_the_known_floor(n, expected):
    """About d^2 / (2 n) for 64 features, and the floor from splits of the reference predicts it."""
    scores = [frechet.whitened_frechet(gauss(2 * s, n), gauss(2 * s + 1, n)) for s in range(4)]
    distance = np.mean([s.distance for s in scores])
    assert frechet.expected_floor(64, n, n) == pytest.approx(expected, rel=0.05)
    assert distance == pytest.approx(expected / (1 - 64 / n), rel=0.07)
    assert np.mean([s.floor for s in scores]) == pytest.approx(distance, rel=0.07)


def test_the_expected_floor_holds_for_unequal_sizes():
    values = [
        frechet.frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
        for a, b in ((gauss(s, 400, 8), gauss(s + 100, 1500, 8)) for s in range(40))
    ]
    assert np.mean(values) == pytest.approx(frechet.expected_floor(8, 400, 1500), rel=0.1)


def test_a_shift_of_one_deviation_costs_one():
    reference, moved = gauss(11, 4000, 4), gauss(12, 4000, 4)
    moved[:, 0] += 1.0
    assert frechet.whitened_frechet(moved, reference).excess == pytest.approx(1.0, abs=0.1)


def test_monai_scores_two_draws_of_one_distribution_by_hundreds_where_the_excess_is_near_zero():
    """The raw distance of 600 volumes of 512 features is above 200 for equal sets; ours names its floor."""
    from monai.metrics import FIDMetric

    a, b = gauss(13, 600, 512), gauss(14, 600, 512)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls scipy with an argument that is going away
        raw = float(FIDMetric()(torch.from_numpy(a), torch.from_numpy(b)))
    assert raw > 150
    # With 64 features, as many as ours, of the same 600 volumes:
    score = frechet.whitened_frechet(a[:, :64], b[:, :64])
    assert abs(score.excess) < 0.005 * raw
    assert score.floor == pytest.approx(score.distance, rel=0.2)
    changed = frechet.whitened_frechet(1.2 * a[:, :64], b[:, :64])
    assert changed.excess > 10 * abs(score.excess)  # and a real difference is still seen


def test_misuse_is_refused():
    with pytest.raises(ShapeError, match="means"):
        frechet.frechet_distance(np.zeros(3), np.eye(3), np.zeros(2), np.eye(2))
    with pytest.raises(VolumeError, match="finite"):
        frechet.frechet_distance(np.full(2, np.nan), np.eye(2), np.zeros(2), np.eye(2))
    with pytest.raises(VolumeError, match="vary"):
        frechet.whitening(np.ones((10, 3)))
    with pytest.raises(ShapeError, match="equal numbers"):
        frechet.whitened_frechet(gauss(0, 10, 3), gauss(0, 10, 4))
