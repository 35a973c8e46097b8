"""Estimates: operations counted by hand, memory between bounds, times that add up from a known self-test."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tracemalloc
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_vqldm import zoo
from napari_vqldm.checkpoint import Model
from napari_vqldm.compare import compare
from napari_vqldm.config import CameraConfig, Int3
from napari_vqldm.errors import ConfigError, ShapeError, VolumeError
from napari_vqldm.estimate import (
    estimate_camera,
    estimate_encoding,
    estimate_generation,
    estimate_interpolation,
    estimate_reconstruction,
    estimate_uncertainty,
)
from napari_vqldm.estimate.footprint import decoder_footprint, denoiser_footprint, encoder_footprint
from napari_vqldm.estimate.parts import Cost, comparison_cost
from napari_vqldm.self_test import SelfTest
from napari_vqldm.volume import Volume

VOXEL = (0.2, 0.1, 0.1)
KNOWN = SelfTest(
    model="tiny",
    weights_sha256="0" * 64,
    precision="fp32",
    device="cpu",
    device_name="a processor",
    threads=2,
    encode_seconds_per_voxel=1e-3,
    decode_seconds_per_voxel=2e-3,
    denoiser_seconds=5.0,
    denoiser_batch=1,
    denoiser_batch_seconds=5.0,
    camera_seconds_per_voxel=1e-4,
    intensity_seconds_per_voxel=1e-4,
    resample_seconds_per_voxel=1e-4,
    preview_seconds=0.01,
    bf16_decode_seconds_per_voxel=1e-3,
    bf16_denoiser_seconds=2.0,
    peak_bytes=None,
)


def measured_outputs(network: nn.Module, run: Callable[[], object]) -> tuple[int, int, int]:
    """FLOPs of all convolutions and the largest and the sum of all outputs, bytes, of a real pass."""
    flops, sizes = 0, []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal flops
        sizes.append(output.numel() * 4)
        if isinstance(module, nn.Conv3d):
            flops += 2 * output.numel() * module.in_channels * int(np.prod(module.kernel_size))

    handles = [module.register_forward_hook(look) for module in network.modules() if not list(module.children())]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return flops, max(sizes), sum(sizes)


@pytest.mark.parametrize("shape", [(4, 16, 16), (8, 32, 16)])
def test_operations_and_memory_of_the_autoencoder(ldm: Model, shape: Int3) -> None:
    network = ldm.space.autoencoder
    volumes = torch.zeros(1, 1, *shape)
    flops, largest, total = measured_outputs(network.encoder, lambda: network.encode(volumes))
    found = encoder_footprint(ldm, shape)
    assert found.flops == flops and largest < found.bytes < 2 * total
    grid = ldm.space.grid(shape)
    latent = torch.zeros(1, 3, *grid)
    flops, largest, total = measured_outputs(network.decoder, lambda: network.decode(latent))
    found = decoder_footprint(ldm, grid)
    assert found.flops == flops and largest < found.bytes < 2 * total


def test_costs_grow_with_the_block_and_the_batch(model: Model) -> None:
    small, large = encoder_footprint(model, (8, 32, 32)), encoder_footprint(model, (8, 64, 64))
    assert 3.5 < large.bytes / small.bytes < 4.5 and large.flops == 4 * small.flops
    one, two = denoiser_footprint(model), denoiser_footprint(model, 2)
    assert 1.5 < two.bytes / one.bytes < 2.1 and 1.9 < two.flops / one.flops <= 2.0


def test_codes_are_searched_in_chunks(ldm: Model, vq_ldm: Model) -> None:
    few, many = ((n.space.autoencoder, encoder_footprint(n, (8, 32, 32)).bytes) for n in (ldm, vq_ldm))
    assert many[1] > few[1]


def test_steps_add_up(ldm: Model) -> None:
    voxels = np.prod(ldm.config.window)

    def seconds(**options: object) -> float:
        return estimate_generation(ldm, self_test=KNOWN, **options).seconds  # type: ignore[arg-type]

    decode = 2e-3 * voxels
    assert seconds(steps=4) == pytest.approx(4 * 5.0 + decode, rel=1e-3)
    assert seconds(steps=4, sampler="heun") == pytest.approx(7 * 5.0 + decode, rel=1e-3)
    assert seconds(count=3, steps=4) == pytest.approx(3 * seconds(steps=4), rel=1e-3)
    assert seconds(steps=4, precision="bf16") == pytest.approx(4 * 2.0 + 1e-3 * voxels, rel=1e-3)
    assert seconds(steps=4, camera=CameraConfig()) == pytest.approx(4 * 5.0 + decode + 1e-4 * voxels, rel=1e-3)
    assert seconds(steps=4, guidance_scale=2.0) == pytest.approx(8 * 5.0 + decode, rel=1e-3)
    between = estimate_interpolation(ldm, 3, steps=4, self_test=KNOWN).seconds
    assert between == pytest.approx(3 * seconds(steps=4), rel=1e-3)


def test_a_batch_takes_more_memory_and_what_it_was_measured_to_take(ldm: Model) -> None:
    test = dataclasses.replace(KNOWN, denoiser_batch=8, denoiser_batch_seconds=12.0)
    one, eight = (estimate_generation(ldm, 8, steps=1, batch=n, self_test=test) for n in (1, 8))
    assert one.seconds - eight.seconds == pytest.approx(8 * 5.0 - 12.0, rel=1e-3)
    assert eight.memory_bytes > one.memory_bytes


def test_a_reconstruction_adds_up(model: Model) -> None:
    shape = (8, 32, 32)
    voxels = np.prod(shape)
    found = estimate_reconstruction(model, shape, VOXEL, self_test=KNOWN)
    assert found.is_measured and found.seconds == pytest.approx(voxels * (1e-3 + 2e-3 + 1e-4), rel=1e-3)
    parts = estimate_encoding(model, shape, VOXEL, self_test=KNOWN)
    given = estimate_encoding(model, shape, VOXEL, is_intensity_given=True, self_test=KNOWN)
    assert parts.seconds - given.seconds == pytest.approx(voxels * 1e-4, rel=1e-2)
    frames = estimate_interpolation(model, 4, shape, VOXEL, self_test=KNOWN)
    assert parts.seconds + frames.seconds / 4 == pytest.approx(found.seconds, rel=1e-6)
    series = estimate_reconstruction(model, shape, VOXEL, frames=5, self_test=KNOWN)
    assert series.seconds == pytest.approx(5 * found.seconds)


def test_a_comparison_of_each_frame_counts(ldm: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (8, 64, 64)
    plain, compared, three = (
        estimate_reconstruction(ldm, shape, VOXEL, frames=n, is_compared=c, self_test=KNOWN)
        for n, c in ((1, False), (1, True), (3, True))
    )
    assert compared.seconds - plain.seconds == pytest.approx(comparison_cost(shape).seconds, rel=1e-3)
    assert three.seconds == pytest.approx(3 * compared.seconds)
    monkeypatch.setattr(sys.modules[estimate_camera.__module__], "comparison_cost", lambda _: Cost(2**50, 0, 1.0))
    huge = estimate_reconstruction(ldm, shape, VOXEL, is_compared=True, self_test=KNOWN)
    assert huge.memory_bytes == 2**50 and not huge.fits


@pytest.mark.slow
def test_the_memory_of_a_comparison_is_as_told() -> None:
    """Of NumPy's arrays, as Python counts them; beside the reconstruction, which was there before."""
    rng = np.random.default_rng(0)
    for shape in ((16, 256, 256), (16, 512, 640)):
        volume = Volume(rng.normal(100.0, 5.0, shape).astype(np.float32), VOXEL)
        other = volume.with_data(volume.data + np.float32(1.0))
        tracemalloc.start()
        compare(volume, other)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        told = comparison_cost(shape).main_bytes - volume.data.nbytes
        assert 0.7 < told / peak < 1.3


