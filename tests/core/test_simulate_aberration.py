"""Focus behind a mismatched layer: widths of independent computations, ray optics, and images that stay in place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_vqldm.config import Float3, OpticsConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate.aberration import aberrated_intensity, brightest_focus_um, full_width
from napari_vqldm.simulate.optics import line_width_um, psf, reach_um
from napari_vqldm.simulate.render import Renderer

VOXEL: Float3 = (0.2, 0.1, 0.1)
DEEP = OpticsConfig(modality="widefield", specimen_index=1.38, depth_um=5.0)
DEEP_CONFOCAL = OpticsConfig(specimen_index=1.38, depth_um=5.0)


def margin_of(optics: OpticsConfig) -> tuple[int, int, int]:
    z, y, x = (int(np.ceil(r / s)) for r, s in zip(reach_um(optics), VOXEL, strict=True))
    return z, y, x


def along_z(optics: OpticsConfig, half: int = 60, step: float = 0.05) -> np.ndarray:
    """A line along x, seen from above and below."""
    return np.asarray(psf(optics, (step, 0.05, 0.05), 1.0, (2 * half + 1, 1, 61)).sum(axis=2)[:, 0])


@pytest.mark.parametrize("wavelength", [0.57, 0.6])
def test_a_line_five_micrometres_deep_is_as_wide_as_independent_computations_say(wavelength: float) -> None:
    deep = DEEP.model_copy(update={"emission_wavelength_um": wavelength})
    assert line_width_um(deep) == pytest.approx((0.29, 1.23), rel=0.1)
    profile = along_z(deep)
    assert full_width(0.05 * np.arange(len(profile)), profile) == pytest.approx(line_width_um(deep)[1], rel=0.03)


@pytest.mark.parametrize("modality", ["widefield", "confocal"])
def test_without_depth_it_is_the_matched_focus(modality: str) -> None:
    matched = OpticsConfig(modality=modality)  # type: ignore[arg-type]
    nearly = matched.model_copy(update={"specimen_index": 1.5149, "depth_um": 1e-3})
    assert nearly.is_aberrated and not matched.is_aberrated
    assert not matched.model_copy(update={"specimen_index": 1.38}).is_aberrated  # at the cover slip
    assert not matched.model_copy(update={"specimen_index": 1.515, "depth_um": 9.0}).is_aberrated
    shape = (13, 21, 21)
    np.testing.assert_allclose(psf(nearly, VOXEL, 1.0, shape), psf(matched, VOXEL, 1.0, shape), atol=0.005)
    assert line_width_um(nearly) == pytest.approx(line_width_um(matched), rel=0.003)


@pytest.mark.parametrize("specimen, immersion", [(1.33, 1.515), (1.33, 1.0), (1.45, 1.33)])
def test_narrow_cones_focus_where_paraxial_optics_says(specimen: float, immersion: float) -> None:
    optics = OpticsConfig(
        modality="widefield", numerical_aperture=0.3, immersion_index=immersion, specimen_index=specimen, depth_um=20.0
    )
    assert brightest_focus_um(optics) == pytest.approx(20.0 * immersion / specimen, rel=0.02)


@pytest.mark.parametrize("aperture, immersion, specimen, depth", [(1.4, 1.515, 1.38, 5.0), (1.2, 1.33, 1.45, 10.0)])
def test_fringes_lie_where_marginal_rays_cross_the_axis(
    aperture: float, immersion: float, specimen: float, depth: float
) -> None:
    """Snell's law: into a lower index marginal rays cross deeper than paraxial ones, into a higher index less deep."""
    sine = np.array([1e-3, 0.8 * min(aperture, specimen)])  # n sin(theta)
    crossing = depth * np.tan(np.arcsin(sine / specimen)) / np.tan(np.arcsin(sine / immersion))
    optics = OpticsConfig(
        modality="widefield",
        numerical_aperture=aperture,
        immersion_index=immersion,
        specimen_index=specimen,
        depth_um=depth,
    )
    on_axis = psf(optics, (0.05, 0.05, 0.05), 1.0, (121, 1, 1))[:, 0, 0]
    rise = []  # of the brightest fringe over the dark one before it, on either side
    for outward in (on_axis[60::-1], on_axis[60:]):
        rise.append(float((outward - np.minimum.accumulate(outward)).max() / on_axis.max()))
    marginal = int(crossing[1] > crossing[0])
    assert rise[marginal] > 0.05 and rise[marginal] > 2.0 * rise[1 - marginal]


