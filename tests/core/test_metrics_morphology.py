import json

import numpy as np
import pytest

from napari_vqldm.errors import ConfigError, ShapeError, VolumeError
from napari_vqldm.metrics.bending import mean_curvature
from napari_vqldm.metrics.contacts import end_density, find_contacts
from napari_vqldm.metrics.filaments import TracerSettings, filament_mask, trace_filaments
from napari_vqldm.metrics.morphology import QUANTITIES, morphology, nematic_order, orientation_tensor
from napari_vqldm.metrics.morphology_distance import morphology_distance, wasserstein_per_sd
from napari_vqldm.metrics.tracer_bias import tracer_bias, tracer_file
from napari_vqldm.simulate import Simulator, tier
from napari_vqldm.simulate.filaments import directions, grow

EXTENT = (6.4, 12.8, 12.8)


def straight(start, stop):
    return np.array([start, stop], float)


def circle(radius, share=0.75, plane=(1, 2)):
    angle = np.linspace(0.0, 2 * np.pi * share, 400)
    line = np.full((400, 3), 3.2)
    line[:, plane[0]], line[:, plane[1]] = 6.4 + radius * np.sin(angle), 6.4 + radius * np.cos(angle)
    return line


@pytest.mark.parametrize("radius", [2.0, 4.0, 8.0])
@pytest.mark.parametrize("plane", [(1, 2), (0, 2)])
def test_the_curvature_of_a_circle_is_one_over_its_radius(radius, plane):
    shrunk = np.exp(0.5**2 / (2 * radius**2))  # by the smoothing, as the docstring says
    assert mean_curvature([circle(radius, plane=plane)]) == pytest.approx(shrunk / radius, rel=0.01)


def test_the_curvature_of_a_worm_like_chain_follows_from_the_smoothing():
    """White-noise curvature of density 1/Lp per transverse axis, behind a Gaussian: a Rayleigh mean."""
    rng = np.random.default_rng(0)
    for lp, sigma in ((10.0, 0.5), (40.0, 0.8)):
        lines = grow(np.zeros((200, 3)), directions(rng, 200), np.full(200, 15.0), lp, rng)
        expected = np.sqrt(np.pi / 2) / np.sqrt(2 * np.sqrt(np.pi) * sigma * lp)
        assert mean_curvature(lines, sigma) == pytest.approx(expected, rel=0.04)


def test_a_straight_line_does_not_bend_and_a_short_one_says_nothing():
    assert mean_curvature([straight((1, 1, 1), (5, 9, 11))]) == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(mean_curvature([straight((1, 1, 1), (1, 1, 2.5))]))


@pytest.mark.parametrize("degrees", [0, 30, 90, 135])
def test_parallel_filaments_are_ordered_along_their_direction(degrees):
    a = np.radians(degrees)
    step = 4 * np.array([0, np.sin(a), np.cos(a)])
    lines = [straight(p, p + step) for p in np.random.default_rng(1).uniform(1, 5, (5, 3))]
    order, director = nematic_order(orientation_tensor(lines))
    assert order == pytest.approx(1.0)
    assert min(abs(director - degrees), 180 - abs(director - degrees)) < 1e-6


def test_isotropic_filaments_have_no_order_and_a_third_of_z():
    unit = directions(np.random.default_rng(2), 2000)
    lines = [straight((0, 0, 0), 2 * u) for u in unit]
    tensor = orientation_tensor(lines)
    assert np.trace(tensor) == pytest.approx(1.0)
    assert tensor[0, 0] == pytest.approx(1 / 3, abs=0.02)
    assert nematic_order(tensor)[0] < 0.06


def test_orientation_counts_length_not_filaments():
    tensor = orientation_tensor([straight((0, 0, 0), (0, 0, 9)), *[straight((0, 0, 0), (0, 1, 0))] * 3])
    assert tensor[2, 2] == pytest.approx(0.75)


def test_junctions_and_branches_of_a_lattice():
    """Three lines across three: nine junctions, and in between what is left of the lines."""
    rows = [straight((3.2, y, 1), (3.2, y, 11)) for y in (3.0, 6.0, 9.0)]
    columns = [straight((3.2, 1, x), (3.2, 11, x)) for x in (3.0, 6.0, 9.0)]
    found = find_contacts([*rows, *columns])
    assert found.num_junctions == 9
    assert sorted(found.branch_lengths_um) == pytest.approx([2.0] * 12 + [3.0] * 12, abs=0.11)
    above = [np.add(line, (0.6, 0, 0)) for line in columns]  # further apart than the microscope is long-sighted
    assert find_contacts([*rows, *above]).num_junctions == 0


