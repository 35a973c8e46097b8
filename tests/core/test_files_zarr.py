"""OME-Zarr: what versions 0.4 and 0.5 hold is read, what we write is valid and comes back bit for bit."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from napari_vqldm.errors import FileError, ShapeError, VolumeError
from napari_vqldm.files import list_volumes, read_volume, write_volume
from napari_vqldm.volume import Volume

SIZE = (0.3, 0.2, 0.1)


def stack(shape=(5, 8, 7)):
    return np.random.default_rng(0).integers(0, 100, shape).astype("uint16")


@pytest.fixture
def zarr():
    return pytest.importorskip("zarr")


def write_image(zarr, path, data, version="0.5", axes="zyx", units="micrometer", scale=None, whole=None, labels=()):
    """Write an image as other programs do, with a second, coarser level."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("full", data=data, chunks=(4,) * data.ndim)
    group.create_array("half", data=data[..., ::2, ::2], chunks=(4,) * data.ndim)
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    for axis in described:
        if axis["type"] == "space" and units:
            axis["unit"] = units
    scale = scale or dict(zip("zyx", SIZE, strict=True))
    scales = [[float(scale.get(a, 1)) * (factor if a in "yx" else 1) for a in axes] for factor in (1, 2)]
    image = {
        "axes": described,
        "datasets": [
            {"path": p, "coordinateTransformations": [{"type": "scale", "scale": s}]}
            for p, s in zip(("full", "half"), scales, strict=True)
        ],
    }
    if whole:
        image["coordinateTransformations"] = [{"type": "scale", "scale": whole}]
    extra = {"omero": {"channels": [{"label": label} for label in labels]}} if labels else {}
    if version == "0.4":
        group.attrs.update({"multiscales": [image | {"version": "0.4"}], **extra})
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image], **extra}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("units", "factor"), [("micrometer", 1), ("nanometer", 1e-3), ("millimeter", 1e3)])
def test_both_versions_and_their_units(zarr, tmp_path, version, units, factor):
    scale = {a: s / factor for a, s in zip("zyx", SIZE, strict=True)}
    write_image(zarr, tmp_path / "a.zarr", stack(), version, units=units, scale=scale)
    volume = read_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(volume.data, stack())
    assert volume.voxel_size_um == pytest.approx(SIZE, rel=1e-12)
    assert volume.provenance["source"]["format"] == "OME-Zarr"


def test_the_scale_of_the_image_multiplies_that_of_the_level(zarr, tmp_path):
    write_image(zarr, tmp_path / "a.zarr", stack(), whole=[2.0, 1.0, 0.5])
    assert read_volume(tmp_path / "a.zarr").voxel_size_um == pytest.approx((0.6, 0.2, 0.05))


def test_channels_and_times_are_chosen(zarr, tmp_path):
    data = stack((2, 3, 5, 8, 7))
    write_image(zarr, tmp_path / "a.zarr", data, axes="tczyx", labels=("DNA", "tubulin", "actin"))
    with pytest.raises(VolumeError, match="0 'DNA', 1 'tubulin', 2 'actin'"):
        read_volume(tmp_path / "a.zarr", time=0)
    with pytest.raises(VolumeError, match=r"--time 0\.\.1"):
        read_volume(tmp_path / "a.zarr", channel=0)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.zarr", channel="tubulin", time=1).data, data[1, 1])


def test_a_scale_without_unit_states_no_voxel_size(zarr, tmp_path):
    write_image(zarr, tmp_path / "a.zarr", stack(), units="")
    with pytest.raises(VolumeError, match="--voxel-size Z Y X"):
        read_volume(tmp_path / "a.zarr")
    assert read_volume(tmp_path / "a.zarr", voxel_size_um=SIZE).voxel_size_um == SIZE


def test_a_plane_is_refused(zarr, tmp_path):
    write_image(zarr, tmp_path / "a.zarr", stack((8, 7)), axes="yx")
    with pytest.raises(ShapeError, match="2D image"):
        read_volume(tmp_path / "a.zarr")


