"""What a detector adds, measured on its records: photon transfer, fixed pattern, hot pixels, saturation, bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from napari_vqldm.config import CameraConfig, SimulationConfig, validate
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate import Simulator, camera_in_filament_units, noisy_in_filament_units, render_camera
from napari_vqldm.simulate.detector import hot_pixel_map, read_noise_map

VOXEL = (0.2, 0.1, 0.1)
IDEAL = CameraConfig(photons=150.0, background=0.2, read_noise_e=0.0)


def camera(**changes: object) -> CameraConfig:
    return validate(CameraConfig, IDEAL.model_dump() | changes)


def levels(count: int = 10, high: float = 3.0, pixels: int = 90) -> torch.Tensor:
    """One level per plane."""
    return torch.linspace(0.0, high, count)[None, None, :, None, None].expand(1, 1, count, pixels, pixels).contiguous()


def dark(planes: int = 200, height: int = 40, width: int = 48) -> torch.Tensor:
    return torch.zeros((1, 1, planes, height, width))


@pytest.mark.parametrize("gain", [0.5, 2.0])
@pytest.mark.parametrize("excess", [1.0, 1.1, 1.4])
def test_photon_transfer_gives_gain_and_excess_noise(gain: float, excess: float) -> None:
    """Variance over mean of repeated records of the same pixels, as cameras are calibrated: slope F^2 / gain."""
    detector = camera(gain_e_per_adu=gain, excess_noise=excess)
    records = torch.cat([render_camera(levels(), detector, VOXEL, [seed]) for seed in range(4)]).double()
    mean = records.mean((0, 1, 3, 4)).numpy()
    variance = records.var(dim=0).mean((0, 2, 3)).numpy()
    slope, constant = np.polyfit(mean, variance, 1, w=1.0 / variance)
    assert slope == pytest.approx(excess**2 / gain, rel=0.02)
    assert -constant / slope == pytest.approx(detector.offset_adu, rel=0.05)  # no shot noise without light
    expected = 100.0 + (np.linspace(0.0, 3.0, 10) + 0.2) * 150.0 * 0.8 / gain
    np.testing.assert_allclose(mean, expected, rtol=0.01)


def test_excess_noise_leaves_no_light_dark() -> None:
    few = render_camera(levels(1, 0.0), camera(excess_noise=1.4, photons=5.0, offset_adu=0.0), VOXEL, [1])
    assert few.min() == 0.0
    assert float((few == 0).double().mean()) == pytest.approx(np.exp(-0.8), abs=0.03)  # Poisson: mean 0.8 electrons


def test_every_pixel_has_its_own_read_noise_with_a_long_tail() -> None:
    detector = camera(read_noise_e=1.6, read_noise_spread=0.5, background=0.0, gain_e_per_adu=1.0)
    sd = render_camera(dark(), detector, VOXEL, [3])[0, 0].double().std(dim=0)
    assert float(sd.median()) == pytest.approx(1.6, rel=0.05)
    logarithm = torch.log(sd).flatten().numpy()
    assert logarithm.std() == pytest.approx(
        np.hypot(0.5, np.sqrt(0.5 / 199)), rel=0.06
    )  # and the spread of an estimate
    assert stats.skew(sd.flatten().numpy()) > 1.0 > 3.0 * abs(stats.skew(logarithm))
    torch.testing.assert_close(sd, read_noise_map(detector, 40, 48).double(), rtol=0.3, atol=0.0)


def test_the_pattern_is_that_of_the_sensor_in_every_plane_volume_and_record() -> None:
    detector = camera(read_noise_e=2.0, read_noise_spread=0.6, background=0.0)
    first, second = (render_camera(dark(), detector, VOXEL, [seed])[0, 0].double() for seed in (1, 2))
    assert not torch.equal(first, second)
    halves = [torch.log(part.std(dim=0)).flatten().numpy() for part in (first[:100], first[100:], second[:100])]
    assert np.corrcoef(halves[0], halves[1])[0, 1] > 0.95
    assert np.corrcoef(halves[0], halves[2])[0, 1] > 0.95
    other = render_camera(dark(), detector.model_copy(update={"sensor_seed": 1}), VOXEL, [1])[0, 0].double()
    assert abs(np.corrcoef(halves[0], torch.log(other.std(dim=0)).flatten().numpy())[0, 1]) < 0.1


def test_hot_pixels_have_their_share_and_stay_in_place() -> None:
    detector = camera(hot_pixel_share=0.02, hot_pixel_e=300.0, background=0.0, gain_e_per_adu=1.0, offset_adu=0.0)
    record = render_camera(dark(50, 100, 100), detector, VOXEL, [3])[0, 0].double()
    lit = record.mean(dim=0) > 0
    assert float(lit.double().mean()) == pytest.approx(0.02, rel=0.25)
    assert float(record.mean(dim=0)[lit].mean()) == pytest.approx(300.0, rel=0.25)
    assert torch.equal(lit, hot_pixel_map(detector, 100, 100) > 0)
    # Dark current is counted in electrons: Poisson, plane by plane.
    bright = record[:, hot_pixel_map(detector, 100, 100) > 50.0]
    assert float((bright.var(dim=0) / bright.mean(dim=0)).mean()) == pytest.approx(1.0, abs=0.06)


def test_a_full_well_caps_the_electrons() -> None:
    detector = camera(full_well_e=200.0, offset_adu=10.0)
    record = render_camera(levels(), detector, VOXEL, [1])
    assert float(record.max()) == 10.0 + 200.0 / 0.5
    assert float((record[0, 0, -1] == record.max()).double().mean()) > 0.99  # 384 electrons expected
    assert torch.equal(
        record[0, 0, 0], render_camera(levels(), IDEAL.model_copy(update={"offset_adu": 10.0}), VOXEL, [1])[0, 0, 0]
    )


@pytest.mark.parametrize("bits", [8, 12])
def test_counts_are_whole_and_fit_the_bits(bits: int) -> None:
    loud = {"photons": 2000.0, "background": 0.0, "read_noise_e": 30.0, "offset_adu": 5.0}
    exact, record = (render_camera(levels(), camera(**loud, **more), VOXEL, [1]) for more in ({}, {"bit_depth": bits}))
    assert torch.equal(record, record.round())
    assert record.min() == 0.0 and record.max() == 2**bits - 1
    assert torch.equal(record, exact.round().clamp(0, 2**bits - 1))


def test_unsaturated_counts_come_back_as_filament_units() -> None:
    detector = camera(read_noise_e=1.5, read_noise_spread=0.4, bit_depth=16, full_well_e=30000.0, excess_noise=1.2)
    records = torch.cat([render_camera(levels(), detector, VOXEL, [seed]) for seed in range(2)])
    back = camera_in_filament_units(records, detector).double().mean((0, 1, 3, 4))
    np.testing.assert_allclose(back, np.linspace(0.0, 3.0, 10), atol=0.01)


def test_the_fast_path_has_the_same_detector() -> None:
    detector = camera(
        read_noise_e=1.5, read_noise_spread=0.4, bit_depth=9, excess_noise=1.3, hot_pixel_share=0.01, full_well_e=190.0
    )
    one = torch.ones(1)
    fast = noisy_in_filament_units(levels(), 150.0 * one, 0.2 * one, detector, torch.Generator().manual_seed(3))
    slow = camera_in_filament_units(render_camera(levels(), detector, VOXEL, [4]), detector)
    np.testing.assert_allclose(fast.mean((0, 1, 3, 4)), slow.mean((0, 1, 3, 4)), atol=0.01)
    np.testing.assert_allclose(fast.std((0, 1, 3, 4)), slow.std((0, 1, 3, 4)), rtol=0.05, atol=0.005)
    assert float(fast.max()) == pytest.approx(float(slow.max()), abs=1e-4)


def test_a_volume_is_the_same_in_every_batch_with_everything_on() -> None:
    detector = camera(read_noise_e=1.5, read_noise_spread=0.4, bit_depth=12, excess_noise=1.2, hot_pixel_share=0.01)
    config = SimulationConfig(shape=(8, 32, 32), camera=detector)
    together, alone = Simulator(config).sample(3, [4, 0]), Simulator(config).sample(3, [0])
    assert together.noisy is not None and alone.noisy is not None
    assert torch.equal(together.noisy[1], alone.noisy[0])


def test_the_text_of_a_camera_names_only_what_is_on() -> None:
    """Data sets, checkpoints and run folders are named after it."""
    assert sorted(CameraConfig().model_dump()) == [
        "background", "blur_um", "gain_e_per_adu", "offset_adu", "photons", "quantum_efficiency", "read_noise_e",
    ]  # fmt: skip
    for changed in (camera(bit_depth=12), camera(excess_noise=1.2, full_well_e=100.0)):
        assert validate(CameraConfig, changed.model_dump(mode="json")) == changed


@pytest.mark.parametrize(
    "bad",
    [{"excess_noise": 0.9}, {"bit_depth": 0}, {"full_well_e": 0.0}, {"hot_pixel_share": 1.0}, {"sensor_seed": -1}],
)
def test_impossible_detectors_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        validate(CameraConfig, bad)
