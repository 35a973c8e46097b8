import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.morphology import skeletonize

from napari_vqldm.config import CameraConfig
from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics.filaments import length_weighted_median_um, median_length_um, trace_filaments
from napari_vqldm.metrics.skeleton import skeleton_branches
from napari_vqldm.simulate import Simulator, camera_in_filament_units, render_camera, tier

VOXEL = (0.2, 0.1, 0.1)
SHAPE = (32, 128, 128)
CAMERA = CameraConfig(photons=100.0, background=0.1)


def tubes(*lines, shape=SHAPE, voxel=VOXEL):
    """Image of polylines (um, z y x) with the width of the nominal optics; an isolated one peaks near 1."""
    fine = np.array(voxel) / 2
    grid = np.zeros(np.array(shape) * 2)
    for line in np.asarray(lines, float):
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        along = np.arange(0.0, arc[-1], 0.01)
        points = np.stack([np.interp(along, arc, line[:, i]) for i in range(3)], 1)
        np.add.at(grid, tuple(np.floor(points / fine).astype(int).T), 0.01)
    blurred = ndimage.gaussian_filter(grid, np.array([0.2, 0.09, 0.09]) / fine)
    z, y, x = shape
    pooled = blurred.reshape(z, 2, y, 2, x, 2).mean((1, 3, 5))
    return (pooled / np.prod(fine) * 2 * np.pi * 0.2 * 0.09).astype(np.float32)


def recorded(clean, seed=0):
    counts = render_camera(as_batch(clean), CAMERA, VOXEL, [seed])
    return camera_in_filament_units(counts, CAMERA)[0, 0].numpy()


def as_batch(volume):
    return torch.from_numpy(np.ascontiguousarray(volume))[None, None]


@pytest.mark.parametrize(
    "start, stop",
    [
        ((3.2, 6.4, 2.0), (3.2, 6.4, 10.0)),  # along x
        ((3.2, 2.0, 3.0), (3.2, 9.0, 10.0)),  # diagonal in the plane: no staircase in the length
        ((1.5, 3.0, 3.0), (4.5, 8.0, 9.0)),  # inclined
        ((1.0, 6.4, 6.4), (5.4, 6.4, 6.4)),  # along the optical axis
    ],
)
@pytest.mark.parametrize("noisy", [False, True])
def test_a_straight_tube_has_its_length(start, stop, noisy):
    clean = tubes([start, stop])
    trace = trace_filaments(recorded(clean) if noisy else clean, VOXEL)
    true = np.linalg.norm(np.subtract(stop, start))
    assert len(trace.lengths_um) == 1
    assert trace.lengths_um[0] == pytest.approx(true, abs=0.4)
    assert trace.length_density_um_per_um3 == pytest.approx(trace.lengths_um[0] / (6.4 * 12.8 * 12.8))
    assert trace.median_length_um == trace.length_weighted_median_um == trace.lengths_um[0]


def test_a_traced_line_lies_on_the_tube():
    line = np.array([(1.5, 3.0, 3.0), (4.5, 8.0, 9.0)])
    (path,) = trace_filaments(recorded(tubes(line)), VOXEL).filaments
    direction = (line[1] - line[0]) / np.linalg.norm(line[1] - line[0])
    offset = path - line[0]
    distance = np.linalg.norm(offset - np.outer(offset @ direction, direction), axis=1)
    assert distance.max() < 0.2


@pytest.mark.parametrize("degrees", [45, 60, 90])
def test_two_crossing_tubes_are_two_filaments(degrees):
    half = np.radians(degrees) / 2
    arm = 4.5 * np.array([0.0, np.sin(half), np.cos(half)])
    mirrored = arm * [1, -1, 1]
    center = np.array([3.2, 6.4, 6.4])
    trace = trace_filaments(
        recorded(tubes([center - arm, center + arm], [center - mirrored, center + mirrored])), VOXEL
    )
    assert np.allclose(trace.lengths_um, 9.0, atol=0.5)
    assert len(trace.lengths_um) == 2


def test_a_branch_that_ends_on_another_tube_is_its_own_filament():
    trace = trace_filaments(tubes([(3.2, 6.4, 2), (3.2, 6.4, 10)], [(3.2, 6.4, 6), (3.2, 11, 6)]), VOXEL)
    assert sorted(trace.lengths_um) == pytest.approx([4.6, 8.0], abs=0.4)


def test_a_sharp_corner_is_no_continuation_for_a_junction():
    """Three arms at 120 degrees: no pair continues straight, all stay apart."""
    center = np.array([3.2, 6.4, 6.4])
    arms = [center + 4 * np.array([0, np.sin(a), np.cos(a)]) for a in np.radians([0, 120, 240])]
    trace = trace_filaments(tubes(*[[center, arm] for arm in arms]), VOXEL)
    assert len(trace.lengths_um) == 3


def test_parallel_tubes_stay_apart():
    lines = [[(3.2, y, 2), (3.2, y, 10)] for y in (5.0, 5.5, 6.0)]
    trace = trace_filaments(recorded(tubes(*lines)), VOXEL)
    assert np.allclose(trace.lengths_um, 8.0, atol=0.5)
    assert len(trace.lengths_um) == 3


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_traced_in_empty_or_noise_only_volumes(seed):
    empty = np.zeros(SHAPE, np.float32)
    assert trace_filaments(empty, VOXEL).length_density_um_per_um3 == 0.0
    assert trace_filaments(recorded(empty, seed), VOXEL).length_density_um_per_um3 < 1e-3


def test_statistics_of_no_filament_are_zero():
    trace = trace_filaments(np.zeros(SHAPE, np.float32), VOXEL)
    assert trace.median_length_um == trace.length_weighted_median_um == 0.0


