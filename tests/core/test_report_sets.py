"""What is compared: splits of MT-Sim, windows of files in filament units, conditions that a model can be asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_vqldm.checkpoint import Model
from napari_vqldm.conditions import allowed_conditions
from napari_vqldm.errors import ConfigError, FileError, VolumeError
from napari_vqldm.files import write_volume
from napari_vqldm.report.sets import VOXEL_SIZE_UM, WINDOW, askable, folder_windows, parse_against, windows_of
from napari_vqldm.simulate.mt_sim import Split
from napari_vqldm.volume import Volume


def test_against_names_a_tier_a_split_or_a_folder(tmp_path: Path) -> None:
    standard, other = parse_against("standard"), parse_against("hard:val")
    assert isinstance(standard, Split) and (standard.tier, standard.name) == ("standard", "test")
    assert isinstance(other, Split) and (other.tier, other.name) == ("hard", "val")
    assert parse_against(str(tmp_path)) == tmp_path
    with pytest.raises(ConfigError, match="expected a tier of MT-Sim v1"):
        parse_against("medium")
    with pytest.raises(ConfigError, match="unknown split"):
        parse_against("hard:training")


def test_windows_lie_side_by_side_about_the_centre() -> None:
    data = np.random.default_rng(0).standard_normal((40, 300, 128)).astype(np.float32)
    first, second = windows_of(data, VOXEL_SIZE_UM)
    assert np.array_equal(first, data[4:36, 22:150]) and np.array_equal(second, data[4:36, 150:278])


def test_windows_have_the_voxel_size_of_the_benchmark() -> None:
    coarse = np.ones((16, 64, 64), np.float32)
    (window,) = windows_of(coarse, (0.4, 0.2, 0.2))
    assert window.shape == WINDOW and window == pytest.approx(1.0)


def test_a_small_volume_is_continued_and_a_tiny_one_refused() -> None:
    (window,) = windows_of(np.ones((16, 100, 128), np.float32), VOXEL_SIZE_UM)
    assert window.shape == WINDOW
    with pytest.raises(VolumeError, match=r"expected at least 3\.2 x 6\.4 x 6\.4 um"):
        windows_of(np.ones((16, 60, 128), np.float32), VOXEL_SIZE_UM)


def test_a_folder_gives_windows_of_every_file_in_filament_units(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = np.zeros((32, 128, 260), np.float32)
    lines[16, 20:-20:12] = 1.0
    for name, data in (("a", lines), ("b", lines[:, :, :130]), ("c", lines[:4])):
        counts = 400 * data + 100 + rng.normal(0, 3, data.shape)
        write_volume(tmp_path / f"{name}.ome.tif", Volume(counts.astype(np.float32), VOXEL_SIZE_UM))
    windows, notes = folder_windows(tmp_path, 10, None)
    assert len(windows) == 3  # two of a, one of b, c is too flat
    assert any("c.ome.tif was left out" in note for note in notes)
    for window in windows:
        assert window.shape == WINDOW and abs(float(np.median(window))) < 0.05
        assert 0.7 < float(np.percentile(window[16, 20], 50)) < 1.3
    assert len(folder_windows(tmp_path, 2, None)[0]) == 2


def test_a_folder_without_volumes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no volumes"):
        folder_windows(tmp_path, 4, None)
    write_volume(tmp_path / "flat.ome.tif", Volume(np.ones((4, 128, 128), np.float32), VOXEL_SIZE_UM))
    with pytest.raises(VolumeError, match="constant"):
        folder_windows(tmp_path, 4, None)
    tilted = np.arange(4 * 128 * 128, dtype=np.float32).reshape(4, 128, 128)
    write_volume(tmp_path / "flat.ome.tif", Volume(tilted, VOXEL_SIZE_UM), force=True)
    with pytest.raises(ConfigError, match="no volume in it is large enough"):
        folder_windows(tmp_path, 4, None)


def test_conditions_move_to_the_nearest_trained_value(ldm: Model) -> None:
    low, high = allowed_conditions(ldm.config)["length_density_um_per_um3"]
    inside, moved = askable(ldm, {"length_density_um_per_um3": float(low), "organisation": "aster"})
    assert not moved and inside == {"length_density_um_per_um3": low, "organisation": "aster"}
    outside, moved = askable(ldm, {"length_density_um_per_um3": 10 * float(high), "unheard_of": 3.0})
    assert moved and outside == {"length_density_um_per_um3": high}
