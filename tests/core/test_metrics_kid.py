import numpy as np
import pytest
import torch

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics import kid


def gauss(seed, n=300, d=16, mean=0.0, sd=1.0):
    return np.random.default_rng(seed).normal(mean, sd, (n, d))


def test_the_kernel_matrix_by_hand():
    a, b = np.array([[1.0, 2.0]]), np.array([[3.0, -1.0], [0.0, 4.0]])
    assert np.allclose(kid.polynomial_kernel(a, b), [[(1 / 2 + 1) ** 3, (8 / 2 + 1) ** 3]])


def test_it_is_unbiased_for_small_and_large_samples():
    """The mean over many pairs of equal sets is 0 within its error; a plug-in estimate would be far above."""
    for n in (8, 60):
        values = np.array([kid.kernel_mmd2(gauss(2 * s, n, 4), gauss(2 * s + 1, n, 4)) for s in range(400)])
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean()) < 3.5 * error
        plug_in = values.mean() + 2 * 1.0 / n  # a lower bound of the diagonal's share: k(x, x) >= 1
        assert plug_in > 3.5 * error


def test_the_expectation_for_a_shift_is_the_analytic_one():
    """For x, y ~ N(m, 1) in one dimension E k(x, y) follows from the moments of the normal distribution."""

    def expected(m, n):  # E (x y + 1)^3 with independent x ~ N(m, 1), y ~ N(n, 1)
        first, second, third = (m, n), (m * m + 1, n * n + 1), (m**3 + 3 * m, n**3 + 3 * n)
        return third[0] * third[1] + 3 * second[0] * second[1] + 3 * first[0] * first[1] + 1

    truth = expected(0, 0) + expected(0.7, 0.7) - 2 * expected(0, 0.7)
    values = [kid.kernel_mmd2(gauss(s, 300, 1), gauss(s + 500, 300, 1, mean=0.7)) for s in range(60)]
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / np.sqrt(len(values)))


def test_monai_misses_a_change_of_spread_that_this_sees():
    """A linear kernel compares means: equal means and five times the spread look equal to it."""
    from monai.metrics import MMDMetric

    a, b, wide = gauss(1, 400), gauss(2, 400), gauss(3, 400, sd=5.0)
    shifted = gauss(4, 400, mean=0.5)

    def linear(x, y):
        return float(MMDMetric()(torch.from_numpy(x), torch.from_numpy(y)))

    assert linear(wide, b) < 0.5 * linear(shifted, b)  # the fivefold spread counts as less than a shift of half a sd
    equal, spread, shift = (kid.kernel_distance(x, b) for x in (a, wide, shifted))
    assert abs(equal.mean) < 3 * equal.sd
    assert spread.mean > 20 * equal.sd and spread.mean > shift.mean
    assert shift.mean > 5 * equal.sd


def test_subsets_are_drawn_by_seed_and_shrink_with_the_set():
    a, b = gauss(5), gauss(6)
    assert kid.kernel_distance(a, b) == kid.kernel_distance(a, b)
    assert kid.kernel_distance(a, b) != kid.kernel_distance(a, b, seed=1)
    score = kid.kernel_distance(a[:30], b)
    assert score.subset_size == 30 and score.low <= score.mean <= score.high
    assert kid.kernel_distance(a, b).subset_size == 250


def test_units_of_the_features_do_not_matter():
    scale = np.logspace(-2, 2, 16)
    a, b = gauss(7, mean=0.3), gauss(8)
    assert kid.kernel_distance(a * scale, b * scale).mean == pytest.approx(kid.kernel_distance(a, b).mean, rel=1e-6)


def test_misuse_is_refused():
    with pytest.raises(ShapeError, match="at least 2"):
        kid.kernel_mmd2(gauss(0, 1), gauss(0))
    with pytest.raises(ShapeError, match="equal numbers"):
        kid.kernel_mmd2(gauss(0, 5, 3), gauss(0, 5, 4))
    with pytest.raises(VolumeError, match="vary"):
        kid.kernel_distance(gauss(0), np.ones((10, 16)))
