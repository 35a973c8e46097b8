import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_vqldm.config import OpticsConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.metrics.bending import persistence_length
from napari_vqldm.metrics.filaments import trace_filaments
from napari_vqldm.simulate.filaments import directions, grow
from napari_vqldm.simulate.optics import reach_um
from napari_vqldm.simulate.render import Renderer

VOXEL = (0.2, 0.1, 0.1)
SHAPE = (72, 160, 160)  # 14.4 x 16 x 16 um: no filament of 12 um is cut, however it lies
BORDER_UM, GAP_UM, PER_VOLUME, CONTOUR_UM = 0.8, 1.5, 6, 12.0


def chains(count, persistence_length_um, seed, contour=CONTOUR_UM):
    rng = np.random.default_rng(seed)
    return grow(np.zeros((count, 3)), directions(rng, count), np.full(count, contour), persistence_length_um, rng)


def placed(lines, seed):
    """Move every filament to a free place of a volume, or of the next one: none is rejected for its shape."""
    rng = np.random.default_rng(seed)
    waiting, volumes = list(lines), []
    while waiting:
        here, later = [], []
        for line in waiting:
            room = np.multiply(SHAPE, VOXEL) - 2 * BORDER_UM - np.ptp(line, axis=0)
            places = line - line.min(0) + BORDER_UM + rng.uniform(size=(30, 1, 3)) * room
            taken = cKDTree(np.concatenate(here)) if here else None
            free = (p for p in places if taken is None or taken.query(p)[0].min() > GAP_UM)
            spot = next(free, None) if len(here) < PER_VOLUME else None
            (later.append(line) if spot is None else here.append(spot))
        volumes.append(here)
        waiting = later
    return volumes


def traced(volumes, photons=None):
    optics = OpticsConfig()
    margin = tuple(int(np.ceil(r / s)) for r, s in zip(reach_um(optics), VOXEL, strict=True))
    renderer = Renderer(SHAPE, optics, margin, torch.device("cpu"))
    found = []
    for number, lines in enumerate(volumes):
        volume = renderer.render(lines, [1.0] * len(lines), VOXEL, 1.0).numpy()
        if photons is not None:
            volume = np.random.default_rng(number).poisson((volume + 0.1) * photons) / photons - 0.1
        found.extend(trace_filaments(volume, VOXEL).filaments)
    return found


@pytest.mark.parametrize("true", [5.0, 20.0, 60.0])
def test_the_persistence_length_of_centre_lines(true):
    found = persistence_length(chains(1000, true, seed=int(true)))
    assert found.length_um == pytest.approx(true, rel=0.05)
    assert found.reason == ""


def test_the_error_is_the_scatter_of_repeated_measurements():
    found = [persistence_length(chains(40, 15.0, seed)) for seed in range(30)]
    scatter = np.std([f.length_um for f in found])
    assert np.median([f.error_um for f in found]) == pytest.approx(scatter, rel=0.35)


def test_a_rough_trace_is_not_a_flexible_filament():
    """Traces wander about the centre line: every cosine loses a factor, which a fixed intercept would call bending."""
    rng = np.random.default_rng(7)
    rough = []
    for line in chains(800, 20.0, seed=3):
        wander = ndimage.gaussian_filter1d(rng.normal(size=line.shape), 2.0, axis=0)
        rough.append(line + 0.045 * wander / wander.std())
    found = persistence_length(rough)
    forced = -found.separation_um[0] / np.log(found.mean_cosine[0])
    assert forced < 0.85 * 20.0
    assert found.length_um == pytest.approx(20.0, rel=0.08)


def test_cutting_filaments_does_not_change_it():
    whole = chains(500, 12.0, seed=5)
    cut = [piece for line in whole for piece in np.array_split(line, 3)]
    assert persistence_length(cut).length_um == pytest.approx(persistence_length(whole).length_um, rel=0.08)


def test_little_filament_gives_a_reason_and_straight_ones_infinity():
    few = persistence_length(chains(1, 10.0, seed=0))
    assert np.isnan(few.length_um) and "11.0 um" in few.reason and "20 um" in few.reason
    assert persistence_length([]).reason.startswith("0.0 um")
    short = persistence_length(chains(40, 10.0, seed=0, contour=1.7))
    assert np.isnan(short.length_um) and "span" in short.reason
    straight = persistence_length([np.array([(0.0, 0, 0), (0, 3, 30)])])
    assert straight.length_um == np.inf or straight.length_um > 1e4


def test_wrong_separations_are_refused():
    with pytest.raises(ConfigError, match="separations"):
        persistence_length([], (4.0, 1.0))


@pytest.mark.slow
def test_isolated_filaments_keep_it_through_microscope_and_tracer():
    lines = chains(24, 10.0, seed=10)
    found = traced(placed(lines, seed=1))
    assert persistence_length(found).length_um == pytest.approx(persistence_length(lines).length_um, rel=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("true", [5.0, 10.0, 20.0])
def test_the_persistence_length_of_rendered_filaments(true):
    """Contour 12 um, none cut, noise-free: within 15 % of the truth, and near the same measure of the centre lines."""
    lines = chains(240, true, seed=int(true) + 100)
    volumes = placed(lines, seed=2)
    found = traced(volumes)
    assert persistence_length(found).length_um == pytest.approx(true, rel=0.15)
    assert persistence_length(found).length_um == pytest.approx(persistence_length(lines).length_um, rel=0.05)


@pytest.mark.slow
def test_photon_noise_hardly_changes_it():
    lines = chains(120, 20.0, seed=11)
    found = traced(placed(lines, seed=3), photons=80.0)
    assert persistence_length(found).length_um == pytest.approx(persistence_length(lines).length_um, rel=0.1)