def test_round_trip(zarr, tmp_path):
    data = np.random.default_rng(0).normal(size=(70, 9, 300)).astype(np.float32)  # several chunks
    data[0, 0, 0] = -0.0
    written = Volume(
        data, (0.2662083623500448, 1 / 3, 0.065), {"software": "napari-vqldm", "request": {"seed": 7}}, "a"
    )
    path = write_volume(tmp_path / "a.ome.zarr", written)
    back = read_volume(path)
    np.testing.assert_array_equal(back.data.view(np.uint32), data.view(np.uint32))
    assert back.voxel_size_um == written.voxel_size_um
    assert back.provenance == written.provenance
    assert back.name == "a"
    assert list_volumes(tmp_path) == [path]
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_what_we_write_is_valid_ome_zarr(zarr, tmp_path):
    models = pytest.importorskip("ome_zarr_models.v05")
    path = write_volume(tmp_path / "a.zarr", Volume(stack(), SIZE))
    image = models.Image.from_zarr(zarr.open_group(str(path), mode="r"))
    (level,) = image.ome_attributes.multiscales[0].datasets
    assert tuple(level.coordinateTransformations[0].scale) == SIZE
    assert [axis.unit for axis in image.ome_attributes.multiscales[0].axes] == ["micrometer"] * 3


@pytest.mark.filterwarnings("ignore")  # of another package
def test_ome_zarr_reads_what_we_write(zarr, tmp_path):
    io = pytest.importorskip("ome_zarr.io", reason="ome-zarr is not installed: pip install '.[zarr]'")
    reader = pytest.importorskip("ome_zarr.reader")
    path = write_volume(tmp_path / "a.zarr", Volume(stack(), SIZE))
    (node,) = reader.Reader(io.parse_url(str(path)))()
    np.testing.assert_array_equal(np.asarray(node.data[0]), stack())
    assert [axis["name"] for axis in node.metadata["axes"]] == ["z", "y", "x"]
    assert node.metadata["coordinateTransformations"][0] == [{"type": "scale", "scale": list(SIZE)}]


def test_an_existing_folder_needs_force(zarr, tmp_path):
    path = write_volume(tmp_path / "a.zarr", Volume(stack(), SIZE))
    with pytest.raises(FileError, match="--force"):
        write_volume(path, Volume(stack() + 1, SIZE))
    np.testing.assert_array_equal(read_volume(path).data, stack())
    write_volume(path, Volume(stack() + 1, SIZE), force=True)
    np.testing.assert_array_equal(read_volume(path).data, stack() + 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_failed_write_keeps_the_old_folder(zarr, tmp_path, monkeypatch):
    path = write_volume(tmp_path / "a.zarr", Volume(stack(), SIZE))
    real = zarr.open_group

    def full(*args, **options):
        real(*args, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zarr, "open_group", full)
    with pytest.raises(FileError, match="disk is full"):
        write_volume(path, Volume(stack() + 1, SIZE), force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    np.testing.assert_array_equal(read_volume(path).data, stack())


def test_folders_that_hold_no_image_say_what_they_hold(zarr, tmp_path):
    write_image(zarr, tmp_path / "a.zarr", stack())
    with pytest.raises(FileError, match="bare Zarr array"):
        read_volume(tmp_path / "a.zarr" / "full")
    for attributes, message in (
        ({"plate": {}}, "plate or a well"),
        ({"bioformats2raw.layout": 3}, "subfolder 0"),
        ({"other": 1}, "no multiscales"),
    ):
        zarr.open_group(str(tmp_path / "b.zarr"), mode="w").attrs.update({"ome": attributes})
        with pytest.raises(FileError, match=message):
            read_volume(tmp_path / "b.zarr")


def test_damaged_folders_are_refused(zarr, tmp_path):
    write_image(zarr, tmp_path / "a.zarr", stack())
    meta = tmp_path / "a.zarr" / "zarr.json"
    good = json.loads(meta.read_text())
    for change in (
        "{",
        "[]",
        "{}",
        json.dumps(good | {"attributes": {"ome": {"multiscales": []}}}),
        json.dumps(good | {"attributes": {"ome": {"multiscales": [{"datasets": [{"path": "none"}]}]}}}),
    ):
        meta.write_text(change)
        with pytest.raises(FileError, match="OME-Zarr"):
            read_volume(tmp_path / "a.zarr")
    meta.write_text(json.dumps(good))
    chunk = next(p for p in (tmp_path / "a.zarr" / "full" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:5])
    with pytest.raises(FileError, match=r"damaged OME-Zarr.*copy the folder again"):
        read_volume(tmp_path / "a.zarr")


def test_without_zarr_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(FileError, match=r"pip install 'napari-vqldm\[zarr\]'"):
        read_volume(tmp_path / "a.zarr")
    with pytest.raises(FileError, match=r"pip install 'napari-vqldm\[zarr\]'"):
        write_volume(tmp_path / "b.zarr", Volume(stack(), SIZE))
    assert not (tmp_path / "b.zarr").exists()