def test_medians_by_hand():
    lengths = np.array([1.0, 1.0, 1.0, 2.0, 5.0])
    assert median_length_um(lengths) == 1.0
    assert length_weighted_median_um(lengths) == 5.0  # the longest alone holds half of 10


@pytest.fixture(scope="module")
def simulated():
    batch = Simulator(tier("standard")).sample(31, [0, 1, 2, 5], noisy=False)
    volumes = [recorded(batch.clean[i, 0].numpy(), i) for i in range(len(batch.parameters))]
    return volumes, batch.parameters


def test_length_does_not_change_under_flips_and_turns(simulated):
    volume = simulated[0][0]
    plain = trace_filaments(volume, VOXEL)
    turned = [volume[::-1], volume[:, :, ::-1], np.rot90(volume, 1, (1, 2))]
    for other in turned:
        trace = trace_filaments(other, VOXEL)
        assert trace.length_density_um_per_um3 == pytest.approx(plain.length_density_um_per_um3, rel=0.04)


def test_a_constant_background_does_not_matter(simulated):
    volume = simulated[0][0]
    plain, raised = (trace_filaments(v, VOXEL).length_density_um_per_um3 for v in (volume, volume + 0.4))
    assert raised == pytest.approx(plain, rel=0.01)


def test_noise_at_the_calibrated_camera_hardly_matters(simulated):
    batch = Simulator(tier("standard")).sample(31, [1], noisy=False)
    clean = trace_filaments(batch.clean[0, 0].numpy(), VOXEL)
    noisy = trace_filaments(simulated[0][1], VOXEL)
    assert noisy.length_density_um_per_um3 == pytest.approx(clean.length_density_um_per_um3, rel=0.1)


def test_phase_scrambled_volumes_lose_their_filaments(simulated):
    volume = simulated[0][0]
    phases = np.angle(np.fft.rfftn(np.random.default_rng(0).normal(size=SHAPE)))
    scrambled = np.fft.irfftn(np.abs(np.fft.rfftn(volume)) * np.exp(1j * phases), s=SHAPE, axes=(0, 1, 2))
    plain, other = trace_filaments(volume, VOXEL), trace_filaments(scrambled, VOXEL)
    assert other.median_length_um < 0.5 * plain.median_length_um
    assert other.length_weighted_median_um < 0.5 * plain.length_weighted_median_um


def test_confetti_has_short_filaments_at_the_same_density():
    """Short pieces that add up to the length of long ones: only the connected length tells them apart."""
    rows = np.arange(1.5, 11.5, 1.0)
    whole = trace_filaments(recorded(tubes(*[[(3.2, y, 1), (3.2, y, 11)] for y in rows])), VOXEL)
    pieces = [[(3.2, y, x), (3.2, y, x + 1.0)] for y in rows for x in np.arange(1.0, 12.0, 1.6)]
    confetti = trace_filaments(recorded(tubes(*pieces)), VOXEL)
    assert confetti.length_density_um_per_um3 == pytest.approx(whole.length_density_um_per_um3, rel=0.45)
    assert confetti.median_length_um < 0.25 * whole.median_length_um


def test_a_dim_copy_loses_filaments(simulated):
    volume = simulated[0][0]
    plain, dim = (trace_filaments(v, VOXEL).length_density_um_per_um3 for v in (volume, 0.2 * volume))
    assert dim < 0.5 * plain


def test_the_bias_against_exact_truth_is_small():
    simulator = Simulator(tier("standard").model_copy(update={"organisation": {"free": 1.0}}))
    batch = simulator.sample(77, range(3), noisy=False)
    ratios = [
        trace_filaments(recorded(batch.clean[i, 0].numpy(), i), VOXEL).length_density_um_per_um3
        / parameters.length_density_um_per_um3
        for i, parameters in enumerate(batch.parameters)
    ]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)


def test_an_l_shaped_skeleton_has_no_junction_and_a_loop_is_one_branch():
    corner = np.zeros((3, 8, 8), bool)
    corner[1, 1, 1:7] = corner[1, 1:7, 6] = True
    assert [b.ends for b in skeleton_branches(corner, (1, 1, 1))] == [[None, None]]
    loop = np.zeros((3, 8, 8), bool)
    loop[1, 1:7, 1:7] = True
    loop[1, 2:6, 2:6] = False
    assert len(skeleton_branches(loop, (1, 1, 1))) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of another package
def test_branches_of_a_random_network_agree_with_skan():
    """Between the chords and the voxel staircase of an independent analysis of the same skeleton."""
    skan = pytest.importorskip("skan", reason="skan is not installed: pip install '.[metrics]'")
    ends = np.random.default_rng(4).uniform(0.05, 0.95, (8, 2, 3)) * np.multiply(SHAPE, VOXEL)
    ends[..., 0] = 3.2  # in one plane they cross
    skeleton = skeletonize(tubes(*ends) > 0.4)
    table = skan.summarize(skan.Skeleton(skeleton, spacing=VOXEL), separator="-")
    ours = sum(branch.length_um for branch in skeleton_branches(skeleton, VOXEL))
    chords = table["euclidean-distance"].sum()
    assert len(table) > 12
    assert ours == pytest.approx(chords, rel=0.04)  # straight from junction to junction
    assert ours < table["branch-distance"].sum()


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError, match="Z, Y, X"):
        trace_filaments(np.zeros((8, 8)), VOXEL)
    with pytest.raises(VolumeError, match="voxel size"):
        trace_filaments(np.zeros((8, 8, 8)), (0.2, 0.1))
