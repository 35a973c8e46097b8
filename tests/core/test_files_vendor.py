"""Vendor formats are read through bioio where it is installed; elsewhere one line says what to install."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_vqldm.errors import FileError, VolumeError
from napari_vqldm.files import read_volume

SIZE = (0.3, 0.2, 0.1)


@pytest.mark.parametrize(("suffix", "package"), [(".czi", "bioio-czi"), (".lif", "bioio-lif"), (".nd2", "bioio-nd2")])
def test_vendor_formats_say_what_to_install(tmp_path, monkeypatch, suffix, package):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"ZISRAWFILE")
    monkeypatch.setitem(sys.modules, "bioio", None)  # importing it fails, installed or not
    with pytest.raises(FileError, match=f"pip install bioio {package}, or save the stack as OME-TIFF"):
        read_volume(path)


def install_bioio(monkeypatch, **attributes):
    """Put a stand-in for bioio, which the test environment lacks, into `sys.modules`."""
    data = np.random.default_rng(0).integers(0, 100, (2, 3, 4, 8, 7)).astype("uint16")  # TCZYX

    class Unsupported(Exception):
        pass

    class Image(SimpleNamespace):
        def __init__(self, path):
            super().__init__(
                scenes=("Image:0",),
                dims=SimpleNamespace(order="TCZYX"),
                shape=data.shape,
                dtype=data.dtype,
                channel_names=["DNA", "tubulin", "actin"],
                physical_pixel_sizes=SimpleNamespace(Z=0.3, Y=0.2, X=0.1),
            )
            self.__dict__.update(attributes)
            if Path(path).read_bytes() == b"unknown":
                raise Unsupported(path)

        def get_image_data(self, order, **chosen):
            assert order == "ZYX"
            return data[chosen["T"], chosen["C"]]

    monkeypatch.setitem(sys.modules, "bioio", SimpleNamespace(BioImage=Image))
    monkeypatch.setitem(sys.modules, "bioio_base", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "bioio_base.exceptions", SimpleNamespace(UnsupportedFileFormatError=Unsupported))
    return data


def test_vendor_formats_are_read_through_bioio(tmp_path, monkeypatch):
    data = install_bioio(monkeypatch)
    path = tmp_path / "a.nd2"
    path.write_bytes(b"known")
    volume = read_volume(path, channel="tubulin", time=1)
    np.testing.assert_array_equal(volume.data, data[1, 1])
    assert volume.voxel_size_um == SIZE
    with pytest.raises(VolumeError, match="1 'tubulin'"):
        read_volume(path, time=1)
    path.write_bytes(b"unknown")
    with pytest.raises(FileError, match="pip install bioio bioio-nd2"):
        read_volume(path, channel=1, time=1)


def test_a_vendor_file_that_bioio_cannot_read_is_told_with_a_remedy(tmp_path, monkeypatch):
    install_bioio(monkeypatch, dims=None)
    (tmp_path / "a.lif").write_bytes(b"known")
    with pytest.raises(FileError, match=r"bioio cannot read it \(.*\): copy the file again"):
        read_volume(tmp_path / "a.lif")


def test_vendor_files_with_several_scenes_are_refused(tmp_path, monkeypatch):
    install_bioio(monkeypatch, scenes=("left", "right"))
    (tmp_path / "a.lif").write_bytes(b"known")
    with pytest.raises(FileError, match=r"holds 2 images .*'left', 'right'"):
        read_volume(tmp_path / "a.lif")
