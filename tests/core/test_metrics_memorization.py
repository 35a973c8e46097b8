import numpy as np
import pytest

from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.memorization import nearest_patches
from napari_vqldm.simulate import Simulator, tier


@pytest.fixture(scope="module")
def volumes():
    changes = {"shape": (28, 104, 104), "organisation": {"free": 1.0}, "length_density_um_per_um3": (0.3, 0.5)}
    config = tier("standard").model_copy(update=changes)
    batch = Simulator(config).sample(5, range(6), noisy=False)
    return [v.numpy() for v in batch.clean[:, 0]]


def cut(volume, corner):
    z, y, x = corner
    return volume[z : z + 24, y : y + 96, x : x + 96]


@pytest.mark.slow
def test_a_copy_is_found_even_when_shifted_flipped_and_turned(volumes):
    training, fresh = volumes[:5], cut(volumes[5], (0, 0, 0))
    copies = {
        1: cut(training[1], (0, 0, 0)),
        3: np.rot90(cut(training[3], (1, 3, 5)), 1, (1, 2)),
        4: np.rot90(cut(training[4], (3, 7, 2)), 3, (1, 2))[::-1, :, ::-1],
    }
    found = nearest_patches([*copies.values(), fresh], training)
    for row, number in enumerate(copies):
        assert found.correlation[row].min() > 0.97
        assert (found.training_index[row] == number).all()
    assert found.correlation[-1].max() < 0.8


def test_noise_and_gain_do_not_hide_a_copy(volumes):
    noisy = 1.4 * volumes[2] + 0.1 * np.random.default_rng(0).normal(size=volumes[2].shape) + 0.2
    found = nearest_patches([noisy], volumes[:4])
    assert found.correlation.min() > 0.9
    assert (found.training_index == 2).all()


def test_the_correlation_of_one_place_is_pearsons_at_half_resolution(volumes):
    """A training volume as large as the patch leaves one shift; the best of 16 orientations is computed by hand."""
    query, other = volumes[0][8:24, 8:56, 8:56], volumes[1][8:24, 8:56, 8:56]

    def pool(v):
        return v.reshape(8, 2, 24, 2, 24, 2).mean((1, 3, 5)).ravel()

    turned = [np.rot90(query, k, (1, 2)) for k in range(4)]
    oriented = [w for t in turned for u in (t, t[:, :, ::-1]) for w in (u, u[::-1])]
    best = max(np.corrcoef(pool(w), pool(other))[0, 1] for w in oriented)
    assert nearest_patches([query], [other]).correlation[0, 0] == pytest.approx(best, abs=2e-3)


def test_empty_volumes_are_left_out_not_called_copies(volumes):
    empty = np.zeros_like(volumes[0])
    found = nearest_patches([empty, volumes[0]], [empty, volumes[1]])
    assert np.isnan(found.correlation[0]).all() and (found.training_index[0] == -1).all()
    assert len(found.per_volume) == 1
    assert (found.training_index[1] == 1).all()


def test_wrong_sets_are_refused(volumes):
    small = np.zeros((8, 32, 32), np.float32)
    with pytest.raises(ShapeError, match="at least one query"):
        nearest_patches([], volumes)
    with pytest.raises(ShapeError, match="at least one training"):
        nearest_patches(volumes[:1], [])
    with pytest.raises(ShapeError, match="at least"):
        nearest_patches([small], volumes[:1])
    with pytest.raises(ShapeError, match="one shape"):
        nearest_patches([volumes[0], volumes[0][:, :96, :96]], volumes[:1])
    with pytest.raises(ShapeError, match="multiples"):
        nearest_patches([volumes[0][:, :103]], volumes[:1])
