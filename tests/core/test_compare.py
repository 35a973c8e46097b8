"""A reconstruction beside its input: the residual adds up, numbers are the metrics', edge cases have answers."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from napari_vqldm.compare import compare, compare_steps, not_compared, num_comparison_steps, residual
from napari_vqldm.config import CameraConfig, SimulationConfig
from napari_vqldm.errors import ShapeError
from napari_vqldm.files.provenance import to_jsonable
from napari_vqldm.metrics import noise
from napari_vqldm.metrics.distribution import lateral_spectrum
from napari_vqldm.metrics.fidelity import pearson, psnr_unit_range, unit_range
from napari_vqldm.metrics.ssim import ssim3d_unit_range
from napari_vqldm.record import expose
from napari_vqldm.simulation import simulate
from napari_vqldm.volume import Volume, hash_voxels


@pytest.fixture(scope="module")
def clean() -> Volume:
    config = SimulationConfig(shape=(16, 64, 64))
    return simulate(1, seed=1, config=config, noisy=False)[0].clean


@pytest.fixture(scope="module")
def recorded(clean: Volume) -> Volume:
    return clean.with_data(counts(clean, CameraConfig(photons=60.0)), name="recorded")


def counts(clean: Volume, camera: CameraConfig) -> np.ndarray:
    """Camera counts (Z, Y, X) of a clean volume."""
    return expose(torch.from_numpy(clean.data)[None, None], camera, clean.voxel_size_um, 3)[0, 0].numpy()


def expected(clean: Volume, camera: CameraConfig) -> np.ndarray:
    """Noise-free expectation (Z, Y, X) of those counts."""
    electrons = (clean.data + camera.background) * camera.photons * camera.quantum_efficiency
    return camera.offset_adu + electrons / camera.gain_e_per_adu


def test_residual_and_reconstruction_add_up_to_the_volume(clean: Volume, recorded: Volume) -> None:
    difference = residual(recorded, clean)
    np.testing.assert_allclose(difference.data + clean.data, recorded.data, rtol=2e-7)
    request = difference.provenance["request"]
    assert difference.provenance["verb"] == "residual" and difference.name == "recorded-residual"
    assert request["source_sha256"] == hash_voxels(recorded) and request["reconstruction_sha256"] == hash_voxels(clean)
    assert request["source"] == recorded.provenance and request["reconstruction"] == to_jsonable(clean.provenance)
    assert difference.voxel_size_um == recorded.voxel_size_um


def test_numbers_are_those_of_the_metrics(clean: Volume, recorded: Volume) -> None:
    other = recorded.with_data(expected(clean, CameraConfig(photons=60.0)) + 1.0)
    found = compare(recorded, other)
    assert found.psnr_db == pytest.approx(psnr_unit_range(other.data, recorded.data), rel=1e-9)
    assert found.ssim == ssim3d_unit_range(other.data, recorded.data)
    assert found.pearson == pearson(other.data, recorded.data)
    assert found.mean_absolute_error == pytest.approx(float(np.abs(other.data - recorded.data).mean()), rel=1e-5)
    low, high = unit_range(recorded.data)
    plane = ((other.data[5] - recorded.data[5]).astype(np.float64) / (high - low)) ** 2
    assert found.psnr_per_z_db is not None and found.psnr_per_z_db.shape == (16,)
    assert found.psnr_per_z_db[5] == pytest.approx(-10 * np.log10(plane.mean()), rel=1e-6)
    for spectrum, volume in ((found.spectrum, recorded), (found.reconstruction_spectrum, other)):
        assert spectrum is not None
        truth = lateral_spectrum([volume.data], volume.voxel_size_um)
        assert np.array_equal(spectrum.power, truth.power)
    assert found.missing == {} and not found.is_identical
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("photons", [20.0, 60.0, 200.0, 800.0])
def test_the_noise_ceiling_is_what_the_truth_scores(clean: Volume, photons: float) -> None:
    camera = CameraConfig(photons=photons)
    noisy, truth = clean.with_data(counts(clean, camera)), clean.with_data(expected(clean, camera))
    found = compare(noisy, truth)
    assert found.noise_ceiling_db is not None and found.psnr_db is not None
    assert found.noise_ceiling_db == pytest.approx(found.psnr_db, abs=0.5)


def test_copied_noise_scores_above_the_ceiling_and_lost_structure_below(clean: Volume) -> None:
    camera = CameraConfig(photons=60.0)
    noisy, truth = counts(clean, camera), expected(clean, camera)
    half_copied = compare(clean.with_data(noisy), clean.with_data((noisy + truth) / 2))
    blank = compare(clean.with_data(noisy), clean.with_data(np.full_like(noisy, np.median(noisy))))
    assert blank.psnr_db < blank.noise_ceiling_db < half_copied.psnr_db  # type: ignore[operator]
    assert blank.pearson == 0.0


def test_a_clean_input_has_no_ceiling_and_says_why(clean: Volume) -> None:
    found = compare(clean, clean.with_data(clean.data * 0.9))
    assert found.noise_ceiling_db is None and "smooth" in found.missing["noise_ceiling_db"]


def test_identical_volumes_are_identical_even_constant_ones(recorded: Volume) -> None:
    constant = recorded.with_data(np.full_like(recorded.data, 7.0))
    for volume in (recorded, constant):
        found = compare(volume, volume)
        assert found.is_identical and found.psnr_db == np.inf and found.ssim == 1.0 and found.pearson == 1.0
        assert found.mean_absolute_error == 0.0
        assert found.psnr_per_z_db is not None and np.isposinf(found.psnr_per_z_db).all()
        assert not {"psnr_db", "ssim", "psnr_per_z_db"} & set(found.missing)


def test_a_plane_that_is_identical_is_infinite_alone(recorded: Volume) -> None:
    data = recorded.data.copy()
    data[3] += 1.0
    per_z = compare(recorded, recorded.with_data(data)).psnr_per_z_db
    assert per_z is not None and np.isfinite(per_z[3]) and np.isposinf(np.delete(per_z, 3)).all()


def test_a_constant_input_has_no_psnr_and_a_small_one_no_ssim(recorded: Volume) -> None:
    constant = recorded.with_data(np.full_like(recorded.data, 7.0))
    found = compare(constant, recorded)
    assert found.psnr_db is None and found.ssim is None and found.psnr_per_z_db is None
    assert found.noise_ceiling_db is None
    for name in ("psnr_db", "psnr_per_z_db", "ssim", "noise_ceiling_db"):
        assert "constant" in found.missing[name]
    assert found.mean_absolute_error > 0 and found.pearson == 0.0
    small = Volume(recorded.data[:4, :8, :8], recorded.voxel_size_um)
    found = compare(small, small.with_data(small.data + 1.0))
    assert found.ssim is None and "11 voxels" in found.missing["ssim"] and found.psnr_db is not None


def test_grids_that_differ_are_refused(recorded: Volume) -> None:
    smaller = recorded.with_data(recorded.data[1:])
    stretched = dataclasses.replace(recorded, voxel_size_um=(0.4, 0.1, 0.1))
    for verb in (compare, residual):
        with pytest.raises(ShapeError, match="one shape"):
            verb(recorded, smaller)
        with pytest.raises(ShapeError, match="one voxel size"):
            verb(recorded, stretched)


# --- steps and memory -------------------------------------------------------------------------------------------------


def similar(shape: tuple[int, int, int]) -> tuple[Volume, Volume]:
    """A stack with lines and noise, and one that is a little different."""
    rng = np.random.default_rng(0)
    data = rng.normal(100.0, 5.0, shape).astype(np.float32)
    data[:, ::7] += 60.0
    return Volume(data, (0.2, 0.1, 0.1)), Volume(data + rng.normal(0.0, 2.0, shape).astype(np.float32), (0.2, 0.1, 0.1))


def test_parts_of_a_large_volume_add_up_to_the_numbers_of_the_whole() -> None:
    """Shapes that no block divides, against formulas over whole arrays of doubles."""
    volume, other = similar((45, 141, 83))
    a, b = volume.data.astype(np.float64), other.data.astype(np.float64)
    found = compare(volume, other)
    low, high = np.percentile(volume.data, (0.1, 99.9))
    ssim = structural_similarity(
        (b - low) / (high - low),
        (a - low) / (high - low),
        data_range=1.0,
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )[1][5:-5, 5:-5, 5:-5].mean()
    assert found.ssim == pytest.approx(ssim, abs=1e-9)
    assert found.pearson == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-12)
    assert found.mean_absolute_error == pytest.approx(np.abs(a - b).mean(), rel=1e-12)
    assert found.psnr_db == pytest.approx(-10 * np.log10(np.mean((a - b) ** 2) / (float(high) - low) ** 2), abs=1e-9)
    windows = [np.hanning(n + 2)[1:-1] for n in a.shape]
    for spectrum, whole in ((found.spectrum, a), (found.reconstruction_spectrum, b)):
        plane = np.tensordot(windows[0], whole - whole.mean(), 1) * np.outer(windows[1], windows[2])
        radius = np.hypot(np.fft.fftfreq(141, 0.1)[:, None], np.fft.fftfreq(83, 0.1))
        ring = np.rint(radius * 8.3) == round(spectrum.frequency_per_um[3] * 8.3)
        assert spectrum.power[3] == pytest.approx((np.abs(np.fft.fft2(plane)) ** 2)[ring].mean(), rel=1e-9)


def test_a_comparison_goes_in_small_steps_and_can_be_left(recorded: Volume) -> None:
    volume, other = similar((45, 141, 83))
    steps = list(compare_steps(volume, other))
    total = num_comparison_steps(volume.shape)
    assert total > 12 and [step.index for step in steps] == list(range(total)) and {s.total for s in steps} == {total}
    assert [step.result for step in steps[:-1]] == [None] * (total - 1)
    assert steps[-1].result is not None and steps[-1].result.to_dict() == compare(volume, other).to_dict()
    for a, b in ((recorded, recorded), (recorded.with_data(recorded.data[:4]),) * 2):  # nothing to measure of SSIM
        *_, last = compare_steps(a, b)
        assert last.result is not None and last.index == last.total - 1


def test_a_comparison_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, other = similar((40, 256, 256))
    monkeypatch.setattr(noise, "_MAX_VOXELS", 2**19)  # as much smaller than this volume as 4 M voxels than a large one
    monkeypatch.setattr(noise, "_PART", 2**16)
    tracemalloc.start()
    compare(volume, other)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * volume.data.size


def test_what_was_not_compared_says_why() -> None:
    found = not_compared("too little memory was free")
    assert not found.is_measured and found.psnr_db is None and not found.is_identical
    assert set(found.missing.values()) == {"too little memory was free"} == {found.noise.reason}
    assert {name for name, value in found.to_dict().items() if value is None} >= set(found.missing)
