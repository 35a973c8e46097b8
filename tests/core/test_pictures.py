"""Projections keep the physical aspect ratio and show what is there."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from napari_vqldm import pictures
from napari_vqldm.errors import ShapeError
from napari_vqldm.volume import Volume


def test_max_projection_finds_the_brightest_voxel_along_each_axis() -> None:
    data = np.zeros((3, 4, 5), np.float32)
    data[2, 1, 3] = 7.0
    for axis, place in ((0, (1, 3)), (1, (2, 3)), (2, (2, 1))):
        projection = pictures.max_projection(data, axis)
        assert projection[place] == 7.0
        assert projection.sum() == 7.0
    with pytest.raises(ShapeError, match="Z, Y, X"):
        pictures.max_projection(data[0], 0)


@pytest.mark.parametrize("voxel_size_um", [(0.2, 0.1, 0.1), (1.0, 0.25, 0.5), (0.1, 0.1, 0.1)])
def test_orthogonal_projections_use_one_physical_scale(voxel_size_um: tuple[float, float, float]) -> None:
    volume = Volume(np.random.default_rng(0).random((8, 20, 16)), voxel_size_um)
    drawn = pictures.orthogonal_projections(volume, width=160)
    per_um = 160 / volume.extent_um[2]
    depth, height = round(volume.extent_um[0] * per_um), round(volume.extent_um[1] * per_um)
    assert drawn.shape == (height + pictures.GAP + depth, 160 + pictures.GAP + depth)
    assert drawn.dtype == np.uint8


def test_a_line_along_z_is_a_point_from_above_and_a_line_from_the_sides() -> None:
    data = np.zeros((32, 32, 32), np.float32)
    data[:, 8, 24] = 1.0
    drawn = pictures.orthogonal_projections(Volume(data, (0.1, 0.1, 0.1)), width=32, limits=(0, 1), scale_bar=False)
    lit = drawn > 128
    gap = pictures.GAP
    assert lit[:32, :32].sum() == 1
    assert lit[8, 24]
    assert lit[8, 32 + gap :].all()  # x projection: Y down, Z right
    assert lit[32 + gap :, 24].all()  # y projection: Z down, X right
    assert lit.sum() == 65


def test_contrast_limits_survive_sparse_and_constant_data() -> None:
    sparse = np.zeros(10_000)
    sparse[:3] = 5.0
    assert pictures.contrast_limits(sparse) == (0.0, 5.0)
    assert pictures.contrast_limits(np.full(10, 3.0)) == (3.0, 4.0)
    hot = np.r_[np.linspace(0, 1, 10_000), 1000.0]
    assert pictures.contrast_limits(hot)[1] < 1.01  # one hot voxel does not darken everything


def test_to_gray_saturates_and_rounds() -> None:
    gray = pictures.to_gray(np.array([-1.0, 0.0, 0.5, 1.0, 9.0]), (0.0, 1.0))
    assert gray.tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("width_um, length", [(12.8, 2.0), (30.0, 10.0), (0.7, 0.2), (1e-3, 0.1)])
def test_scale_bar_is_round_and_fits(width_um: float, length: float) -> None:
    assert pictures.scale_bar_um(width_um) == length


def test_scale_bar_has_the_length_it_says() -> None:
    drawn = pictures.draw_scale_bar(np.zeros((90, 90), np.uint8), pixels_per_um=9.0)  # 10 um wide: 2 um bar
    assert int((drawn == 255).any(axis=0).sum()) == 18


def test_contact_sheet_contains_every_panel_unchanged() -> None:
    rng = np.random.default_rng(1)
    panels = [pictures.Panel(rng.integers(0, 255, (20 + i, 30), np.uint8), f"panel {i} µm", ("a",)) for i in range(3)]
    sheet = pictures.contact_sheet([("first", panels[:2]), ("empty", []), ("second", panels[2:])], title="sheet")
    for panel in panels:
        windows = np.lib.stride_tricks.sliding_window_view(sheet, panel.image.shape)
        assert (windows[..., 0, :] == panel.image[0]).all(-1).sum() == 1
        where = np.argwhere((windows[..., 0, :] == panel.image[0]).all(-1))[0]
        assert (windows[tuple(where)] == panel.image).all()


def test_png_bytes_decode_to_the_same_pixels() -> None:
    image = np.random.default_rng(2).integers(0, 255, (7, 9), np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(pictures.png_bytes(image)))) == image).all()
