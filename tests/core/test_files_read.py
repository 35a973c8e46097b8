"""What `read_volume` accepts: formats, voxel sizes with units, number types, and explicit choices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_vqldm.card import read_header
from napari_vqldm.errors import FileError, VolumeError
from napari_vqldm.files import list_volumes, read_volume
from napari_vqldm.files.samples import generated_path, sample_names, sample_path
from napari_vqldm.files.units import to_um
from napari_vqldm.volume import hash_voxels
from napari_vqldm.zoo import available

SIZE = (0.3, 0.2, 0.1)


def stack(dtype="uint16", shape=(5, 8, 7)):
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def write_imagej(path, data, axes="ZYX", unit="um", spacing=0.3, resolution=(10, 5), **options):
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=resolution,
        metadata={"axes": axes, "spacing": spacing, "unit": unit},
        **options,
    )


# --- voxel size -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("um", 1),
        ("micron", 1),
        ("\\u00B5m", 1),
        ("micrometer", 1),
        ("nm", 1e-3),
        ("mm", 1e3),
        ("cm", 1e4),
        ("inch", 25400),
    ],
)
def test_imagej_units(tmp_path, unit, factor):
    path = tmp_path / "a.tif"
    write_imagej(path, stack(), unit=unit, spacing=0.3 / factor, resolution=(10 * factor, 5 * factor))
    assert read_volume(path).voxel_size_um == pytest.approx(SIZE, rel=1e-5)


@pytest.mark.parametrize("unit", ["um", "\u00b5m", "\u03bcm", "nm", "mm"])
def test_ome_units(tmp_path, unit):
    factor = {"nm": 1e-3, "mm": 1e3}.get(unit, 1.0)
    sizes = {f"PhysicalSize{a}": s / factor for a, s in zip("ZYX", SIZE, strict=True)}
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        stack(),
        ome=True,
        metadata={"axes": "ZYX", **sizes, **{f"PhysicalSize{a}Unit": unit for a in "ZYX"}},
    )
    assert read_volume(tmp_path / "a.ome.tif").voxel_size_um == pytest.approx(SIZE, rel=1e-12)


@pytest.mark.parametrize(("unit", "per_um"), [("CENTIMETER", 1e4), ("INCH", 25400)])
def test_resolution_tags_count_with_the_spacing_of_the_description(tmp_path, unit, per_um):
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack(),
        resolution=(10 * per_um, 5 * per_um),
        resolutionunit=unit,
        metadata={"axes": "ZYX", "spacing": 0.3 / per_um},
    )
    assert read_volume(tmp_path / "a.tif").voxel_size_um == pytest.approx(SIZE, rel=1e-5)


def test_a_missing_voxel_size_names_the_option(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack())
    with pytest.raises(VolumeError, match="--voxel-size Z Y X"):
        read_volume(tmp_path / "a.tif")
    assert read_volume(tmp_path / "a.tif", voxel_size_um=SIZE).voxel_size_um == SIZE


@pytest.mark.parametrize("unit", ["pixel", "furlong", ""])
def test_a_unit_that_is_no_length_states_no_voxel_size(tmp_path, unit):
    write_imagej(tmp_path / "a.tif", stack(), unit=unit)
    with pytest.raises(VolumeError, match="--voxel-size Z Y X"):
        read_volume(tmp_path / "a.tif")


def test_a_voxel_size_without_z_says_what_is_known(tmp_path):
    write_imagej(tmp_path / "a.tif", stack(), spacing=None)
    with pytest.raises(VolumeError, match=r"states only y = 0.2 um, x = 0.1 um: give --voxel-size Z Y X"):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "size", [(0, 0.1, 0.1), (-0.2, 0.1, 0.1), (0.2, 0.1, float("nan")), (0.2, 0.1, 5000), (0.2, 0.1)]
)
def test_an_absurd_voxel_size_is_refused(tmp_path, size):
    np.save(tmp_path / "a.npy", stack())
    with pytest.raises(VolumeError, match="--voxel-size Z Y X"):
        read_volume(tmp_path / "a.npy", voxel_size_um=size)


def test_an_absurd_voxel_size_in_the_file_is_refused(tmp_path):
    write_imagej(tmp_path / "a.tif", stack(), unit="inch", resolution=(72, 72))  # the default of office programs
    with pytest.raises(VolumeError, match="--voxel-size Z Y X"):
        read_volume(tmp_path / "a.tif")


def test_lengths_become_micrometres():
    assert to_um(250, "nm") == pytest.approx(0.25)
    assert to_um("0.1", " Microns ") == 0.1
    assert to_um(1, "pixel") is None
    assert to_um("thin", "um") is None
    assert to_um(0, "um") is None


# --- numbers ----------------------------------------------------------------------------------------------------------

NUMBERS = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_number_type_and_byte_order(tmp_path, dtype, order):
    data = stack("int64") - (50 if dtype.startswith(("int", "float")) else 0)
    data = data % 2 if dtype == "bool" else data
    data = data.astype(np.dtype(dtype).newbyteorder(order))
    np.save(tmp_path / "a.npy", data)
    tifffile.imwrite(tmp_path / "a.tif", data, byteorder=order)
    for name in ("a.npy", "a.tif"):
        volume = read_volume(tmp_path / name, voxel_size_um=SIZE)
        assert volume.data.dtype == np.float32
        assert volume.data.dtype.isnative
        np.testing.assert_array_equal(volume.data, data.astype(np.float32))


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 2, 40), (2, 33, 2), (17, 2, 2), (3, 4, 5)])
def test_every_size_of_two_voxels_or_more(tmp_path, shape):
    data = stack(shape=shape)
    np.save(tmp_path / "a.npy", data)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    write_imagej(tmp_path / "j.tif", data)
    for name in ("a.npy", "a.tif", "j.tif"):
        np.testing.assert_array_equal(read_volume(tmp_path / name, voxel_size_um=SIZE).data, data)


@pytest.mark.parametrize(
    "options", [{"compression": "zlib"}, {"bigtiff": True}, {"tile": (16, 16)}, {"rowsperstrip": 2}]
)
def test_tiff_layouts(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", stack(), **options)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif", voxel_size_um=SIZE).data, stack())


def test_pages_without_any_description_are_planes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(), metadata=None)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif", voxel_size_um=SIZE).data, stack())


# --- choices ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hyperstack(tmp_path):
    """OME-TIFF of 2 times, 3 planes, 3 named channels."""
    data = stack(shape=(2, 3, 3, 8, 7))  # TZCYX
    tifffile.imwrite(
        tmp_path / "h.ome.tif",
        data,
        ome=True,
        photometric="minisblack",
        metadata={
            "axes": "TZCYX",
            "Channel": {"Name": ["DNA", "tubulin", "actin"]},
            **{f"PhysicalSize{a}": s for a, s in zip("ZYX", SIZE, strict=True)},
        },
    )
    return tmp_path / "h.ome.tif", data


@pytest.mark.parametrize("channel", [1, "1", "tubulin", "Tubulin"])
def test_channel_and_time_are_chosen(hyperstack, channel):
    path, data = hyperstack
    volume = read_volume(path, channel=channel, time=1)
    np.testing.assert_array_equal(volume.data, data[1, :, 1])
    assert volume.provenance["source"] == {
        "file": "h.ome.tif",
        "format": "OME-TIFF",
        "dtype": "uint16",
        "axes": "TZCYX",
        "shape": [2, 3, 3, 8, 7],
        "channel": 1,
        "channel_name": "tubulin",
        "time": 1,
    }


def test_imagej_hyperstacks_are_chosen_from(tmp_path):
    data = stack(shape=(2, 4, 3, 8, 7))
    write_imagej(tmp_path / "h.tif", data, axes="TZCYX")
    np.testing.assert_array_equal(read_volume(tmp_path / "h.tif", channel=2, time=0).data, data[0, :, 2])


@pytest.mark.parametrize(
    ("channel", "time", "message"),
    [
        (None, 1, r"holds 3 channels: choose one with --channel: 0 'DNA', 1 'tubulin', 2 'actin'"),
        (0, None, r"holds 2 time points: choose one with --time 0\.\.1"),
        (3, 0, r"no channel 3: .*2 'actin'"),
        (-1, 0, r"no channel -1"),
        ("GFP", 0, r"no single channel named 'GFP': .*1 'tubulin'"),
        (0, 2, r"no time point 2: choose one with --time 0\.\.1"),
    ],
)
def test_a_missing_or_wrong_choice_lists_the_choices(hyperstack, channel, time, message):
    with pytest.raises(VolumeError, match=message):
        read_volume(hyperstack[0], channel=channel, time=time)


def test_arrays_without_axis_names_need_a_choice(tmp_path):
    data = stack(shape=(2, 3, 5, 8, 7))
    np.save(tmp_path / "four.npy", data[0])
    np.save(tmp_path / "five.npy", data)
    tifffile.imwrite(tmp_path / "four.tif", data[0], photometric="minisblack")
    for name in ("four.npy", "four.tif"):
        with pytest.raises(VolumeError, match=r"3 x 5 x 8 x 7 without names: .*--channel 0\.\.2 or --time 0\.\.2"):
            read_volume(tmp_path / name, voxel_size_um=SIZE)
        np.testing.assert_array_equal(read_volume(tmp_path / name, voxel_size_um=SIZE, channel=2).data, data[0, 2])
        np.testing.assert_array_equal(read_volume(tmp_path / name, voxel_size_um=SIZE, time=1).data, data[0, 1])
    with pytest.raises(VolumeError, match="without names"):
        read_volume(tmp_path / "five.npy", voxel_size_um=SIZE, channel=0)
    chosen = read_volume(tmp_path / "five.npy", voxel_size_um=SIZE, channel=2, time=1)
    np.testing.assert_array_equal(chosen.data, data[1, 2])


def test_a_choice_that_a_plain_stack_does_not_offer_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", stack())
    assert read_volume(tmp_path / "a.npy", voxel_size_um=SIZE, channel=0, time=0).shape == (5, 8, 7)
    with pytest.raises(VolumeError, match="no channel 1"):
        read_volume(tmp_path / "a.npy", voxel_size_um=SIZE, channel=1)
    with pytest.raises(VolumeError, match="no time point 1"):
        read_volume(tmp_path / "a.npy", voxel_size_um=SIZE, time=1)


# --- samples, folders, imports ----------------------------------------------------------------------------------------


def test_samples_are_real_stacks_with_a_voxel_size():
    assert sample_names() == ("spindle3d_multidna2", "spindle_morph_volume00")
    volume = read_volume(sample_path("spindle_morph_volume00"))
    assert volume.shape == (32, 100, 100)
    assert volume.voxel_size_um == pytest.approx((0.75, 0.2662, 0.2662), abs=1e-4)
    assert volume.data.max() == 120
    volume = read_volume(sample_path("spindle3d_multidna2"))
    assert volume.shape == (40, 100, 100)
    assert volume.voxel_size_um == pytest.approx((0.5, 0.225, 0.225), abs=1e-4)
    assert (volume.data.min(), volume.data.max()) == (498, 5840)
    with pytest.raises(FileError, match="spindle_morph_volume00"):
        sample_path("nothing")


def test_the_generated_sample_says_how_it_was_made_and_is_as_it_was():
    volume = read_volume(generated_path())
    record = volume.provenance
    assert (record["verb"], record["request"]["model"]) == ("generate", "ldm")
    assert record["request"]["weights_sha256"] == read_header(available()["ldm"]).card.weights_sha256
    assert record["voxels_sha256"] == hash_voxels(volume)
    assert volume.data.shape == tuple(record["request"]["shape"]) and volume.data.std() > 0.1


def test_samples_are_small_and_attributed():
    folder = sample_path("spindle3d_multidna2").parent
    assert sum(sample_path(name).stat().st_size for name in sample_names()) < 10**6
    assert generated_path().parent == folder and generated_path().stat().st_size < 2**20
    text = (folder / "ATTRIBUTION.md").read_text()
    assert all(f"{name}.tif" in text for name in sample_names())
    assert generated_path().name in text
    assert "BSD-2-Clause" in text
    assert "EMBL" in text


def test_a_folder_lists_what_can_be_read(tmp_path):
    for name in ("b.tif", "a.npy", ".a.tif.1234.part", ".hidden.tif", "notes.txt", "c.OME.TIFF"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d.zarr").mkdir()
    (tmp_path / "folder.tif").mkdir()
    assert [p.name for p in list_volumes(tmp_path)] == ["a.npy", "b.tif", "c.OME.TIFF", "d.zarr"]


def test_a_folder_without_volumes_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"x")
    for path, message in (
        (tmp_path, "no volumes"),
        (tmp_path / "none", "no such"),
        (tmp_path / "notes.txt", "not a folder"),
    ):
        with pytest.raises(FileError, match=message):
            list_volumes(path)


def test_files_need_neither_torch_nor_zarr():
    code = (
        "import sys, napari_vqldm.files, napari_vqldm.files.latents, napari_vqldm.intensity, napari_vqldm.tiles\n"
        "import napari_vqldm.resample\n"
        "from napari_vqldm.files.provenance import make_provenance\n"
        "make_provenance('test')\n"
        "sys.exit(int(bool({'torch', 'zarr', 'bioio'} & set(sys.modules))))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


REAL = os.environ.get("NAPARI_VQLDM_REAL_DATA", "")


@pytest.mark.skipif(not REAL, reason="set NAPARI_VQLDM_REAL_DATA to the folder of real stacks")
@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [
        ("spindle3d_R1E_mESC_zeiss40x", (96, 106, 106), (0.25, 0.25, 0.25)),
        ("spindle_morph_length9p5", (89, 100, 100), (0.3, 0.3437, 0.3437)),
        ("bigtrace_synaptonemal_complex", (25, 80, 79), (0.2, 0.065, 0.065)),
        ("flowdec_neuron_25pct", (50, 256, 256), None),
    ],
)
def test_real_stacks(name, shape, size):
    path = Path(REAL) / f"{name}.tif"
    if size is None:
        with pytest.raises(VolumeError, match="--voxel-size Z Y X"):
            read_volume(path)
    volume = read_volume(path, voxel_size_um=None if size else (0.4, 0.2, 0.2))
    assert volume.shape == shape
    assert volume.voxel_size_um == pytest.approx(size or (0.4, 0.2, 0.2), abs=1e-4)
