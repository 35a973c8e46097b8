"""What is compared: splits of MT-Sim, windows of files in filament units, conditions that a model can be asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_vqldm.checkpoint import Model
from napari_vqldm.condition_ranges import allowed_conditions
from napari_vqldm.errors import ConfigError, FileError, VolumeError
from napari_vqldm.files import write_volume
from napari_vqldm.intensity import estimate_intensity
from napari_vqldm.report.folders import brightest_first, folder_windows, windows_of
from napari_vqldm.report.rows import real_references
from napari_vqldm.report.samples import askable
from napari_vqldm.report.sets import VOXEL_SIZE_UM, WINDOW, parse_against
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


def write_lines(path: Path, shape: tuple[int, int, int], seed: int, **provenance: object) -> None:
    rng = np.random.default_rng(seed)
    lines = np.zeros(shape, np.float32)
    lines[shape[0] // 2, 20:-20:12] = 1.0
    counts = 400 * lines + 100 + rng.normal(0, 3, shape)
    write_volume(path, Volume(counts.astype(np.float32), VOXEL_SIZE_UM, provenance))


@pytest.mark.slow
def test_a_folder_gives_windows_of_every_file_in_filament_units(tmp_path: Path) -> None:
    for name, shape in (("a", (32, 128, 260)), ("b", (32, 128, 130)), ("c", (4, 128, 128)), ("d", (18, 128, 128))):
        write_lines(tmp_path / f"{name}.ome.tif", shape, 1)
    (tmp_path / "e.tif").write_bytes(b"II*\0 no image")
    found = folder_windows(tmp_path, 10, None)
    assert found.files == [0, 1, 2, 0]  # one of each in turn; c is too flat, e is no image
    assert not found.noise_free
    text = " ".join(found.notes)
    assert "c.ome.tif was left out" in text and "e.tif was left out" in text and "1 files are smaller" in text
    for window in found.windows:
        assert window.shape == WINDOW and abs(float(np.median(window))) < 0.05
    assert 0.7 < float(np.percentile(found.windows[0][16, 20], 50)) < 1.3
    assert len(folder_windows(tmp_path, 2, None).windows) == 2


@pytest.mark.slow
def test_windows_of_a_large_stack_show_where_its_filaments_are(tmp_path: Path) -> None:
    """The filament is off the corner, in the second slab: taken by position, its window would be the last but one."""
    data = np.random.default_rng(6).normal(100, 3, (64, 256, 256)).astype(np.float32)
    data[48, 128 + 20 : 256 - 20 : 12, 8:120] += 400  # window (1, 1, 0)
    data[16, 30:60:12, 200:250] += 400  # window (0, 0, 1), less
    write_volume(tmp_path / "a.ome.tif", Volume(data, VOXEL_SIZE_UM))
    units = estimate_intensity(data).apply(data)
    first, second = folder_windows(tmp_path, 2, None).windows
    np.testing.assert_array_equal(first, units[32:, 128:, :128])
    np.testing.assert_array_equal(second, units[:32, :128, 128:])


def test_windows_without_light_are_left_out_and_counted(tmp_path: Path) -> None:
    full, faint, even = (np.zeros(WINDOW, np.float32) for _ in range(3))
    full[16, 64], faint[16, 64, :14], even[16, :, 64] = 1.0, 0.9, 1.0
    dark = np.full(WINDOW, -0.5, np.float32)
    faint[0, 0, 0] = 0.3  # 12.9 of 128: above a tenth
    kept, left_out = brightest_first([dark, faint, full, 0.09 * full, even])
    assert [id(w) for w in kept] == [id(full), id(even), id(faint)] and left_out == 2
    assert brightest_first([dark, dark])[1] == 0  # a blank file has no brightest window
    made = {"verb": "generate", "request": {"camera": None}}
    data = np.concatenate([np.zeros_like(full), full, 0.05 * full])
    write_volume(tmp_path / "a.ome.tif", Volume(data, VOXEL_SIZE_UM, made))
    write_volume(tmp_path / "b.ome.tif", Volume(full, VOXEL_SIZE_UM, made))
    found = folder_windows(tmp_path, 10, None)
    assert found.files == [0, 1]
    np.testing.assert_array_equal(found.windows[0], full)
    text = " ".join(found.notes)
    assert "2 files gave 2 windows" in text and "2 more windows were left out: they hold less than 10%" in text


def test_label_images_and_clean_twins_are_no_candidates(tmp_path: Path) -> None:
    for name in ("s-000-clean", "s-000-noisy", "s-000-labels", "s-001-clean"):
        write_lines(tmp_path / f"{name}.ome.tif", (32, 128, 128), 2)
    found = folder_windows(tmp_path, 10, None)
    assert len(found.windows) == 2 and "2 label images and noise-free twins" in " ".join(found.notes)


def test_a_volume_says_whether_a_camera_recorded_it(tmp_path: Path) -> None:
    made = {"verb": "generate", "request": {"camera": None}}
    write_lines(tmp_path / "a.ome.tif", (32, 128, 128), 3, **made)
    found = folder_windows(tmp_path, 4, None)
    assert found.noise_free
    assert float(np.median(found.windows[0])) == pytest.approx(100, abs=1)  # its numbers are filament units already
    write_lines(tmp_path / "b.ome.tif", (32, 128, 128), 3)
    with pytest.raises(ConfigError, match="1 of its 2 volumes are noise-free"):
        folder_windows(tmp_path, 4, None)


def test_a_given_voxel_size_is_for_files_that_state_none(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.ome.tif", (32, 128, 128), 4)
    np.save(tmp_path / "b.npy", np.random.default_rng(5).normal(100, 3, (16, 64, 64)).astype(np.float32))
    found = folder_windows(tmp_path, 8, (0.4, 0.2, 0.2))
    assert found.files == [0, 1] and all(w.shape == WINDOW for w in found.windows)
    assert folder_windows(tmp_path, 8, None).files == [0]


def test_a_folder_without_volumes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no volumes"):
        folder_windows(tmp_path, 4, None)
    write_volume(tmp_path / "flat.ome.tif", Volume(np.ones((4, 128, 128), np.float32), VOXEL_SIZE_UM))
    with pytest.raises(ConfigError, match=r"no volume in it can be compared: flat\.ome\.tif was left out"):
        folder_windows(tmp_path, 4, None)


@pytest.mark.slow
def test_whole_files_are_dealt_to_the_halves_of_a_real_reference(tmp_path: Path) -> None:
    for number in range(4):
        write_lines(tmp_path / f"{number}.ome.tif", (32, 128, 128 * 3), number)
    reference, second = real_references(tmp_path, 6, None)
    assert len(reference.volumes) == len(second.volumes) == 6
    assert "files with other files" in reference.notes[-1]
    assert reference.notes[-2] == "The reference is 6 windows of 2 files, the other half 6 windows of 2 files."
    with pytest.raises(ConfigError, match="expected at least 12 windows"):
        real_references(tmp_path, 5, None)


@pytest.mark.slow
def test_uneven_halves_say_how_many_files_each_has(tmp_path: Path) -> None:
    for number in range(5):
        write_lines(tmp_path / f"{number}.ome.tif", (32, 128, 128 * 3), number)
    reference, second = real_references(tmp_path, 8, None)
    assert len(reference.volumes) == len(second.volumes) == 6
    assert "6 windows of 3 files, the other half 6 windows of 2 files" in reference.notes[-2]


def test_conditions_move_to_the_nearest_trained_value(ldm: Model) -> None:
    low, high = allowed_conditions(ldm.config)["length_density_um_per_um3"]
    inside, moved = askable(ldm, {"length_density_um_per_um3": float(low), "organisation": "aster"})
    assert not moved and inside == {"length_density_um_per_um3": low, "organisation": "aster"}
    outside, moved = askable(ldm, {"length_density_um_per_um3": 10 * float(high), "unheard_of": 3.0})
    assert moved and outside == {"length_density_um_per_um3": high}
