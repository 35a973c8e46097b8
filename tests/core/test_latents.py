"""Latent files come back exactly; damaged and foreign ones are refused with one line."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from napari_vqldm.errors import FileError, ShapeError, VolumeError
from napari_vqldm.files.latents import HEADER_KEY, LatentFile, load_latent, save_latent

META = {"shape": [32, 100, 100], "voxel_size_um": [0.75, 0.2662083623500448, 1 / 3], "intensity": {"scale": 11.7}}


def latent_file(**changes):
    latent = np.random.default_rng(0).normal(size=(4, 3, 6, 5)).astype(np.float32)
    latent[0, 0, 0, 0] = -0.0
    return LatentFile(
        **{"family": "ldm", "weights_sha256": "ab" * 32, "model_name": "ldm", "latent": latent, "meta": META} | changes
    )


def code_file(largest=1023):
    codes = np.random.default_rng(0).integers(0, largest, (3, 6, 5)).astype(np.int32)
    codes[0, 0, 0] = largest
    return LatentFile(family="vq-ldm", weights_sha256="cd" * 32, model_name="vq-ldm", codes=codes, meta=META)


def test_a_latent_is_stored_bit_for_bit(tmp_path):
    written = latent_file()
    path = save_latent(tmp_path / "a.safetensors", written)
    back = load_latent(path)
    np.testing.assert_array_equal(back.latent.view(np.uint32), written.latent.view(np.uint32))
    assert back.codes is None
    assert (back.family, back.weights_sha256, back.model_name) == ("ldm", "ab" * 32, "ldm")
    assert back.meta == META


@pytest.mark.parametrize(("largest", "stored"), [(1023, "uint16"), (65535, "uint16"), (65536, "int32")])
def test_codes_are_stored_as_small_as_they_fit(tmp_path, largest, stored):
    written = code_file(largest)
    path = save_latent(tmp_path / "a.safetensors", written)
    assert load_file(path)["codes"].dtype == stored
    back = load_latent(path)
    assert back.codes.dtype == np.int32
    np.testing.assert_array_equal(back.codes, written.codes)
    assert back.latent is None


def test_equal_content_gives_equal_bytes(tmp_path):
    a, b = (
        save_latent(tmp_path / "a.safetensors", latent_file()),
        save_latent(tmp_path / "b.safetensors", latent_file()),
    )
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"latent": None}, VolumeError),
        ({"codes": np.zeros((2, 2, 2), np.int32)}, VolumeError),
        ({"latent": np.zeros((2, 2, 2), np.float32)}, ShapeError),
        ({"latent": np.zeros((1, 2, 2, 2))}, ShapeError),
        ({"latent": np.full((1, 2, 2, 2), np.nan, np.float32)}, VolumeError),
        ({"latent": None, "codes": np.full((2, 2, 2), -1, np.int32)}, VolumeError),
        ({"latent": None, "codes": np.zeros((2, 2), np.int32)}, ShapeError),
    ],
)
def test_content_that_cannot_be_decoded_is_refused(changes, error):
    with pytest.raises(error, match="expected"):
        latent_file(**changes)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    content = save_latent(tmp_path / "a.safetensors", latent_file()).read_bytes()
    for length in [*range(0, len(content), 37), len(content) - 1]:
        (tmp_path / "cut.safetensors").write_bytes(content[:length])
        with pytest.raises(FileError, match=r"truncated or no \.safetensors") as caught:
            load_latent(tmp_path / "cut.safetensors")
        assert "expected a latent file from `napari-vqldm encode`: copy the file again" in str(caught.value)
        assert "header" not in str(caught.value)


def test_foreign_and_newer_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {"latent": np.zeros((1, 2, 2, 2), np.float32)}
    save_file(arrays, path)
    with pytest.raises(FileError, match="not a latent file"):
        load_latent(path)
    for header, message in (
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"version": 99}', "newer than 1: update"),
        ('{"version": 1, "family": "ldm", "weights_sha256": "", "model_name": "", "meta": 3}', "damaged"),
    ):
        save_file(arrays, path, metadata={HEADER_KEY: header})
        with pytest.raises(FileError, match=message):
            load_latent(path)
    path.write_bytes(b"\x80\x04\x95 pickle of something else")
    with pytest.raises(FileError, match=r"truncated or no \.safetensors"):
        load_latent(path)


def test_float_codes_and_unknown_arrays_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    header = '{"version": 1, "family": "vq-ldm", "weights_sha256": "", "model_name": "", "meta": {}}'
    for arrays in ({"codes": np.zeros((2, 2, 2), np.float32)}, {"weights": np.zeros(3, np.float32)}):
        save_file(arrays, path, metadata={HEADER_KEY: header})
        with pytest.raises(FileError, match="damaged"):
            load_latent(path)


def test_paths(tmp_path):
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "none.safetensors", "no such file")):
        with pytest.raises(FileError, match=message):
            load_latent(path)
    with pytest.raises(FileError, match=r"ends in \.safetensors"):
        save_latent(tmp_path / "a.tif", latent_file())
    save_latent(tmp_path / "a.safetensors", latent_file())
    with pytest.raises(FileError, match="--force"):
        save_latent(tmp_path / "a.safetensors", code_file())
    save_latent(tmp_path / "a.safetensors", code_file(), force=True)
    assert load_latent(tmp_path / "a.safetensors").family == "vq-ldm"
