"""Several volumes in one file: every one comes back bit for bit with its own record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_vqldm.errors import ChoiceError, FileError, ShapeError
from napari_vqldm.files import open_stack, read_volume, write_series, write_volume
from napari_vqldm.files.provenance import frame_record, is_series, make_provenance, series_record
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


def test_records_of_frames() -> None:
    record = series_record([{"verb": "a"}, {"verb": "b"}])
    assert is_series(record) and frame_record(record, 1) == {"verb": "b"}
    assert frame_record(record, 2) == frame_record(record, None) == {}
    assert frame_record({"verb": "a"}, 3) == {"verb": "a"} and not is_series({"verb": "a"}) and not is_series(None)
