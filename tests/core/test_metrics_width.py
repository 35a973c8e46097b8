import numpy as np
import pytest
import torch

from napari_vqldm.config import OpticsConfig
from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.filaments import trace_filaments
from napari_vqldm.metrics.width import WidthSettings, filament_width, full_width
from napari_vqldm.simulate.optics import line_width_um, reach_um
from napari_vqldm.simulate.render import Renderer

VOXEL = (0.2, 0.1, 0.1)
SHAPE = (32, 96, 96)
LINES = [  # apart by more than the profiles reach, off the voxel centres, at several angles
    np.array([(3.13, 1.3, 1.0), (3.42, 2.7, 8.6)]),
    np.array([(3.31, 4.1, 1.0), (2.94, 4.9, 8.6)]),
    np.array([(2.97, 8.6, 1.4), (3.38, 6.6, 8.6)]),
]


def image(optics, lines=LINES, factor=1.0, shape=SHAPE, voxel=VOXEL):
    margin = tuple(int(np.ceil(r / s)) for r, s in zip(reach_um(optics, factor), voxel, strict=True))
    renderer = Renderer(shape, optics, margin, torch.device("cpu"))
    return renderer.render(lines, [1.0] * len(lines), voxel, factor).numpy()


@pytest.mark.parametrize(
    "optics, reach",
    [
        (OpticsConfig(), 1.2),
        (OpticsConfig(numerical_aperture=1.2, immersion_index=1.33), 1.2),
        (OpticsConfig(modality="widefield"), 2.0),
        (OpticsConfig(modality="widefield", numerical_aperture=1.2, immersion_index=1.33), 2.4),
    ],
)
def test_the_width_is_that_of_the_optics(optics, reach):
    volume = image(optics)
    lateral, axial = line_width_um(optics)
    found = filament_width(volume, LINES, VOXEL, WidthSettings(axial_reach_um=reach))
    assert found.lateral_um == pytest.approx(lateral, rel=0.1)
    assert found.axial_um == pytest.approx(axial, rel=0.1)
    assert found.reason == ""


def test_traces_and_noise_give_the_same_width():
    optics = OpticsConfig()
    clean = image(optics)
    noisy = np.random.default_rng(0).poisson((clean + 0.1) * 80) / 80
    lateral, axial = line_width_um(optics)
    found = filament_width(noisy * 30 + 100, trace_filaments(noisy - 0.1, VOXEL).filaments, VOXEL)
    assert found.lateral_um == pytest.approx(lateral, rel=0.1)
    assert found.axial_um == pytest.approx(axial, rel=0.1)


def test_a_psf_fifteen_percent_wider_is_measured_fifteen_percent_wider():
    optics = OpticsConfig()
    narrow, wide = (filament_width(image(optics, factor=f), LINES, VOXEL) for f in (1.0, 1.15))
    assert wide.lateral_um / narrow.lateral_um == pytest.approx(1.15, abs=0.03)
    assert wide.axial_um / narrow.axial_um == pytest.approx(1.15, abs=0.04)


def test_the_width_does_not_depend_on_the_voxels():
    optics = OpticsConfig()
    fine = image(optics, shape=(48, 144, 144), voxel=(0.13, 0.065, 0.065))
    found = filament_width(fine, LINES, (0.13, 0.065, 0.065))
    assert found.lateral_um == pytest.approx(line_width_um(optics)[0], rel=0.1)
    assert found.axial_um == pytest.approx(line_width_um(optics)[1], rel=0.1)


def test_neighbours_are_left_out():
    """Filaments side by side would look like one wide one."""
    crowd = [*LINES, LINES[1] + (0.0, 0.25, 0.0)]
    found = filament_width(image(OpticsConfig(), crowd), crowd, VOXEL)
    alone = filament_width(image(OpticsConfig()), LINES, VOXEL)
    assert 3 <= found.num_stretches < alone.num_stretches
    assert found.lateral_um == pytest.approx(alone.lateral_um, rel=0.05)


def test_without_isolated_stretches_there_is_no_width_but_a_reason():
    found = filament_width(np.zeros(SHAPE), [], VOXEL)
    assert np.isnan(found.lateral_um) and "0 straight isolated stretches" in found.reason
    flat = filament_width(np.zeros(SHAPE), LINES, VOXEL)
    assert np.isnan(flat.lateral_um) and flat.reason
    upright = [np.array([(0.5, 4.0, 4.0), (6.0, 4.0, 4.5)])]
    assert filament_width(image(OpticsConfig(), upright), upright, VOXEL).num_stretches == 0


def test_full_width_of_known_profiles():
    x = np.linspace(-2, 2, 401)
    assert full_width(x, np.exp(-0.5 * (x / 0.3) ** 2)) == pytest.approx(0.3 * 2 * np.sqrt(2 * np.log(2)), rel=1e-3)
    assert full_width(x, np.maximum(1 - np.abs(x), 0)) == pytest.approx(1.0)
    assert np.isnan(full_width(x, np.ones_like(x)))


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError, match="Z, Y, X"):
        filament_width(np.zeros((8, 8)), [], VOXEL)
