"""reconstruct = decode(encode) bit for bit, in the input's units, on the input's grid, whatever the size."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import binary_dilation

from napari_vqldm import zoo
from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import Coding, EncodeStep, encode_volume
from napari_vqldm.errors import CheckpointError, FileError, ShapeError, VolumeError
from napari_vqldm.files import read_volume
from napari_vqldm.files.latents import LatentFile, load_latent, save_latent
from napari_vqldm.files.samples import sample_path
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.reconstruct import (
    TIE_MARGIN,
    Latent,
    decode,
    encode,
    encode_steps,
    reconstruct,
    reconstruct_steps,
)
from napari_vqldm.resample import resample_to
from napari_vqldm.volume import Volume


def test_reconstruct_is_decode_of_encode_bit_for_bit(model: Model, stack: Volume) -> None:
    latent = encode(model, stack)
    result = reconstruct(model, stack)
    assert np.array_equal(decode(model, latent).data, result.data)
    steps = list(reconstruct_steps(model, stack))
    assert steps[-1].volume is not None and np.array_equal(steps[-1].volume.data, result.data)
    assert [step.index for step in steps] == list(range(steps[-1].total))
    assert result.shape == stack.shape and result.voxel_size_um == stack.voxel_size_um
    assert result.name == "stack"
    assert (latent.codes is None) == (model.config.family == "ldm")


@pytest.mark.slow
def test_a_latent_file_decodes_to_the_same_bits_in_a_new_process(
    ldm: Model, vq_ldm: Model, stack: Volume, tmp_path: Path
) -> None:
    resampled = Volume(stack.data, (0.31, 0.07, 0.123))  # to other voxels and back
    cases = [(model, volume) for model in (ldm, vq_ldm) for volume in (stack, resampled)]
    lines = [f"import numpy, torch, napari_vqldm as nv; torch.set_num_threads({torch.get_num_threads()})"]
    for i, (model, volume) in enumerate(cases):
        path = encode(model, volume).save(tmp_path / f"{i}.safetensors")
        lines += [
            f"volume = nv.decode(nv.load({str(model.path)!r}), nv.Latent.load({str(path)!r}))",
            f"assert volume.voxel_size_um == {volume.voxel_size_um!r}, volume.voxel_size_um",
            f"numpy.save({str(tmp_path / f'{i}.npy')!r}, volume.data)",
        ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
    for i, (model, volume) in enumerate(cases):
        assert np.array_equal(np.load(tmp_path / f"{i}.npy"), reconstruct(model, volume).data)


def encode_with_margin(model: Model, volume: Volume) -> tuple[Latent, npt.NDArray[np.float32] | None]:
    """Encode, and catch the margins that the result only counts."""
    results: list[Coding] = []

    def spy(*arguments: Any, **options: Any) -> Iterator[EncodeStep]:
        for step in encode_volume(*arguments, **options):
            results.extend([step.result] if step.result is not None else [])
            yield step

    with pytest.MonkeyPatch.context() as patch:
        # Not by its dotted name: `napari_vqldm.reconstruct` is the function as well.
        patch.setattr(sys.modules[encode.__module__], "encode_volume", spy)
        latent = encode(model, volume)
    (result,) = results
    return latent, None if result.margin is None else result.margin[0].numpy()


def check_units(model: Model, volume: Volume, gain: float, offset: float) -> tuple[Latent, int]:
    """f(a x + b) = a f(x) + b within 1 % of the range, but for what codes reach that flipped at a near tie."""
    scaled = volume.with_data(volume.data.astype(np.float64) * gain + offset)
    (plain, margin), other = encode_with_margin(model, volume), encode(model, scaled)
    low, high = np.percentile(scaled.data, [0.1, 99.9])
    error = np.abs(decode(model, other).data - (gain * decode(model, plain).data.astype(np.float64) + offset))
    compared, num_flipped = np.ones(plain.coded_shape, bool), 0
    if plain.codes is not None and other.codes is not None and margin is not None:
        codebook = model.space.quantizer.codebook.detach().numpy()
        flipped = (codebook[plain.codes] != codebook[other.codes]).any(axis=-1)  # to a twin is no flip
        num_flipped = int(flipped.sum())
        assert margin[flipped].max(initial=0.0) < TIE_MARGIN
        assert plain.num_ties == (margin < TIE_MARGIN).sum()
        reach = [2 * h + 1 for h in model.space.autoencoder.decoder_halo]
        near = binary_dilation(flipped, np.ones(reach)) if flipped.any() else flipped
        for axis, factor in enumerate(model.space.autoencoder.downsampling_factor):
            near = near.repeat(factor, axis)
        compared = ~plain.padding.crop(near)
        assert compared.mean() > 0.5
    if plain.coded_shape != volume.shape:  # resampling spreads a flip by a voxel
        spoiled = resample_to((~compared).astype(np.float32), volume.shape) > 1e-6
        compared = ~binary_dilation(spoiled, np.ones((3, 3, 3)))
    assert error[compared].max() <= 0.01 * (high - low)
    return plain, num_flipped


@pytest.mark.parametrize(("gain", "offset"), [(3.7, 0.0), (0.02, 5.0), (211.0, -1300.0)])
def test_the_output_follows_the_units_of_the_input(model: Model, stack: Volume, gain: float, offset: float) -> None:
    check_units(model, stack, gain, offset)


@pytest.mark.slow
@pytest.mark.parametrize("sample", ["spindle3d_multidna2", "spindle_morph_volume00"])
@pytest.mark.parametrize("name", zoo.NAMES)
def test_bundled_models_follow_the_units_of_real_stacks(name: str, sample: str) -> None:
    volume = read_volume(sample_path(sample))
    latent, num_flipped = check_units(zoo.load(name), volume, 211.0, -1300.0)
    assert num_flipped <= 1e-4 * np.prod(latent.grid)


@pytest.mark.slow
@pytest.mark.parametrize("sample", ["spindle3d_multidna2", "spindle_morph_volume00"])
def test_bundled_codes_are_seldom_tied(sample: str) -> None:
    latent = encode(zoo.load("vq-ldm"), read_volume(sample_path(sample)))
    assert latent.num_ties <= 1e-4 * np.prod(latent.grid)


def test_ties_are_counted_where_two_codes_that_differ_are_equally_near(vq_ldm: Model, stack: Volume) -> None:
    plain = encode(vq_ldm, stack)
    assert plain.num_ties == 0 and plain.codes is not None
    often = int(np.bincount(plain.codes.ravel()).argmax())
    twin = (often + 1) % 32
    codebook = vq_ldm.space.quantizer.codebook
    kept = codebook.detach().clone()
    counts = {}
    try:
        for distance in (0.0, 1e-7):
            with torch.no_grad():
                codebook[twin] = codebook[often] + distance
            latent = encode(vq_ldm, stack)
            assert latent.codes is not None
            assert latent.provenance["request"]["num_ties"] == latent.num_ties
            counts[distance] = latent.num_ties, int(np.isin(latent.codes, [often, twin]).sum())
    finally:
        with torch.no_grad():
            codebook.copy_(kept)
    assert counts[0.0][0] == 0 < counts[0.0][1]  # which of two equal codes is chosen changes nothing
    assert counts[1e-7][0] == counts[1e-7][1] > 0


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 50, 3), (3, 2, 37), (65, 5, 6)])
@pytest.mark.parametrize("voxel_size", [(0.2, 0.1, 0.1), (1.0, 0.03, 0.4)])
def test_every_size_from_two_voxels_comes_back_on_its_own_grid(
    model: Model, shape: tuple[int, int, int], voxel_size: tuple[float, float, float]
) -> None:
    volume = Volume(np.random.default_rng(0).normal(100, 5, shape), voxel_size)
    result = reconstruct(model, volume)
    assert result.shape == shape and result.voxel_size_um == voxel_size
    assert np.isfinite(result.data).all()


def test_voxel_sizes_are_resampled_only_outside_the_trained_range(model: Model, stack: Volume) -> None:
    inside = encode(model, dataclasses.replace(stack, voxel_size_um=(0.21, 0.095, 0.1)))
    assert inside.coded_shape == stack.shape
    outside = encode(model, dataclasses.replace(stack, voxel_size_um=(0.44, 0.095, 0.05)))
    assert outside.coded_shape == (18, 37, 23)  # nearest ends of the range: 0.22 and 0.09 um
    np.testing.assert_allclose(outside.coded_voxel_size_um, (0.22, 0.095, 0.09), rtol=0.03)


def test_given_intensities_replace_the_estimate(model: Model, stack: Volume) -> None:
    scale = IntensityScale(100.0, 50.0)
    latent = encode(model, stack, intensity=scale)
    assert latent.intensity == scale
    units = Volume(scale.apply(stack.data), stack.voxel_size_um)
    same = encode(model, units, intensity=IntensityScale(0.0, 1.0))
    np.testing.assert_allclose(scale.invert(decode(model, same).data), decode(model, latent).data, rtol=1e-4, atol=1e-2)


def test_where_a_reconstruction_comes_from_is_on_record(model: Model, stack: Volume) -> None:
    source = stack.with_data(stack.data, provenance={"made": "here"})
    record = reconstruct(model, source).provenance
    assert record["request"]["weights_sha256"] == model.weights_sha256
    request = record["request"]["latent"]["request"]
    assert request["source"]["made"] == "here"
    assert request["intensity"]["scale"] > 0 and "num_ties" in request
    json.dumps(record)


def test_a_constant_stack_is_refused(ldm: Model) -> None:
    with pytest.raises(VolumeError, match="constant"):
        encode(ldm, Volume(np.full((4, 8, 8), 7.0), (0.2, 0.1, 0.1)))


def test_encoding_can_be_cancelled(ldm: Model, stack: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_vqldm.coding.choose_tile", lambda *_: (4, 16, 16))
    steps = encode_steps(ldm, stack)
    first = next(steps)
    assert first.total > 3 and first.latent is None
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


def test_a_latent_of_other_weights_is_refused(ldm: Model, vq_ldm: Model, stack: Volume) -> None:
    latent = encode(ldm, stack)
    with pytest.raises(CheckpointError, match="belongs to model 'tiny-ldm'"):
        decode(vq_ldm, latent)
    with pytest.raises(CheckpointError, match="encode the volume again"):
        decode(ldm, dataclasses.replace(latent, weights_sha256="f" * 64))


def test_a_latent_that_contradicts_itself_is_refused(vq_ldm: Model, ldm: Model, stack: Volume) -> None:
    latent = encode(vq_ldm, stack)
    assert latent.codes is not None
    for change in (
        {"codes": latent.codes[1:]},
        {"codes": latent.codes + 32},
        {"codes": latent.codes - 40},
        {"coded_shape": (9, 37, 4000)},
        {"codes": None},
    ):
        with pytest.raises(ShapeError):
            decode(vq_ldm, dataclasses.replace(latent, **change))
    plain = encode(ldm, stack)
    assert plain.latent is not None
    with pytest.raises(ShapeError, match="3 channels"):
        decode(ldm, dataclasses.replace(plain, latent=plain.latent[:2]))


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.0},
        {"scale": -1.0},
        {"background": None},
        {"shape": [9, 37]},
        {"shape": [9, 37, 10**9]},
        {"voxel_size_um": [0.2, 0.1, 1e9]},
        {"voxel_size_um": [-0.2, 0.1, 0.1]},
        {"padding_after": [-1, 0, 0]},
        {"extra": 1},
        {"coded_shape": [1, 37, 42]},
    ],
)
def test_a_damaged_latent_file_is_one_line(ldm: Model, stack: Volume, tmp_path: Path, change: dict[str, Any]) -> None:
    path = encode(ldm, stack).save(tmp_path / "a.safetensors")
    file = load_latent(path)
    bad = LatentFile(
        file.family, file.weights_sha256, file.model_name, file.latent, file.codes, {**file.meta, **change}
    )
    save_latent(tmp_path / "b.safetensors", bad)
    with pytest.raises(FileError, match=r"encode the volume again|damaged latent file") as caught:
        Latent.load(tmp_path / "b.safetensors")
    assert "\n" not in str(caught.value)


def test_a_latent_file_is_not_overwritten_unasked(model: Model, stack: Volume, tmp_path: Path) -> None:
    latent = encode(model, stack)
    path = latent.save(tmp_path / "a.safetensors")
    with pytest.raises(FileError, match="--force"):
        latent.save(path)
    again = Latent.load(latent.save(path, force=True))
    for f in dataclasses.fields(Latent):
        assert np.array_equal(getattr(again, f.name), getattr(latent, f.name)), f.name
