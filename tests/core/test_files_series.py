"""Several volumes in one file: every one comes back bit for bit with its own record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_vqldm.errors import ChoiceError, FileError, ShapeError, VolumeError
from napari_vqldm.files import open_stack, read_series, read_volume, stack, write_series, write_volume
from napari_vqldm.files.provenance import SeriesAxis, axis_of, frame_record, is_series, make_provenance, series_record
from napari_vqldm.files.stack import Stack, select_series, select_volume
from napari_vqldm.volume import Volume, hash_voxels, seal

SIZE = (0.3, 0.1, 0.2)
NAMES = ("a.ome.tif", "a.zarr")


def frame(seed: int, shape: tuple[int, int, int] = (3, 6, 5), size: tuple[float, float, float] = SIZE) -> Volume:
    data = np.random.default_rng(seed).normal(size=shape)
    return seal(Volume(data, size, make_provenance("interpolate", t=seed / 10, text="µ <&>"), "way"))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_each_volume_comes_back_with_its_record(tmp_path: Path, name: str, count: int) -> None:
    frames = [frame(seed) for seed in range(count)]
    path = write_series(tmp_path / name, frames)
    assert path == tmp_path / name and [entry.name for entry in tmp_path.iterdir()] == [name]
    stack = open_stack(path)
    assert (stack.axes, stack.shape) == ("TZYX", (count, 3, 6, 5)) and is_series(stack.provenance)
    for time, written in enumerate(frames):
        back = read_volume(path, time=time)
        assert hash_voxels(back) == hash_voxels(written) and back.provenance == written.provenance
    with pytest.raises(ChoiceError, match=f"{count} time points"):
        read_volume(path)


def test_other_programs_see_time_and_voxel_size(tmp_path: Path) -> None:
    path = write_series(tmp_path / "a.ome.tif", [frame(seed) for seed in range(4)])
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome and len(tif.series) == 1
        assert tif.series[0].axes == "TZYX" and tif.series[0].shape == (4, 3, 6, 5)
        assert 'PhysicalSizeZ="0.3"' in tif.ome_metadata
    np.testing.assert_array_equal(tifffile.imread(path)[2], frame(2).data)


def test_equal_series_give_equal_files(tmp_path: Path) -> None:
    paths = [write_series(tmp_path / f"{i}.ome.tif", [frame(1), frame(2)]) for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path, name: str) -> None:
    write_volume(tmp_path / name, frame(1))
    with pytest.raises(FileError, match="exists already"):
        write_series(tmp_path / name, [frame(1), frame(2)])
    assert read_volume(tmp_path / name).shape == (3, 6, 5)
    write_series(tmp_path / name, [frame(1), frame(2)], force=True)
    assert open_stack(tmp_path / name).shape == (2, 3, 6, 5)


def test_what_is_no_series_is_refused(tmp_path: Path) -> None:
    for wrong in ([], [frame(1)], [frame(1), frame(2, (3, 6, 6))], [frame(1), frame(2, size=(0.3, 0.1, 0.1))]):
        with pytest.raises(ShapeError, match="two or more volumes of one grid"):
            write_series(tmp_path / "a.ome.tif", wrong)
    with pytest.raises(FileError, match=r"use .ome.tif or .zarr"):
        write_series(tmp_path / "a.png", [frame(1), frame(2)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_volume_is_refused_by_its_time_point(tmp_path: Path, name: str) -> None:
    flat = Volume(np.zeros((3, 6, 5), np.float32), SIZE)
    with pytest.raises(VolumeError, match="time point 1 equals 0"):
        write_series(tmp_path / name, [frame(1), flat])
    assert list(tmp_path.iterdir()) == []


# --- the axis ---------------------------------------------------------------------------------------------------------

AXES = (
    SeriesAxis(2.0, 0.5, "second", "t"),
    SeriesAxis(0.25, 0.0, "pixel", "way"),
    SeriesAxis(-5.0, 1e-3, "micrometer"),
)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", NAMES)
def test_the_axis_comes_back(tmp_path: Path, name: str, axis: SeriesAxis) -> None:
    path = write_series(tmp_path / name, [frame(1), frame(2)], axis=axis)
    assert axis_of(open_stack(path).provenance) == axis
    assert read_volume(path, time=1).voxel_size_um == SIZE


def test_other_programs_see_steps_of_time(tmp_path: Path) -> None:
    frames = [frame(1), frame(2)]
    for axis, words in ((AXES[0], ('TimeIncrement="2.0"', 'TimeIncrementUnit="s"')), (AXES[1], ())):
        with tifffile.TiffFile(write_series(tmp_path / "a.ome.tif", frames, axis=axis, force=True)) as tif:
            assert all(word in tif.ome_metadata for word in words)
            assert bool(words) == ("TimeIncrement" in tif.ome_metadata)
    zarr = pytest.importorskip("zarr")
    path = write_series(tmp_path / "a.zarr", frames, axis=AXES[0])
    image = zarr.open_group(str(path), mode="r").attrs["ome"]["multiscales"][0]
    assert image["axes"][0] == {"name": "t", "type": "time", "unit": "second"}
    assert image["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [2.0, *SIZE]},
        {"type": "translation", "translation": [0.5, 0.0, 0.0, 0.0]},
    ]


@pytest.mark.parametrize("entry", [None, "t", {"step": 0}, {"step": float("nan"), "start": 10**400}, {"unit": 3}])
def test_a_damaged_axis_is_that_of_a_series_without_one(entry: Any) -> None:
    assert axis_of({**series_record([{}]), "axis": entry}) == SeriesAxis()
    assert axis_of({"verb": "generate", "axis": {"step": 2.0}}) == SeriesAxis()


# --- all at once ------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every opening of a TIFF file."""
    names: list[str] = []
    whole = tifffile.TiffFile.__init__

    def counted(self: Any, file: Any, *args: Any, **options: Any) -> None:
        names.append(str(file))
        whole(self, file, *args, **options)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", counted)
    return names


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_a_series_is_read_as_its_volumes(
    tmp_path: Path, name: str, at_once: int, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "_BYTES_AT_ONCE", at_once * 4 * 3 * 6 * 5)
    path = write_series(tmp_path / name, [frame(seed) for seed in range(5)])
    opened.clear()
    volumes = list(read_series(path))
    assert len(opened) == (1 + -(-5 // at_once) if name.endswith(".tif") else 0)  # once for the header
    for time, volume in enumerate(volumes):
        same = read_volume(path, time=time)
        assert hash_voxels(volume) == hash_voxels(same)
        assert (volume.provenance, volume.name) == (same.provenance, same.name)
    assert len(volumes) == 5


@pytest.mark.parametrize("axes", ["TCZYX", "ZTCYX", "YXCTZ", "QZYX"])
@pytest.mark.parametrize("reads_ranges", [True, False])
def test_time_is_found_wherever_a_file_has_it(axes: str, reads_ranges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"T": 5, "Q": 5, "C": 2, "Z": 3, "Y": 4, "X": 6}
    data = np.random.default_rng(0).integers(0, 999, [sizes[letter] for letter in axes]).astype(np.uint16)
    whole = Stack(axes, data.shape, data.dtype, data.__getitem__, "test", voxel_size_um=SIZE)
    choice: dict[str, Any] = {
        "channel": 1 if "C" in axes else None, "voxel_size_um": None, "name": "a", "file_name": "a.tif",
    }  # fmt: skip
    monkeypatch.setattr(stack, "_BYTES_AT_ONCE", 2 * 2 * 3 * 4 * 6)
    found = list(select_series(replace(whole, reads_ranges=reads_ranges), **choice))
    assert len(found) == 5
    for time, volume in enumerate(found):
        same = select_volume(whole, time=time, **choice)
        np.testing.assert_array_equal(volume.data, same.data)
        assert volume.provenance == same.provenance and volume.provenance["source"]["time"] == time


def test_a_file_without_time_is_a_series_of_one(tmp_path: Path) -> None:
    (volume,) = read_series(write_volume(tmp_path / "a.ome.tif", frame(1)))
    assert hash_voxels(volume) == hash_voxels(frame(1))


def test_errors_of_a_series_name_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 6, 5)))
    with pytest.raises(VolumeError, match=r"a\.npy: every voxel equals 0"):
        list(read_series(tmp_path / "a.npy", voxel_size_um=SIZE))
    with pytest.raises(FileError, match="no such file"):
        list(read_series(tmp_path / "b.tif"))


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_of_frames() -> None:
    record = series_record([{"verb": "a"}, {"verb": "b"}])
    assert is_series(record) and frame_record(record, 1) == {"verb": "b"}
    assert frame_record(record, 2) == frame_record(record, None) == {}
    assert frame_record({"verb": "a"}, 3) == {"verb": "a"} and not is_series({"verb": "a"}) and not is_series(None)
