import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import euler_number

from napari_vqldm.metrics.thinning import thin

TOUCH = np.ones((3, 3, 3))


@pytest.mark.parametrize("height, width", [(1, 2), (2, 2), (2, 4), (3, 2), (4, 4)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_rod_of_any_width_becomes_one_line(height, width, axis):
    rod = np.zeros((12, 12, 40), bool)
    rod[4 : 4 + height, 4 : 4 + width, 8:32] = True
    rod = np.moveaxis(rod, 2, axis)
    thinned = thin(rod, ndimage.gaussian_filter(rod.astype(float), 1.5))
    assert 16 <= thinned.sum() <= 26  # the brightness falls off at the ends, where voxels go first
    assert ndimage.label(thinned, TOUCH)[1] == 1


@pytest.mark.parametrize("seed", range(4))
def test_parts_and_loops_stay(seed):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(24, 40, 40)), 1.2)
    mask = ndimage.binary_fill_holes(field > 0.05)
    thinned = thin(mask, field)
    assert thinned.sum() < 0.25 * mask.sum()
    assert (thinned <= mask).all()
    assert ndimage.label(thinned, TOUCH)[1] == ndimage.label(mask, TOUCH)[1]
    assert euler_number(thinned, 3) == euler_number(mask, 3)


def test_thinning_twice_changes_nothing():
    field = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=(24, 40, 40)), 1.2)
    once = thin(field > 0.1, field)
    assert np.array_equal(thin(once, field), once)


def test_the_line_follows_the_ridge_not_the_middle_of_the_mask():
    mask = np.zeros((9, 16, 40), bool)
    mask[2:7, 3:13, 4:36] = True
    y = np.arange(16)[None, :, None]
    ridge = np.broadcast_to(np.exp(-((y - 10.0) ** 2)) + 1e-3 * y, mask.shape) * ndimage.gaussian_filter(mask * 1.0, 1)
    middle = thin(mask, ridge)[:, :, 12:28]
    assert np.unique(np.argwhere(middle)[:, 1]).tolist() == [10]


def test_nothing_stays_nothing():
    assert not thin(np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6))).any()
