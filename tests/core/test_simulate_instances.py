"""Instance labels lie where their filament's light is, and nowhere else."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from napari_vqldm.config import Float3, SimulationConfig
from napari_vqldm.errors import ShapeError
from napari_vqldm.simulate import Simulator, label_filaments
from napari_vqldm.simulate.optics import line_width_um
from napari_vqldm.simulate.render import Renderer
from napari_vqldm.simulation import simulate

VOXEL: Float3 = (0.2, 0.1, 0.1)
WIDTH = (0.21, 0.48)
CONFIG = SimulationConfig(shape=(16, 48, 48))
DENSE = SimulationConfig(shape=(16, 48, 48), length_density_um_per_um3=(1.5, 2.0))


def along_x(z: float, y: float) -> np.ndarray:
    return np.stack([np.full(50, z), np.full(50, y), np.linspace(0.0, 4.8, 50)], axis=1)


def to_segments(points: np.ndarray, line: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Distance of points to a polyline in scaled coordinates, segment by segment."""
    points, line = points / scale, line / scale
    best = np.full(len(points), np.inf)
    for start, end in pairwise(line):
        along = end - start
        t = np.clip((points - start) @ along / max(float(along @ along), 1e-30), 0.0, 1.0)
        best = np.minimum(best, np.linalg.norm(points - (start + t[:, None] * along), axis=1))
    return best


def test_a_straight_filament_owns_its_half_maximum_ellipse() -> None:
    labels = label_filaments([along_x(1.7, 2.45)], [7], (16, 48, 48), VOXEL, WIDTH)
    assert labels.dtype == np.int32 and set(np.unique(labels)) == {0, 7}
    z, y = (np.arange(16) + 0.5) * 0.2, (np.arange(48) + 0.5) * 0.1
    inside = np.hypot((z[:, None] - 1.7) / 0.48, (y - 2.45) / 0.21) <= 0.5
    np.testing.assert_array_equal(labels[:, :, 24] == 7, inside)
    # Half maximum of the image itself, not of the formula.
    renderer = Renderer((16, 48, 48), CONFIG.optics, (9, 10, 10), torch.device("cpu"))
    image = renderer.render([along_x(1.7, 2.45) * (1, 1, 3) - (0, 0, 4.8)], [1.0], VOXEL, 1.0).numpy()
    assert image[:, :, 24][inside].min() > 0.45
    assert image[:, :, 24][~inside].max() < 0.6


@pytest.mark.slow
def test_every_labelled_voxel_is_within_the_width_of_its_own_filament_and_no_nearer_to_another() -> None:
    result = simulate(1, seed=5, config=DENSE)[0]
    labels = result.labels
    assert labels is result.labels and labels.shape == DENSE.shape and labels.max() >= 10
    assert set(np.unique(labels)) - {0} <= set(result.instances)
    lateral, axial = result.line_width_um
    scale = np.array([axial, lateral, lateral])
    where = np.argwhere(labels > 0)
    points, owner = (where + 0.5) * VOXEL, labels[tuple(where.T)]
    distance = np.full((len(points), max(result.instances) + 1), np.inf)
    for line, number in zip(result.centre_lines, result.instances, strict=True):
        distance[:, number] = np.minimum(distance[:, number], to_segments(points, line, scale))
    own = distance[np.arange(len(points)), owner]
    assert own.max() <= 0.5 + 1e-6  # points on a line stand for it, never nearer than the line itself
    assert (own - distance.min(axis=1)).max() < 0.01
    # And what is within half a width of a line is labelled, but for a rim thinner than the spacing of those points.
    empty = (np.argwhere(labels == 0) + 0.5) * VOXEL
    nearest = np.full(len(empty), np.inf)
    for line in result.centre_lines:
        nearest = np.minimum(nearest, to_segments(empty, line, scale))
    assert nearest.min() > 0.49


def test_labels_cover_the_light_of_the_filaments() -> None:
    result = simulate(1, seed=5, config=CONFIG)[0]
    on, off = result.clean.data[result.labels > 0], result.clean.data[result.labels == 0]
    assert np.median(on) > 0.6 and np.median(off) < 0.1


def test_crossings_are_cut_along_the_middle() -> None:
    first = along_x(1.7, 2.4)
    second = first[:, [0, 2, 1]]  # along y, through (1.7, 2.4, 2.4) as well
    labels = label_filaments([first, second], [1, 2], (16, 48, 48), VOXEL, WIDTH)
    assert labels[8, 24, 30] == 1 and labels[8, 30, 24] == 2
    plane = labels[8]
    assert np.count_nonzero(plane == 1) == pytest.approx(np.count_nonzero(plane == 2), abs=2)
    parallel = label_filaments([along_x(1.7, 2.36), along_x(1.7, 2.44)], [1, 2], (16, 48, 48), VOXEL, WIDTH)
    y = (np.arange(48) + 0.5) * 0.1
    assert set(parallel[8, y < 2.4, 20]) == {0, 1} and set(parallel[8, y > 2.4, 20]) == {0, 2}


def test_pieces_of_one_filament_share_a_number() -> None:
    scene = Simulator(CONFIG).scene(5, 0)
    pieces, numbers = scene.numbered_pieces()
    assert [p.tolist() for p in pieces] == [p.tolist() for p in scene.centre_lines()]
    assert numbers[0] == 1 and set(np.diff(numbers)) <= {0, 1}
    inside = sum(any((line[:, a] > 0).any() for a in range(3)) for line in scene.filaments)
    assert max(numbers) <= inside
    batch = Simulator(CONFIG).sample(5, [0], noisy=False)
    assert batch.instances == [numbers]
    lateral, axial = line_width_um(CONFIG.optics, scene.parameters.psf_width_factor)
    assert simulate(1, seed=5, config=CONFIG)[0].line_width_um == (lateral, axial)


def test_wrong_numbers_are_refused_and_nothing_is_nothing() -> None:
    assert not label_filaments([], [], (4, 8, 8), VOXEL, WIDTH).any()
    for numbers in ([], [0], [1, 2]):
        with pytest.raises(ShapeError, match="one number of 1 or more per line"):
            label_filaments([along_x(1.0, 1.0)], numbers, (4, 8, 8), VOXEL, WIDTH)
