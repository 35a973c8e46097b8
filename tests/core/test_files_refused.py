"""What `read_volume` refuses, each with one clear line: unusable content, damaged and missing files."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import tifffile

from napari_vqldm.errors import FileError, ShapeError, VolumeError, VqldmError
from napari_vqldm.files import read_volume, write_volume
from napari_vqldm.volume import Volume

SIZE = (0.3, 0.2, 0.1)


def stack(dtype="uint16", shape=(6, 20, 24)):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def refused(path, kind=VqldmError, match=None, **choices):
    """Read, expect one line that names the file, and return it."""
    with pytest.raises(kind, match=match) as caught:
        read_volume(path, **choices)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def read_or_message(path):
    """Voxels, or the line of a deliberate refusal; any other error fails the test."""
    try:
        return read_volume(path, voxel_size_um=SIZE).data
    except VqldmError as error:
        return str(error)


# --- content ----------------------------------------------------------------------------------------------------------


def holding(value, dtype="float32"):
    data = stack(dtype)
    data[1, 2, 3] = value
    return data


CONTENT = {
    "nan": (holding(np.nan), VolumeError, "finite.*1 NaN"),
    "infinite": (holding(np.inf), VolumeError, "finite"),
    "float32 overflow": (holding(1e300, "float64"), VolumeError, "float32-overflowing"),
    "constant": (np.full((4, 5, 6), 7, np.uint8), VolumeError, "every voxel equals 7: .*constant"),
    "one plane": (stack(shape=(1, 20, 24)), ShapeError, "2D image"),
    "one row": (stack(shape=(6, 1, 24)), ShapeError, "2D image"),
    "one column": (stack(shape=(6, 20, 1)), ShapeError, "2D image"),
    "2D": (stack(shape=(20, 24)), ShapeError, "2D image"),
    "complex": (stack("complex64"), VolumeError, "real numbers, got complex64"),
    "RGB": (stack("uint8", (6, 20, 24, 3)), VolumeError, "RGB"),
}


@pytest.mark.parametrize("case", CONTENT)
def test_content_that_is_no_volume_is_refused(tmp_path, case):
    data, kind, match = CONTENT[case]
    np.save(tmp_path / "a.npy", data)
    refused(tmp_path / "a.npy", kind, match, voxel_size_um=SIZE)
    photometric = "rgb" if case == "RGB" else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", data, photometric=photometric)
    refused(tmp_path / "a.tif", kind, match, voxel_size_um=SIZE)


def test_planar_rgb_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack("uint8", (6, 3, 20, 24)), photometric="rgb", planarconfig="separate")
    refused(tmp_path / "a.tif", VolumeError, "RGB", voxel_size_um=SIZE)


def test_a_time_series_of_planes_is_refused_with_the_remedy(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), imagej=True, metadata={"axes": "TYX"})
    refused(tmp_path / "a.tif", ShapeError, "T of 6: if that is really z", voxel_size_um=SIZE)


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 0, 4), (0,)])
def test_empty_arrays_are_refused(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    refused(tmp_path / "a.npy", VqldmError, "empty", voxel_size_um=SIZE)


@pytest.mark.parametrize(
    "data", [np.array([["a", "b"]] * 4), np.zeros((4, 4, 4), [("a", "f4")]), np.zeros((3, 3, 3), "M8[s]")]
)
def test_arrays_of_other_things_are_refused(tmp_path, data):
    np.save(tmp_path / "a.npy", data)
    refused(tmp_path / "a.npy", VqldmError, "expected", voxel_size_um=SIZE)


def test_python_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.save(tmp_path / "a.npy", np.array([Trap()] * 8, dtype=object).reshape(2, 2, 2), allow_pickle=True)
    refused(tmp_path / "a.npy", FileError, "never opened", voxel_size_um=SIZE)
    assert not (tmp_path / "sprung").exists()


def test_several_images_in_one_file_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(stack())
        writer.write(stack(shape=(7, 10, 11)))
    refused(tmp_path / "a.tif", FileError, "holds 2 images .*6x20x24.*7x10x11", voxel_size_um=SIZE)


def test_a_preview_beside_the_stack_is_passed_over(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(stack())
        writer.write(stack(shape=(10, 11)))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif", voxel_size_um=SIZE).data, stack())


# --- files ------------------------------------------------------------------------------------------------------------


def test_paths_that_are_no_file_are_refused(tmp_path):
    refused(tmp_path / "none.tif", FileError, "no such file")
    refused(tmp_path, FileError, "is a folder")
    (tmp_path / "empty.tif").touch()
    refused(tmp_path / "empty.tif", FileError, "the file is empty")
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    refused(tmp_path / "a.jpg", FileError, "unknown format: expected .tif")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", stack())
    (tmp_path / "a.npy").chmod(0)
    refused(tmp_path / "a.npy", FileError, "denied")


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n" + bytes(50), b"hello", b"II*\0", b"MM\0*\0\0\0\x08", bytes(100)]
)
def test_files_that_only_look_like_tiff_are_refused(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    refused(tmp_path / "a.tif", FileError, "TIFF", voxel_size_um=SIZE)


def test_tiff_content_is_found_under_any_suffix(tmp_path):
    tifffile.imwrite(tmp_path / "a.dat", stack())
    np.testing.assert_array_equal(read_volume(tmp_path / "a.dat", voxel_size_um=SIZE).data, stack())


def write_ours(path):
    write_volume(path, Volume(stack(), SIZE, {"note": "x" * 300}))


WRITERS = {
    "imagej.tif": lambda path: tifffile.imwrite(path, stack(), imagej=True, metadata={"axes": "ZYX"}),
    "shaped.tif": lambda path: tifffile.imwrite(path, stack(), compression="zlib"),
    "bare.tif": lambda path: tifffile.imwrite(path, stack(), metadata=None),
    "bare-zlib.tif": lambda path: tifffile.imwrite(path, stack(), metadata=None, compression="zlib"),
    "ours.ome.tif": write_ours,
    "a.npy": lambda path: np.save(path, stack()),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_cut_anywhere_is_refused_or_complete(tmp_path, name, capsys):
    WRITERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    cut = tmp_path / f"cut.{name}"
    lengths = [*range(1, len(content), max(1, len(content) // 40)), len(content) - 1]
    complete = 0
    for length in lengths:
        cut.write_bytes(content[:length])
        data = read_or_message(cut)
        if isinstance(data, str):
            assert data.startswith(str(cut))
        else:
            np.testing.assert_array_equal(data, stack())  # only padding was cut off
            complete += 1
    assert complete <= 4
    assert capsys.readouterr() == ("", "")


# Words of NumPy, tifffile, struct and mmap that tell a user nothing.
LIBRARY_WORDS = ("buffer", "mmap", "unpack", "offset", "header=", "Error", "NoneType", "requires", "index")


@pytest.mark.parametrize("name", WRITERS)
def test_damage_is_told_with_its_remedy_and_without_library_words(tmp_path, name):
    WRITERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    cut = tmp_path / f"cut.{name}"
    for length in (6, 9, 60, 300, len(content) // 2, len(content) - 40):
        cut.write_bytes(content[:length])
        message = read_or_message(cut)
        assert isinstance(message, str)
        assert "copy the file again" in message
        assert not [word for word in LIBRARY_WORDS if word in message.removeprefix(str(cut))]


@pytest.mark.parametrize("name", WRITERS)
def test_flipped_bytes_never_escape_as_another_error(tmp_path, name):
    rng = np.random.default_rng(0)
    WRITERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    broken = tmp_path / f"broken.{name}"
    refusals = 0
    for _ in range(60):
        flipped = bytearray(content)
        flipped[rng.integers(0, min(600, len(content)))] = rng.integers(0, 256)
        broken.write_bytes(flipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            refusals += isinstance(read_or_message(broken), str)
    assert refusals > 0


def test_a_header_that_promises_terabytes_takes_no_memory(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), metadata=None, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        for page in tif.pages:
            page.tags["ImageWidth"].overwrite(1_000_000)
            page.tags["ImageLength"].overwrite(1_000_000)
    refused(tmp_path / "a.tif", FileError, "promises more data", voxel_size_um=SIZE)


def test_a_missing_decoder_says_what_to_install(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", stack(), compression="zlib")

    def missing(*_args, **_options):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", missing)
    refused(tmp_path / "a.tif", FileError, "pip install imagecodecs", voxel_size_um=SIZE)
