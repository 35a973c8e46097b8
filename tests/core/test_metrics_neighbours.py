import numpy as np
import pytest

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.metrics import neighbours
from napari_vqldm.metrics.feature_copies import feature_copies


def gauss(seed, n=400, d=8, mean=0.0, sd=1.0):
    return np.random.default_rng(seed).normal(mean, sd, (n, d))


def slow_scores(x, y, k):
    """The definitions, one volume at a time."""

    def ball(points, i):
        return sorted(np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i)[k - 1]

    rx, ry = [ball(x, i) for i in range(len(x))], [ball(y, i) for i in range(len(y))]
    near = [[np.linalg.norm(a - b) for b in y] for a in x]
    inside = [[near[i][j] <= ry[j] for j in range(len(y))] for i in range(len(x))]
    precision = np.mean([any(row) for row in inside])
    density = np.sum(inside) / (k * len(x))
    coverage = np.mean([any(inside[i][j] for i in range(len(x))) for j in range(len(y))])
    recall = np.mean([any(near[i][j] <= rx[i] for i in range(len(x))) for j in range(len(y))])
    return precision, recall, density, coverage


def test_scores_follow_their_definitions():
    x, y = gauss(0, 30, 3), gauss(1, 40, 3, mean=0.4)
    found = neighbours.neighbour_scores(x, y, k=4)
    expected = slow_scores(x, y, 4)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)


def test_equal_normal_sets_score_the_published_values():
    """0.71, 0.74, 0.96, 0.97 at n = 1000, d = 64; coverage of equal sets is 1 - 2^-k."""
    s = neighbours.neighbour_scores(gauss(2, 1000, 64), gauss(3, 1000, 64))
    assert s.precision == pytest.approx(0.71, abs=0.06) and s.recall == pytest.approx(0.74, abs=0.06)
    assert s.density == pytest.approx(0.96, abs=0.08) and s.coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_dropped_modes_cost_recall_and_coverage_not_precision():
    modes = np.repeat(np.eye(8) * 20, 50, axis=0)
    reference, whole = modes + gauss(4, 400), modes + gauss(5, 400)
    full, dropped = (neighbours.neighbour_scores(x, reference) for x in (whole, whole[:200]))
    assert dropped.coverage == pytest.approx(0.5 * full.coverage, abs=0.05)
    assert dropped.recall == pytest.approx(0.5 * full.recall, abs=0.05)
    assert dropped.precision == pytest.approx(full.precision, abs=0.05)


def test_garbage_costs_precision_and_density_not_recall():
    reference, good, garbage = gauss(6), gauss(7), gauss(8, 400, mean=30.0)
    s = neighbours.neighbour_scores(np.concatenate([good, garbage]), reference)
    plain = neighbours.neighbour_scores(good, reference)
    assert s.precision == pytest.approx(0.5 * plain.precision, abs=0.02)
    assert s.density == pytest.approx(0.5 * plain.density, abs=0.05)
    assert s.recall == pytest.approx(plain.recall, abs=0.02)


def test_vendi_counts_orthogonal_groups():
    directions = np.repeat(np.eye(6), [5, 5, 5, 5, 5, 5], axis=0)
    assert neighbours.vendi_score(directions) == pytest.approx(6.0)
    assert neighbours.vendi_score(directions * np.arange(1, 31)[:, None]) == pytest.approx(6.0)  # lengths do not count
    assert neighbours.vendi_score(np.ones((10, 6))) == pytest.approx(1.0)
    assert neighbours.vendi_score(np.tile(gauss(9, 20), (10, 1))) == pytest.approx(neighbours.vendi_score(gauss(9, 20)))


def test_vendi_is_the_entropy_of_the_similarity_matrix_itself():
    rows = gauss(10, 25, 8)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / 25)
    values = values[values > 1e-12]
    assert neighbours.vendi_score(rows) == pytest.approx(np.exp(-(values * np.log(values)).sum()))


def test_the_vendi_ratio_falls_with_duplicates():
    reference = gauss(11, 200, 64)
    assert neighbours.vendi_ratio(gauss(12, 200, 64), reference) == pytest.approx(1.0, abs=0.03)
    assert neighbours.vendi_ratio(np.repeat(gauss(12, 20, 64), 10, axis=0), reference) < 0.5


def test_neighbours_need_enough_volumes_and_directions():
    with pytest.raises(ShapeError, match="at least 6"):
        neighbours.neighbour_scores(gauss(0, 5), gauss(1))
    with pytest.raises(VolumeError, match="zero"):
        neighbours.vendi_score(np.zeros((4, 3)))


def test_fresh_draws_are_no_copies_and_copies_are_found_with_their_originals():
    training, held_out, fresh = gauss(13, 1000), gauss(14, 1000), gauss(15, 1000)
    clear = feature_copies(fresh, training, held_out)
    assert clear.near_share == pytest.approx(0.01, abs=0.015)
    assert np.median(clear.ratio) == pytest.approx(1.0, abs=0.1)
    originals = np.arange(0, 1000, 20)
    fresh[: len(originals)] = training[originals] + 0.01 * gauss(16, len(originals))
    found = feature_copies(fresh, training, held_out)
    assert np.array_equal(found.training_index[: len(originals)], originals)
    assert found.near_share == pytest.approx(0.05 + 0.95 * 0.01, abs=0.015)
    assert found.ratio[: len(originals)].max() < 0.2


def test_a_turned_copy_is_found_among_the_orientations():
    training = gauss(17, 300)
    views = np.stack([gauss(18, 50), gauss(19, 50), training[:50], gauss(20, 50)], axis=1)
    held_out = np.stack([gauss(s, 300) for s in (21, 22, 23, 24)], axis=1)
    assert feature_copies(views, training, held_out).near_share == 1.0
    assert feature_copies(views[:, :2], training, held_out[:, :2]).near_share < 0.2


def test_copies_need_equal_orientations():
    with pytest.raises(ShapeError, match="orientations"):
        feature_copies(np.zeros((4, 2, 8)), gauss(0), gauss(1))
    with pytest.raises(ShapeError, match="equal numbers"):
        feature_copies(gauss(0), gauss(1, d=5), gauss(2))