def test_smaller_tiles_take_less_memory_and_more_time(model: Model) -> None:
    whole, tiled = (
        estimate_reconstruction(model, (16, 512, 512), VOXEL, n, is_intensity_given=True, self_test=KNOWN)
        for n in (2**22, 2**18)
    )
    assert tiled.memory_bytes < whole.memory_bytes and tiled.seconds > whole.seconds


def test_another_voxel_size_counts_the_grid_of_the_model(ldm: Model) -> None:
    same = estimate_reconstruction(ldm, (8, 64, 64), VOXEL, self_test=KNOWN)
    finer = estimate_reconstruction(ldm, (8, 64, 64), (0.2, 0.2, 0.2), self_test=KNOWN)  # coded on some 3 times as many
    assert 2.0 < finer.seconds / same.seconds < 5.0


def test_draws_of_an_uncertainty_map(ldm: Model) -> None:
    shape = (8, 32, 32)
    two, four = (estimate_uncertainty(ldm, shape, VOXEL, n, self_test=KNOWN).seconds for n in (2, 4))
    assert four - two == pytest.approx(2 * np.prod(shape) * 3e-3, rel=1e-2)
    posterior = estimate_uncertainty(ldm, shape, VOXEL, 4, "posterior", self_test=KNOWN).seconds
    assert four - posterior == pytest.approx(3 * np.prod(shape) * 1e-3, rel=1e-2)


def test_what_does_not_fit_is_told(ldm: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = sys.modules[estimate_camera.__module__]
    monkeypatch.setattr(jobs, "available_bytes", lambda *_: None)
    assert estimate_camera(ldm, (64, 512, 512)).fits
    for free, fits in ((2**20, False), (2**40, True)):
        monkeypatch.setattr(jobs, "available_bytes", lambda *_, free=free: free)
        found = estimate_camera(ldm, (64, 512, 512))
        assert found.fits is fits and any("does not fit" in line for line in found.lines) is not fits


def test_without_a_self_test_the_time_is_rough(model: Model) -> None:
    found = estimate_reconstruction(model, (8, 32, 32), VOXEL)
    assert not found.is_measured and found.seconds > 0 and "rough" in found.lines[-1]


def test_mistakes_are_one_line(ldm: Model) -> None:
    with pytest.raises(ConfigError, match="count"):
        estimate_generation(ldm, 0)
    with pytest.raises(ShapeError, match="trained window"):
        estimate_generation(ldm, shape=(999, 9, 9))
    with pytest.raises(VolumeError, match="voxel size"):
        estimate_reconstruction(ldm, (8, 8, 8), (0.2, -1.0, 0.1))
    with pytest.raises(ConfigError, match="2 draws"):
        estimate_uncertainty(ldm, (8, 8, 8), VOXEL, 1)
    with pytest.raises(ConfigError, match="frames"):
        estimate_interpolation(ldm, 2, (8, 8, 8))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("job", ["generate one window, 10 steps", "reconstruct 32 x 128 x 128"])
@pytest.mark.parametrize("name", zoo.NAMES)
def test_memory_of_bundled_models_is_as_told(load: Callable[[str], ModuleType], name: str, job: str) -> None:
    estimates = load("estimates")
    words = [name, "--threads", "1", "--child", job, estimates.json.dumps(KNOWN.to_dict())]
    runs = [estimates.in_child(words) for _ in range(5)]  # holes in the heap come by chance
    row = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    assert estimates.is_good(row)[0], row
