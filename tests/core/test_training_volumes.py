"""Small volumes beside the pictures of a run: bounded, exact to float16, and read back as a time axis."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from napari_vqldm.errors import FileError
from napari_vqldm.training import volumes
from napari_vqldm.training.volumes import SeriesReader, list_volumes, load_volumes, save_volumes

VOXEL = (0.2, 0.1, 0.1)
SHAPE = (3, 4, 5)


def block(value: float) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def steps_of(folder: Path, stage: str) -> list[int]:
    return [file.step for file in list_volumes(folder) if file.stage == stage]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    save_volumes(tmp_path / "volumes", "denoiser", 100, {"sample": list(data)}, VOXEL)
    (file,) = list_volumes(tmp_path / "volumes")
    assert (file.stage, file.step, file.path.name) == ("denoiser", 100, "denoiser-000100.npz")
    saved = load_volumes(file.path)
    assert saved.voxel_size_um == VOXEL
    np.testing.assert_array_equal(saved.volumes["sample"], data.astype(np.float16))


def test_numbers_beyond_float16_raise_no_alarm(tmp_path: Path) -> None:
    data = block(0.0)
    data[0, 0, :3] = (1e30, -np.inf, np.nan)
    save_volumes(tmp_path, "denoiser", 1, {"sample": [data]}, VOXEL)
    found = load_volumes(tmp_path / "denoiser-000001.npz").volumes["sample"][0, 0, 0, :3]
    np.testing.assert_array_equal(found, [65504, -65504, np.nan])


def test_a_file_is_bounded_in_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {name: [block(i) for i in range(3)] for name in ("input", "reconstruction")}
    monkeypatch.setattr(volumes, "MOST_BYTES", 2 * 2 * 2 * 60)  # two volumes of two groups
    save_volumes(tmp_path, "autoencoder", 1, groups, VOXEL)
    saved = load_volumes(tmp_path / "autoencoder-000001.npz")
    assert {name: array.shape for name, array in saved.volumes.items()} == dict.fromkeys(groups, (2, *SHAPE))
    monkeypatch.setattr(volumes, "MOST_BYTES", 2 * 2 * 60 - 1)
    save_volumes(tmp_path, "autoencoder", 2, groups, VOXEL)
    save_volumes(tmp_path, "autoencoder", 3, {"input": []}, VOXEL)
    assert steps_of(tmp_path, "autoencoder") == [1]


def test_many_files_are_thinned_out_over_the_whole_training(tmp_path: Path) -> None:
    for step in range(1, 201):
        save_volumes(tmp_path, "denoiser", step, {"sample": [block(step)]}, VOXEL)
        assert len(steps_of(tmp_path, "denoiser")) <= volumes.MOST_FILES
        assert steps_of(tmp_path, "denoiser")[-1] == step
    kept = steps_of(tmp_path, "denoiser")
    assert len(kept) > 8
    assert kept[0] < 40
    save_volumes(tmp_path, "autoencoder", 7, {"input": [block(0)]}, VOXEL)
    assert steps_of(tmp_path, "denoiser") == kept  # each stage for itself


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(40), b"\x93NUMPY"])
def test_foreign_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "denoiser-000001.npz"
    path.write_bytes(content)
    with pytest.raises(FileError, match="denoiser-000001"):
        load_volumes(path)


def test_whatever_a_damaged_archive_raises_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "denoiser-000001.npz"
    np.savez(path, sample=np.zeros((1, *SHAPE), np.float16), voxel_size_um=np.array(VOXEL))
    whole = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "no array")
    with pytest.raises(FileError, match="denoiser-000001"):
        load_volumes(path)
    entry = whole.rindex(b"PK\x01\x02")  # of the directory, which is read first
    for offset, value in ((8, 1), (10, 99), (6, 255)):  # encrypted, an unknown compression, a version of the future
        path.write_bytes(whole[: entry + offset] + bytes([value]) + whole[entry + offset + 1 :])
        with pytest.raises(FileError, match="denoiser-000001"):
            load_volumes(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"sample": np.zeros((1, *SHAPE), np.float16)},
        {"voxel_size_um": np.array(VOXEL)},
        {"voxel_size_um": np.array([0.1, 0.1, np.nan]), "sample": np.zeros((1, *SHAPE), np.float16)},
        {"voxel_size_um": np.array(VOXEL), "sample": np.zeros(SHAPE, np.float16)},
        {"voxel_size_um": np.array(VOXEL), "sample": np.zeros((0, *SHAPE), np.float16)},
        {"voxel_size_um": np.array(VOXEL), "sample": np.zeros((1, *SHAPE), np.int64)},
        {"voxel_size_um": np.array(VOXEL), "sample": np.array([None], object)},
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "denoiser-000001.npz"
    np.savez(path, **arrays)
    with pytest.raises(FileError, match="denoiser-000001"):
        load_volumes(path)


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "denoiser-000001.npz"
    huge = np.zeros((1, 20, 1024, 1024), np.float16)
    np.savez_compressed(path, voxel_size_um=np.array(VOXEL), sample=huge)
    assert path.stat().st_size < 2**20
    with pytest.raises(FileError, match="at most"):
        load_volumes(path)


def test_a_series_grows_and_reads_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = volumes.load_volumes
    monkeypatch.setattr(volumes, "load_volumes", lambda path: (read.append(path.name), load(path))[1])
    reader = SeriesReader()
    for step in (10, 20):
        save_volumes(tmp_path, "denoiser", step, {"sample": [block(step), block(-step)]}, VOXEL)
    series = reader.read(list_volumes(tmp_path))["denoiser"]
    assert (series.steps, series.voxel_size_um) == ((10, 20), VOXEL)
    assert series.frames["sample"].shape == (2, *SHAPE) and series.frames["sample"].dtype == np.float32
    assert series.frames["sample"][:, 0, 0, 0].tolist() == [10, 20]
    save_volumes(tmp_path, "denoiser", 30, {"sample": [block(30)]}, VOXEL)
    assert reader.read(list_volumes(tmp_path))["denoiser"].steps == (10, 20, 30)
    assert read == ["denoiser-000010.npz", "denoiser-000020.npz", "denoiser-000030.npz"]
    reader.number = 1
    again = reader.read(list_volumes(tmp_path))["denoiser"].frames["sample"][:, 0, 0, 0]
    assert again.tolist() == [-10, -20, 30]  # the last one where there are fewer


def test_a_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    reader = SeriesReader()
    save_volumes(tmp_path, "denoiser", 10, {"sample": [block(1)]}, VOXEL)
    reader.read(list_volumes(tmp_path))
    save_volumes(tmp_path, "denoiser", 10, {"sample": [block(2)]}, VOXEL)
    os.utime(tmp_path / "denoiser-000010.npz", (5, 5))
    assert reader.read(list_volumes(tmp_path))["denoiser"].frames["sample"][0, 0, 0, 0] == 2


def test_files_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    save_volumes(tmp_path, "denoiser", 10, {"sample": [np.zeros((2, 2, 2))]}, VOXEL)
    save_volumes(tmp_path, "denoiser", 20, {"sample": [block(2)]}, VOXEL)
    (tmp_path / "denoiser-000015.npz").write_bytes(b"no volumes")
    (tmp_path / "denoiser-000030.npz").write_bytes(b"no volumes")
    files = list_volumes(tmp_path)
    assert SeriesReader().read(files)["denoiser"].steps == (20,)
    for file in files:
        file.path.unlink()
    assert SeriesReader().read(files) == {}
    assert list_volumes(tmp_path / "nowhere") == []
