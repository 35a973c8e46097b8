"""What is written is read back bit for bit, by us and by others; a failed write leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import threading
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from pydantic import BaseModel

from napari_vqldm.errors import FileError, VolumeError
from napari_vqldm.files import atomic_path, list_volumes, read_volume, write_volume
from napari_vqldm.files.provenance import make_provenance, to_jsonable
from napari_vqldm.files.samples import sample_path
from napari_vqldm.volume import Volume

SIZE = (0.2662083623500448, 1 / 3, 0.0649993)


class Settings(BaseModel):
    steps: int = 30
    shape: tuple[int, int, int] = (1, 2, 3)


def volume(**changes):
    data = np.random.default_rng(0).normal(size=(5, 9, 7)).astype(np.float32) * 1e3
    data[0, 0, :4] = [-0.0, 1e-42, -3.4e38, 3.4e38]  # negative zero, a subnormal, both ends of the range
    record = make_provenance(
        "generate",
        path=Path("in/a.tif"),
        seed=7,
        values=(1, 2.5, np.float32(0.1)),
        text="µm \x00 <&> \"'\n]]>",
        settings=Settings(),
        nothing=None,
        flag=True,
    )
    return Volume(**{"data": data, "voxel_size_um": SIZE, "provenance": record, "name": "a"} | changes)


def same_bits(a, b):
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


# --- OME-TIFF ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.tiff", "a.tif", "a.TIFF"])
def test_ome_tiff_round_trip(tmp_path, name):
    written = volume()
    assert write_volume(tmp_path / name, written) == tmp_path / name
    back = read_volume(tmp_path / name)
    same_bits(back.data, written.data)
    assert back.voxel_size_um == pytest.approx(SIZE, rel=1e-9)
    assert back.provenance == written.provenance
    assert back.name == "a"
    assert [p.name for p in tmp_path.iterdir()] == [name]  # nothing temporary is left


def test_a_real_stack_round_trips(tmp_path):
    source = read_volume(sample_path("spindle_morph_volume00"))
    back = read_volume(write_volume(tmp_path / "a.ome.tif", source))
    same_bits(back.data, source.data)
    assert back.voxel_size_um == source.voxel_size_um
    assert back.provenance == source.provenance
    assert back.provenance["source"]["file"] == "spindle_morph_volume00.tif"


def test_other_readers_see_the_image_and_its_size(tmp_path):
    written = volume()
    path = write_volume(tmp_path / "a.ome.tif", written)
    np.testing.assert_array_equal(tifffile.imread(path), written.data)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "ZYX"
        assert len(tif.pages) == 5
        assert {page.compression for page in tif.pages} == {tifffile.COMPRESSION.ADOBE_DEFLATE}
        assert tif.pages[0].photometric == tifffile.PHOTOMETRIC.MINISBLACK
        root = ElementTree.fromstring(tif.ome_metadata)
    ns = {"o": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    pixels = root.find("o:Image/o:Pixels", ns)
    assert pixels.get("Type") == "float"
    assert {a: float(pixels.get(f"PhysicalSize{a}")) for a in "ZYX"} == dict(zip("ZYX", SIZE, strict=True))
    assert {pixels.get(f"PhysicalSize{a}Unit") for a in "ZYX"} == {"\u00b5m"}
    assert [int(pixels.get(f"Size{a}")) for a in "ZYXCT"] == [5, 9, 7, 1, 1]
    assert json.loads(root.find("o:Image/o:Description", ns).text) == written.provenance
    annotation = root.find("o:StructuredAnnotations/o:MapAnnotation", ns)
    assert annotation.get("Namespace") == "napari-vqldm"
    assert json.loads(annotation.find("o:Value/o:M[@K='provenance']", ns).text) == written.provenance
    assert root.find("o:Image/o:AnnotationRef", ns).get("ID") == annotation.get("ID")


def test_the_record_survives_the_loss_of_the_annotation(tmp_path):
    path = write_volume(tmp_path / "a.ome.tif", volume())
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    start, stop = xml.index("<StructuredAnnotations>"), xml.index("</StructuredAnnotations>")
    shorter = xml[:start] + xml[stop + len("</StructuredAnnotations>") :]
    tifffile.tiffcomment(path, shorter.encode())
    assert read_volume(path).provenance == volume().provenance


def test_foreign_descriptions_are_no_record(tmp_path):
    for text in ("taken on Monday", '{"software": "other"}', "[1, 2]"):
        tifffile.imwrite(
            tmp_path / "a.ome.tif",
            volume().data,
            ome=True,
            metadata={"axes": "ZYX", "Description": text, **{f"PhysicalSize{a}": 0.1 for a in "ZYX"}},
        )
        assert read_volume(tmp_path / "a.ome.tif").provenance["verb"] == "read"


def test_the_writer_is_deterministic(tmp_path):
    written = volume()
    a = write_volume(tmp_path / "a.ome.tif", written).read_bytes()
    assert write_volume(tmp_path / "b.ome.tif", written).read_bytes() == a
    assert write_volume(tmp_path / "c.ome.tif", volume(voxel_size_um=(0.2, 0.1, 0.1))).read_bytes() != a


@pytest.mark.parametrize("name", ["", "\x00\x01", "a<b>&\"c'", "Mikrotubuli \u00b5 \u5fae\u7ba1"])
def test_any_name_makes_valid_xml(tmp_path, name):
    path = write_volume(tmp_path / "a.ome.tif", volume(name=name))
    same_bits(read_volume(path).data, volume().data)


def test_an_unknown_suffix_is_refused(tmp_path):
    for name in ("a.png", "a", "a.npy"):
        with pytest.raises(FileError, match=r"use \.ome\.tif or \.zarr"):
            write_volume(tmp_path / name, volume())


# --- provenance -------------------------------------------------------------------------------------------------------


def test_a_record_says_who_when_and_what():
    record = make_provenance("generate", seed=7, settings=Settings(), path=Path("a/b"))
    assert record["software"] == "napari-vqldm"
    assert record["verb"] == "generate"
    assert record["created"].endswith("+00:00")
    assert {"torch", "numpy"} <= set(record["packages"])
    assert record["request"] == {"seed": 7, "settings": {"steps": 30, "shape": [1, 2, 3]}, "path": "a/b"}
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_values_without_a_json_form_become_text():
    plain = to_jsonable(
        {1: float("nan"), "a": np.arange(3), "b": {3, 1}, "c": np.int16(4), "d": (b"x", np.bool_(True))}
    )
    assert plain == {"1": "nan", "a": [0, 1, 2], "b": [1, 3], "c": 4, "d": ["b'x'", True]}
    with pytest.raises(VolumeError, match="differ as text"):
        to_jsonable({1: 0, "1": 0})


# --- atomic -----------------------------------------------------------------------------------------------------------


def test_an_existing_file_is_kept_without_force(tmp_path):
    path = tmp_path / "a.ome.tif"
    path.write_bytes(b"old")
    with pytest.raises(FileError, match=r"exists already.*--force"):
        write_volume(path, volume())
    assert path.read_bytes() == b"old"
    write_volume(path, volume(), force=True)
    assert read_volume(path).shape == (5, 9, 7)


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(FileError, match="exists already"), atomic_path(tmp_path / "a") as temporary:
        temporary.write_bytes(b"new")
        (tmp_path / "a").write_bytes(b"other process")
    assert (tmp_path / "a").read_bytes() == b"other process"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, MemoryError])
@pytest.mark.parametrize("force", [False, True])
def test_any_failure_leaves_the_old_file_and_nothing_else(tmp_path, stop, force):
    if force:
        (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(stop), atomic_path(tmp_path / "a", force) as temporary:
        temporary.write_bytes(b"half")
        raise stop
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == ([("a", b"old")] if force else [])


def test_half_written_files_are_never_listed(tmp_path):
    with atomic_path(tmp_path / "a.tif") as temporary:
        temporary.write_bytes(b"half")
        with pytest.raises(FileError, match="no volumes"):
            list_volumes(tmp_path)
    assert list_volumes(tmp_path) == [tmp_path / "a.tif"]


def test_permissions_follow_the_umask(tmp_path):
    expected = tmp_path / "plain"
    expected.write_bytes(b"")
    path = write_volume(tmp_path / "a.tif", volume())
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(expected.stat().st_mode)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_write_that_fails_midway_leaves_no_half_file(tmp_path, monkeypatch, code, message):
    real = tifffile.FileHandle.write

    def full(self, data, *args):
        if self.tell() > 300:
            raise OSError(code, os.strerror(code))
        return real(self, data, *args)

    monkeypatch.setattr(tifffile.FileHandle, "write", full)
    with pytest.raises(FileError, match=message) as caught:
        write_volume(tmp_path / "a.ome.tif", volume())
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_short_write_without_an_error_number_is_one_line(tmp_path):
    with pytest.raises(FileError, match="63 requested and 12 written"), atomic_path(tmp_path / "a"):
        raise OSError("63 requested and 12 written")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("name", ["a.ome.tif", "a.zarr"])
def test_a_really_full_disk(tmp_path, name):
    if name.endswith(".zarr"):
        pytest.importorskip("zarr")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        big = np.random.default_rng(0).normal(size=(20, 64, 64)).astype(np.float32)  # noise does not compress
        with pytest.raises(FileError, match="disk is full"):
            write_volume(disk / name, Volume(big, SIZE))
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_targets_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path, message in (
        (tmp_path / "none" / "a.tif", "folder does not exist"),
        (tmp_path / "folder.tif", "it is a folder"),
        (tmp_path / "file" / "a.tif", "a file, not a folder|does not exist"),
        (tmp_path / ("x" * 300 + ".tif"), "too long"),
    ):
        with pytest.raises(FileError, match=message):
            write_volume(path, volume(), force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.tif"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FileError, match="permission denied"):
            write_volume(tmp_path / "a.tif", volume())
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that refuses files to everybody")
def test_a_folder_that_takes_no_files_is_refused():
    with pytest.raises(FileError, match="cannot write"):
        write_volume("/proc/a.tif", volume())


def test_a_reader_sees_the_old_or_the_new_file_only(tmp_path):
    path = tmp_path / "a.ome.tif"
    contents = [volume().data, volume().data[::-1].copy()]
    write_volume(path, volume())
    done = threading.Event()

    def rewrite():
        for i in range(20):
            write_volume(path, volume(data=contents[i % 2]), force=True)
        done.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    reads = 0
    while not done.is_set() or reads == 0:
        raw = tifffile.imread(path)
        assert any(np.array_equal(raw, c) for c in contents)
        reads += 1
    writer.join()
