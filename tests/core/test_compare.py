"""A reconstruction beside its input: the residual adds up, numbers are the metrics', edge cases have answers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from napari_vqldm.compare import compare, residual
from napari_vqldm.config import CameraConfig, SimulationConfig
from napari_vqldm.errors import ShapeError
from napari_vqldm.files.provenance import to_jsonable
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