def test_a_branch_divides_the_filament_that_it_ends_on_and_a_bundle_is_one_junction():
    through, branch = straight((3.2, 6, 1), (3.2, 6, 11)), straight((3.2, 6, 6), (3.2, 11, 6))
    found = find_contacts([through, branch])
    assert found.num_junctions == 1
    assert sorted(found.branch_lengths_um) == pytest.approx([5.0, 5.0, 5.0], abs=0.11)
    assert find_contacts([through, np.add(through, (0, 0.1, 0))]).num_junctions == 1


def test_a_filament_that_crosses_itself_has_a_junction():
    angle = np.linspace(-0.4 * np.pi, 1.4 * np.pi, 300)
    loop = np.stack([np.full(300, 3.2), 6 + 3 * np.sin(2 * angle), 6 + 3 * np.sin(angle)], 1)  # an eight
    assert find_contacts([loop]).num_junctions == 1


def test_ends_at_the_faces_are_cuts():
    lines = [straight((3.2, 6, 0), (3.2, 6, 12.8)), straight((3.2, 3, 0), (3.2, 3, 6)), circle(2.0)]
    inner = (6.4 - 0.8) * (12.8 - 0.8) ** 2
    assert end_density(lines, EXTENT) == pytest.approx(3 / inner)
    closed = circle(2.0, 1.0)
    closed[-1] = closed[0]
    assert end_density([closed], EXTENT) == 0.0
    assert np.isnan(end_density(lines, (0.5, 12.8, 12.8)))


def test_end_density_of_a_random_process_is_two_per_filament():
    """Filaments uniform in a larger box: the density of ends does not depend on where faces cut."""
    rng = np.random.default_rng(3)
    count, outer = 3000, np.array([18.4, 24.8, 24.8])
    start = rng.uniform(size=(count, 3)) * outer - 6
    stop = start + 4 * directions(rng, count)
    size = np.array(EXTENT)
    cut = []
    for a, b in zip(start, stop, strict=True):
        part = a + np.linspace(0, 1, 401)[:, None] * (b - a)
        inside = ((part >= 0) & (part <= size)).all(1)
        if inside.sum() > 1:
            cut.append(part[inside])
    assert end_density(cut, EXTENT) == pytest.approx(2 * count / outer.prod(), rel=0.1)


def test_the_table_of_a_simulated_volume_has_its_exact_length_and_its_trace_comes_near():
    batch = Simulator(tier("standard").model_copy(update={"organisation": {"free": 1.0}})).sample(77, [0], noisy=False)
    true = morphology(batch.centre_lines[0], EXTENT)
    assert true.length_density_um_per_um3 == pytest.approx(batch.parameters[0].length_density_um_per_um3, rel=1e-6)
    traced = morphology(trace_filaments(batch.clean[0, 0].numpy(), (0.2, 0.1, 0.1)).filaments, EXTENT)
    for name in ("length_density_um_per_um3", "mean_curvature_per_um", "nematic_order", "z_alignment"):
        assert getattr(traced, name) == pytest.approx(getattr(true, name), rel=0.25, abs=0.05), name
    values = json.loads(json.dumps(traced.to_dict(), allow_nan=False))
    assert np.trace(values["orientation"]) == pytest.approx(1.0)


def test_nothing_traced_is_no_number_and_still_json():
    empty = morphology([], EXTENT)
    assert empty.length_density_um_per_um3 == empty.junctions_per_um3 == empty.ends_per_um3 == 0.0
    assert "expected at least 20" in empty.persistence_reason
    assert json.loads(json.dumps(empty.to_dict(), allow_nan=False))["mean_curvature_per_um"] is None


