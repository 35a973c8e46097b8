"""What a comparison draws into the canvas: titles that fit, whole volumes, the line of the wipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_vqldm.plugin.compare.grid import SideBySide
from napari_vqldm.plugin.compare.looks import LINKED
from napari_vqldm.plugin.compare.marks import LINE_COLOR, PAD_PX, TITLE_PX, Titles, canvas_of, outline
from napari_vqldm.plugin.compare.wipe import Wipe
from napari_vqldm.plugin.compat import camera_of, grid_of

SHAPE = (12, 24, 24)
LONG = "MT-Sim, standard tier, test split, seed 1 (noisy)"
NAMES = (LONG, f"{LONG} (reconstruction)", f"{LONG} (residual)")


def add(viewer: Any, name: str, value: float = 1.0) -> Any:
    data = np.full(SHAPE, value, np.float32)
    return viewer.add_image(data, name=name, contrast_limits=(0.0, 1.0), scale=(0.2, 0.1, 0.1), units=("um",) * 3)


@pytest.fixture
def layers(shown_viewer: Any, qtbot: Any) -> list[Any]:
    shown_viewer.window._qt_window.resize(1100, 700)
    qtbot.wait(100)
    return [add(shown_viewer, name) for name in NAMES]


def pixels(viewer: Any, qtbot: Any) -> np.ndarray:
    """Colors of the canvas, (height, width, 3), 0 to 255."""
    qtbot.wait(100)
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float)


def cells(viewer: Any, picture: np.ndarray) -> list[np.ndarray]:
    """Parts of the picture that the three layers are drawn in."""
    width = float(viewer.canvas.viewbox_size(viewer.layers)[1])
    starts = [i * (picture.shape[1] - width) / 2 for i in range(3)]
    return [picture[:, round(start) + 1 : round(start + width) - 1] for start in starts]


# --- titles -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.both_bindings
def test_titles_say_what_a_cell_shows_and_end_inside_it(shown_viewer: Any, layers: list[Any], qtbot: Any) -> None:
    view = SideBySide(shown_viewer, layers)
    qtbot.waitUntil(lambda: all("\u2026" in text for text in view.titles.texts), timeout=5000)  # nobody takes a picture
    texts, picture = view.titles.texts, pixels(shown_viewer, qtbot)
    assert [text.splitlines()[0] for text in texts] == ["Input", "Reconstruction", "Residual"]
    names = [text.splitlines()[1] for text in texts]
    assert len(set(names)) == 3  # cut in the middle: beginnings are equal
    assert all(short.endswith(name[-5:]) and "\u2026" in short for short, name in zip(names, NAMES, strict=True))
    for cell in cells(shown_viewer, picture):
        top = cell[:TITLE_PX].mean(axis=2)
        assert (top > 128).any()
        assert (top[:, -PAD_PX // 2 :] < 64).all()
    view.end()
    assert (pixels(shown_viewer, qtbot)[: TITLE_PX // 2, : 2 * PAD_PX] < 64).all() and view.titles.texts == []


@pytest.mark.slow
@pytest.mark.both_bindings
def test_titles_follow_name_size_and_theme(shown_viewer: Any, layers: list[Any], qtbot: Any) -> None:
    view = SideBySide(shown_viewer, layers)
    pixels(shown_viewer, qtbot)
    long = view.titles.texts[0]
    shown_viewer.window._qt_window.resize(800, 700)
    pixels(shown_viewer, qtbot)
    assert len(view.titles.texts[0]) < len(long)
    layers[0].name = "cell"
    shown_viewer.theme = "light"
    picture = pixels(shown_viewer, qtbot)
    assert view.titles.texts[0] == "Input\ncell"
    top = cells(shown_viewer, picture)[0][:TITLE_PX].mean(axis=2)
    assert top.max() > 200 and top.min() < 64  # dark on bright
    shown_viewer.theme = "dark"
    view.end()


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_name_that_the_user_shows_comes_back(shown_viewer: Any, layers: list[Any]) -> None:
    layers[1].name_overlay.visible = True
    view = SideBySide(shown_viewer, layers)
    assert not any(layer.name_overlay.visible for layer in layers)
    view.end()
    assert [layer.name_overlay.visible for layer in layers] == [False, True, False]


def test_without_a_window_there_are_no_titles_and_no_error() -> None:
    from napari.components import ViewerModel

    model = ViewerModel()
    layer = add(model, "in")
    assert canvas_of(model) is None
    titles = Titles(None, model, [(layer, "Input")])
    assert titles.texts == []
    titles.close()


# --- whole volumes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "angles",
    [
        (20.0, 35.0, 10.0),
        *(
            pytest.param(angles, marks=[pytest.mark.slow, pytest.mark.both_bindings])
            for angles in ((0.0, 0.0, 0.0), (0.0, 0.0, 45.0), (45.0, 45.0, 45.0))
        ),
    ],
)
def test_volumes_are_whole_at_any_rotation(
    shown_viewer: Any, layers: list[Any], qtbot: Any, angles: tuple[float, float, float]
) -> None:
    shown_viewer.dims.ndisplay = 3
    view = SideBySide(shown_viewer, layers)
    camera_of(shown_viewer).angles = angles
    for cell in cells(shown_viewer, pixels(shown_viewer, qtbot)):
        below = cell[TITLE_PX:].mean(axis=2)
        assert (below > 128).any()
        assert all((edge < 64).all() for edge in (below[0], below[-1], below[:, 0], below[:, -1]))
    view.end()


@pytest.mark.slow
@pytest.mark.both_bindings
def test_slices_and_volumes_are_fitted_anew_until_somebody_zooms(
    shown_viewer: Any, layers: list[Any], qtbot: Any
) -> None:
    camera = camera_of(shown_viewer)
    view = SideBySide(shown_viewer, layers)
    window, height, depth = shown_viewer.window._qt_window, SHAPE[1] * 0.1, SHAPE[0] * 0.2
    for ndisplay, needs in ((2, height), (3, float(np.linalg.norm((depth, height, height))))):
        shown_viewer.dims.ndisplay = ndisplay
        for width in (800, 1100):
            window.resize(width, 700)
            qtbot.wait(100)
            room = min(shown_viewer.canvas.viewbox_size(shown_viewer.layers))
            assert needs * camera.zoom == pytest.approx(0.95 * room, rel=0.1)
    camera.zoom = 33.0
    window.resize(900, 700)
    qtbot.wait(100)
    assert camera.zoom == 33.0
    view.end()


@pytest.mark.slow
@pytest.mark.both_bindings
def test_the_camera_comes_back_unless_it_was_moved(shown_viewer: Any, layers: list[Any]) -> None:
    camera = camera_of(shown_viewer)
    camera.zoom, camera.center = 50.0, (0.4, 0.6)
    view = SideBySide(shown_viewer, layers)
    assert camera.zoom != 50.0
    view.end()
    assert camera.zoom == 50.0 and np.allclose(camera.center[-2:], (0.4, 0.6))
    view = SideBySide(shown_viewer, layers)
    camera.zoom = 70.0
    view.end()
    assert camera.zoom == 70.0 and not grid_of(shown_viewer).enabled


# --- the line of the wipe ---------------------------------------------------------------------------------------------


def line_pixels(picture: np.ndarray) -> np.ndarray:
    """Rows and columns of pixels in the color of the line, (n, 2)."""
    return np.argwhere((np.abs(picture - 255 * np.array(LINE_COLOR[:3])) < 40).all(axis=2))


@pytest.fixture
def wipe(shown_viewer: Any, layers: list[Any]) -> Any:
    source, result, _ = layers
    result.visible = True
    view = Wipe(shown_viewer, source, result, np.full(SHAPE, 0.2, np.float32), np.full(SHAPE, 0.6, np.float32))
    shown_viewer.reset_view()
    yield view
    view.end()


def test_a_line_lies_where_the_two_halves_meet(shown_viewer: Any, wipe: Any, qtbot: Any) -> None:
    for share in (0.25, 0.75):
        wipe.move(share)
        qtbot.waitUntil(lambda share=share: wipe.array.divider == share * SHAPE[-1])
        picture = pixels(shown_viewer, qtbot)
        line = line_pixels(picture)
        rows = np.unique(line[:, 0])
        gray = picture[picture.shape[0] // 2].mean(axis=1)
        bright, dark = np.flatnonzero(np.abs(gray - 153) < 10), np.flatnonzero(np.abs(gray - 51) < 10)
        assert np.ptp(line[:, 1]) <= 4 and len(rows) > 0.5 * picture.shape[0]
        assert dark.max() <= line[:, 1].min() + 2 and bright.min() >= line[:, 1].max() - 2


@pytest.mark.slow
@pytest.mark.both_bindings
def test_the_line_is_a_frame_in_3d_and_goes_with_the_wipe(shown_viewer: Any, wipe: Any, qtbot: Any) -> None:
    wipe.move(0.5)
    shown_viewer.dims.ndisplay = 3
    camera_of(shown_viewer).angles = (0.0, 40.0, 0.0)
    line = line_pixels(pixels(shown_viewer, qtbot))
    assert np.ptp(line[:, 0]) > 50 and np.ptp(line[:, 1]) > 50  # not a line: seen from the side it has a width
    shown_viewer.dims.ndisplay = 2
    assert np.ptp(line_pixels(pixels(shown_viewer, qtbot))[:, 1]) <= 4
    wipe.end()
    assert len(line_pixels(pixels(shown_viewer, qtbot))) == 0


def test_the_outline_follows_the_displayed_axes() -> None:
    shape = (4, 6, 8)
    assert outline(shape, 3, (1, 2)).tolist() == [[2.5, -0.5, 0.0], [2.5, 5.5, 0.0]]
    assert outline(shape, 3, (2, 1)).tolist() == [[-0.5, 2.5, 0.0], [5.5, 2.5, 0.0]]
    assert outline(shape, 3, (2, 0)).tolist() == [[-0.5, 2.5, 0.0], [3.5, 2.5, 0.0]]
    assert len(outline(shape, 3, (0, 1))) == 0  # the plane is the canvas
    frame = outline(shape, 8, (0, 1, 2))
    assert len(frame) == 8 and set(frame[:, 0]) == {7.5}
    assert {tuple(point) for point in frame[:, 1:].tolist()} == {(-0.5, -0.5), (-0.5, 3.5), (5.5, -0.5), (5.5, 3.5)}


def test_the_wiped_layer_looks_like_the_input(shown_viewer: Any, layers: list[Any]) -> None:
    source, result, _ = layers
    source.interpolation2d, source.interpolation3d, source.rendering = "cubic", "nearest", "attenuated_mip"
    source.gamma, source.colormap, source.contrast_limits, source.attenuation = 0.7, "magma", (0.1, 0.8), 0.3
    view = Wipe(shown_viewer, source, result, result.data, source.data)
    different = [name for name in LINKED if getattr(view.layer, name) != getattr(source, name)]
    assert different == []
    assert view.layer.interpolation2d == "cubic" and view.layer.interpolation3d == "nearest"
    view.end()