def test_deeper_is_wider_and_the_line_stays_at_height_one_in_the_middle() -> None:
    widths = [line_width_um(DEEP_CONFOCAL.model_copy(update={"depth_um": d})) for d in (1.0, 3.0, 6.0)]
    assert widths[0][1] < widths[1][1] < widths[2][1]
    assert widths[0][0] < widths[2][0]
    for optics in (DEEP, DEEP_CONFOCAL):
        kernel = psf(optics, VOXEL, 1.0, (31, 21, 21))
        lines = kernel.sum(axis=2) * VOXEL[2]
        assert lines[15, 10] == pytest.approx(1.0) and lines.max() == pytest.approx(1.0, abs=1e-3)
        np.testing.assert_array_equal(kernel, kernel[:, ::-1])
        np.testing.assert_array_equal(kernel, kernel.transpose(0, 2, 1))
        assert np.abs(kernel - kernel[::-1]).max() > 0.02 * kernel.max()


def test_the_width_factor_scales_the_wavelength_and_not_the_depth() -> None:
    longer = DEEP.model_copy(update={"emission_wavelength_um": 0.75})
    np.testing.assert_allclose(psf(DEEP, VOXEL, 1.25, (25, 11, 11)), psf(longer, VOXEL, 1.0, (25, 11, 11)), atol=0.01)
    assert line_width_um(DEEP, 1.25) == pytest.approx(line_width_um(longer), rel=0.01)


@pytest.mark.parametrize("optics", [DEEP, DEEP_CONFOCAL], ids=["widefield", "confocal"])
def test_images_show_the_skewed_focus_and_leave_filaments_in_place(optics: OpticsConfig) -> None:
    margin = margin_of(optics)
    renderer = Renderer((24, 40, 40), optics, margin, torch.device("cpu"))
    centre = np.array([9.5, 20.5, 20.5]) * VOXEL
    point = centre + np.array([[0.0, 0.0, -1e-6], [0.0, 0.0, 1e-6]])
    image = renderer.render([point], [1.0 / 2e-6], VOXEL, 1.0).numpy()
    kernel = psf(optics, VOXEL, 1.0, (2 * margin[0] + 1, 2 * margin[1] + 1, 2 * margin[2] + 1))
    wanted = kernel[margin[0] - 7 : margin[0] + 8, margin[1], margin[2]]
    np.testing.assert_allclose(image[2:17, 20, 20], wanted, atol=2e-3 * kernel.max())
    line = centre + np.linspace(-6.0, 6.0, 121)[:, None] * np.array([0.0, 0.0, 1.0])
    image = renderer.render([line], [1.0], VOXEL, 1.0).numpy()
    assert np.unravel_index(image[:, :, 20].argmax(), (24, 40)) == (9, 20)
    assert image[9, 20, 20] == pytest.approx(1.0, abs=0.01)


def test_what_cannot_be_tabulated_is_refused() -> None:
    dim = OpticsConfig(modality="widefield", numerical_aperture=0.2, immersion_index=1.0, specimen_index=1.33)
    with pytest.raises(ConfigError, match="use a lower depth_um"):
        line_width_um(dim.model_copy(update={"depth_um": 10.0}))
    assert np.isnan(full_width(np.arange(4.0), np.array([1.0, 2.0, 3.0, 4.0])))


@pytest.mark.parametrize("depth", [0.0, 6.0])
def test_another_integrator_gives_the_same_focus(depth: float) -> None:
    """psf-generator (MIT), with the phase of the layer put into its pupil; NA 0.9, where Fresnel losses are even."""
    psf_generator = pytest.importorskip("psf_generator")
    size, planes, step = 41, 41, 100.0  # nm
    thick = OpticsConfig(
        modality="widefield",
        numerical_aperture=0.9,
        immersion_index=1.515,
        specimen_index=1.33,
        depth_um=max(depth, 1e-6),
    )
    z = np.linspace(-step * planes / 2, step * planes / 2, planes)
    intensity = np.zeros((planes, size, size))
    for polarization in ((1.0, 0.0), (0.0, 1.0)):
        other = psf_generator.VectorialSphericalPropagator(
            n_pix_pupil=801, n_pix_psf=size, wavelength=600.0, na=0.9, pix_size=60.0, defocus_step=step,
            n_defocus=planes, apod_factor=True, n_i=1.515, n_i0=1.515, e0x=polarization[0], e0y=polarization[1],
        )  # fmt: skip
        s = 1.515 * torch.sin(other.thetas)
        focus = 1e3 * brightest_focus_um(thick)
        path = 1e3 * depth * torch.sqrt(1.33**2 - s**2) - focus * torch.sqrt(1.515**2 - s**2)
        other.correction_factor = other.correction_factor * torch.exp(-2j * torch.pi / 600.0 * path)
        intensity += other.compute_focus_field().abs().square().sum(dim=1).numpy()
    x = np.linspace(-0.5, 0.5, size) * size * 60.0 * 1e-3
    focus_um = brightest_focus_um(thick) + 1e-3 * z
    ours = aberrated_intensity(thick, 0.6, focus_um, np.abs(x))
    theirs = intensity[:, size // 2] / intensity.max()
    np.testing.assert_allclose(ours / ours.max(), theirs, atol=0.03)