def networks(count, seed, lp=20.0, filaments=20):
    rng = np.random.default_rng(seed)
    sets = []
    for _ in range(count):
        spread = (rng.uniform(0.3, 1), 1.0, rng.uniform(0.5, 1))
        n = int(rng.integers(filaments // 2, filaments * 2))
        lines = grow(rng.uniform(0, 6, (n, 3)), directions(rng, n, spread), rng.uniform(2, 8, n), lp, rng)
        sets.append(morphology(lines, (10.0, 14.0, 14.0)))
    return sets


def test_a_set_of_other_bending_is_further_than_one_of_the_same_kind():
    reference, same, softer = networks(16, 0), networks(16, 1), networks(16, 2, lp=6.0)
    near, far = morphology_distance(same, reference), morphology_distance(softer, reference)
    assert far.frechet > 3 * near.frechet and near.frechet < 4 * near.frechet_floor
    assert far.w1_per_sd["bending_per_um"] > 3 * near.w1_per_sd["bending_per_um"]
    assert far.w1_per_sd["mean_curvature_per_um"] > 3 * near.w1_per_sd["mean_curvature_per_um"]
    assert set(far.w1_per_sd) == set(QUANTITIES)
    itself = morphology_distance(reference, reference)
    assert itself.frechet == pytest.approx(0.0, abs=1e-6) and max(itself.w1_per_sd.values()) == 0.0
    json.dumps(far.to_dict(), allow_nan=False)


def test_too_few_volumes_give_no_frechet_distance_and_say_so():
    few = networks(3, 0)
    found = morphology_distance(few, few)
    assert np.isnan(found.frechet) and "at least 10" in found.reason
    with pytest.raises(ShapeError, match="two sets"):
        morphology_distance([], few)


def test_wasserstein_of_a_shift_is_the_shift():
    values = np.random.default_rng(0).normal(0, 2, 500)
    shifted = wasserstein_per_sd(np.append(values + 1.0, np.nan), values)
    assert shifted == pytest.approx(1.0 / values.std(ddof=1))
    assert np.isnan(wasserstein_per_sd(values, np.ones(5)))


def test_the_frozen_constants_are_those_of_every_published_number():
    assert tracer_file().version == 1
    assert TracerSettings() == TracerSettings(0.10, 0.08, 0.20, 0.45, 0.5, 0.4, 0.5, 0.5, 55.0)


def test_the_bias_is_printed_for_every_number_and_organisation():
    bias = tracer_bias()
    text = "\n".join(bias.lines())
    for name in ("length density", "median connected length", "mean curvature", "persistence length", "F1"):
        assert name in text
    assert {"free", "aligned", "aster", "spindle"} <= set(bias.by_organisation)
    assert abs(bias.by_organisation["free"]["length_density"]) < 0.1  # resolved networks
    assert bias.by_organisation["spindle"]["length_density"] < -0.2  # and what is not


def test_the_mask_holds_what_is_traced():
    batch = Simulator(tier("standard")).sample(31, [0], noisy=False)
    volume = batch.clean[0, 0].numpy()
    mask = filament_mask(volume, (0.2, 0.1, 0.1))
    points = np.concatenate(trace_filaments(volume, (0.2, 0.1, 0.1)).filaments)
    assert (
        mask[tuple(np.floor(points / (0.2, 0.1, 0.1)).astype(int).T)].mean() > 0.95
    )  # joined over the middle of a junction, a line may leave it


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of another package
def test_branch_lengths_agree_with_skan():
    """The same lattice as voxels: an independent graph analysis finds as many junctions and the same median branch."""
    skan = pytest.importorskip("skan", reason="skan is not installed: pip install '.[metrics]'")
    lattice = np.zeros((3, 120, 120), bool)
    lattice[1, 10:110, [30, 60, 90]] = lattice[1, [30, 60, 90], 10:110] = True
    table = skan.summarize(skan.Skeleton(lattice, spacing=(0.2, 0.1, 0.1)), separator="-")
    rows = [straight((0.3, y, 1), (0.3, y, 11)) for y in (3.0, 6.0, 9.0)]
    columns = [straight((0.3, 1, x), (0.3, 11, x)) for x in (3.0, 6.0, 9.0)]
    ours = find_contacts([*rows, *columns])
    branches = table["branch-distance"][table["branch-distance"] > 0.5]
    assert len(branches) == len(ours.branch_lengths_um)
    assert np.sort(ours.branch_lengths_um) == pytest.approx(np.sort(branches), abs=0.25)


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError, match="polylines"):
        morphology([np.zeros((4, 2))], EXTENT)
    with pytest.raises(ShapeError, match="finite"):
        morphology([np.full((4, 3), np.nan)], EXTENT)
    with pytest.raises(VolumeError, match="extent"):
        morphology([], (1.0, 0.0, 1.0))
    with pytest.raises(ConfigError, match="smoothing"):
        mean_curvature([], 0.0)
