"""Folders of which no file can be compared: how many, and why, whatever else lies there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_vqldm.errors import ConfigError
from napari_vqldm.files import write_volume
from napari_vqldm.report.folders import folder_windows
from napari_vqldm.report.sets import VOXEL_SIZE_UM
from napari_vqldm.volume import Volume


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as error:
        folder_windows(folder, 4, None)
    return str(error.value)


def flat(path: Path) -> None:
    write_volume(path, Volume(np.arange(4 * 128 * 128, dtype=np.float32).reshape(4, 128, 128), VOXEL_SIZE_UM))


def test_a_broken_file_does_not_hide_why_the_others_fail(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0 no image")
    for name in "bcde":
        np.save(tmp_path / f"{name}.npy", np.ones((32, 128, 128), np.float32))
    told = refusal(tmp_path)
    assert "5 files could not be used: a.tif was left out" in told
    assert "b.npy was left out" in told and "voxel size" in told and "c.npy was left out" in told
    assert "d.npy" not in told and told.endswith("and 2 more")


def test_label_images_do_not_hide_why_the_others_fail(tmp_path: Path) -> None:
    for name in ("a-labels", "b", "c"):
        flat(tmp_path / f"{name}.ome.tif")
    told = refusal(tmp_path)
    assert "2 files could not be used: b.ome.tif was left out: expected at least 3.2 x 6.4 x 6.4 um" in told
    assert "c.ome.tif was left out" in told and "1 label images" in told and "more" not in told


def test_a_folder_of_label_images_alone_says_so(tmp_path: Path) -> None:
    flat(tmp_path / "a-labels.ome.tif")
    assert refusal(tmp_path).endswith(
        "no volume in it can be compared: 1 label images and noise-free twins of recordings were left out."
    )
