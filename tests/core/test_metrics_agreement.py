import numpy as np
import pytest

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.agreement import centre_line_agreement, cl_dice
from napari_vqldm.metrics.filaments import filament_mask, trace_filaments
from napari_vqldm.metrics.foreground import tube_mask
from napari_vqldm.simulate import Simulator, tier

VOXEL = (0.2, 0.1, 0.1)


def line(start, stop):
    return np.array([start, stop], float)


BASE = line((3, 6, 1), (3, 6, 11))


@pytest.mark.parametrize(
    "shift, found",
    [((0, 0.19, 0), 1), ((0, 0.21, 0), 0), ((0.39, 0, 0), 1), ((0.41, 0, 0), 0), ((0.3, 0.14, 0), 0)],
)
def test_the_tolerance_is_an_ellipsoid(shift, found):
    agreement = centre_line_agreement([BASE + shift], [BASE])
    assert agreement.precision == agreement.recall == agreement.f1 == pytest.approx(found)


def test_half_a_filament_is_half_the_recall_and_a_false_one_half_the_precision():
    half = centre_line_agreement([line((3, 6, 1), (3, 6, 6))], [BASE])
    assert half.precision == 1.0
    assert half.recall == pytest.approx(0.5, abs=0.025)  # and the tolerance beyond the end
    assert half.f1 == pytest.approx(2 * half.recall / (1 + half.recall))
    extra = centre_line_agreement([BASE, np.add(BASE, (0, 3, 0))], [BASE])
    assert (extra.precision, extra.recall) == pytest.approx((0.5, 1.0))
    assert (extra.traced_um, extra.true_um) == pytest.approx((20.0, 10.0))


def test_pieces_count_by_length_however_points_are_spaced():
    coarse = np.array([(3, 6, 1), (3, 6, 1.3), (3, 6, 1.31), (3, 6, 11)], float)
    agreement = centre_line_agreement([coarse], [line((3, 6, 1), (3, 6, 6))])
    assert agreement.precision == pytest.approx(0.5, abs=0.025)


def test_exchanging_the_sets_exchanges_precision_and_recall():
    rng = np.random.default_rng(0)
    a, b = ([line(*ends) for ends in rng.uniform(0, 6, (20, 2, 3))] for _ in range(2))
    one, other = centre_line_agreement(a, b), centre_line_agreement(b, a)
    assert (one.precision, one.recall) == (other.recall, other.precision)
    assert 0.0 < one.f1 < 0.5


def test_nothing_to_trace():
    assert centre_line_agreement([], []).f1 == 1.0
    assert centre_line_agreement([BASE], []).f1 == centre_line_agreement([], [BASE]).f1 == 0.0


@pytest.fixture(scope="module")
def scene():
    batch = Simulator(tier("standard").model_copy(update={"organisation": {"free": 1.0}})).sample(77, [1], noisy=False)
    return batch.clean[0, 0].numpy(), batch.centre_lines[0]


def test_a_trace_agrees_with_its_truth_and_not_with_its_mirror_image(scene):
    volume, true = scene
    traced = trace_filaments(volume, VOXEL).filaments
    assert centre_line_agreement(traced, true).f1 > 0.9
    mirrored = [piece * [1, 1, -1] + [0, 0, 12.8] for piece in traced]
    assert centre_line_agreement(mirrored, true).f1 < 0.6


def test_cl_dice_of_equal_masks_is_one_and_of_others_falls(scene):
    volume, true = scene
    tube = tube_mask(true, volume.shape, VOXEL, 4.0)
    mask = filament_mask(volume, VOXEL)
    assert cl_dice(tube, tube).value == 1.0
    near, far = cl_dice(mask, tube), cl_dice(mask[:, :, ::-1], tube)
    assert near.value > 0.85 > 0.6 > far.value


def test_cl_dice_sees_a_gap_that_dice_does_not():
    """A thick and a thin rod: losing the thin one costs little volume and half of the centre line."""
    true = np.zeros((20, 40, 60), bool)
    true[5:14, 4:13, 2:58] = True
    true[9, 30, 2:58] = True
    without = true.copy()
    without[:, 30] = False
    found = cl_dice(without, true)
    assert 2 * (without & true).sum() / (without.sum() + true.sum()) > 0.98
    assert found.precision == 1.0
    assert found.sensitivity == pytest.approx(0.5, abs=0.05)
    assert found.value == pytest.approx(2 / 3, abs=0.05)


def test_cl_dice_of_empty_masks():
    empty, full = np.zeros((4, 8, 8), bool), np.ones((4, 8, 8), bool)
    assert (cl_dice(empty, empty).value, cl_dice(empty, full).value) == (1.0, 0.0)


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError, match="one shape"):
        cl_dice(np.zeros((4, 8, 8), bool), np.zeros((4, 8, 9), bool))
    with pytest.raises(ShapeError, match="boolean"):
        cl_dice(np.zeros((4, 8, 8)), np.zeros((4, 8, 8), bool))
    with pytest.raises(VolumeError, match="tolerances"):
        centre_line_agreement([BASE], [BASE], (0.4, 0.0, 0.2))
