"""Views of an input and its reconstruction: what they show, and that they put everything back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_vqldm.plugin.compare.blink import Blink
from napari_vqldm.plugin.compare.grid import SideBySide
from napari_vqldm.plugin.compare.looks import LinkedLook, VisibleOnly
from napari_vqldm.plugin.compare.wipe import Wipe, WipedArray
from napari_vqldm.plugin.compat import grid_of

SHAPE = (6, 24, 20)


def add(viewer: Any, name: str, seed: int, top: float = 1.0) -> Any:
    data = np.random.default_rng(seed).random(SHAPE).astype(np.float32) * top
    return viewer.add_image(data, name=name, contrast_limits=(0.0, top), scale=(0.2, 0.1, 0.1), units=("um",) * 3)


@pytest.fixture
def layers(viewer: Any) -> tuple[Any, Any, Any, Any]:
    """Input, another layer, reconstruction, residual."""
    return add(viewer, "in", 0), add(viewer, "other", 1), add(viewer, "out", 2, 3.0), add(viewer, "rest", 3)


def cells(viewer: Any) -> dict[str, tuple[int, int]]:
    grid = grid_of(viewer)
    return {layer.name: grid.position(i, viewer.layers) for i, layer in enumerate(viewer.layers) if layer.visible}


def links() -> int:
    from napari.layers.utils import _link_layers

    return len(_link_layers._UNLINKERS)


# --- looks ------------------------------------------------------------------------------------------------------------


def test_a_linked_look_is_shared_and_given_back(layers: tuple[Any, ...]) -> None:
    source, _, result, _ = layers
    before, num_links = list(result.contrast_limits), links()
    look = LinkedLook([source, result])
    assert list(result.contrast_limits) == list(source.contrast_limits)
    result.contrast_limits = (0.1, 0.6)
    assert list(source.contrast_limits) == [0.1, 0.6]
    source.gamma = 0.5
    assert result.gamma == 0.5
    look.close()
    look.close()
    assert list(result.contrast_limits) == before and links() == num_links
    source.gamma = 0.8
    assert result.gamma == 1.0


def test_links_of_the_user_stay(layers: tuple[Any, ...]) -> None:
    from napari.experimental import link_layers

    source, _, result, _ = layers
    link_layers([source, result], ("gamma",))
    LinkedLook([source, result]).close()
    source.gamma = 0.7
    assert result.gamma == 0.7


def test_only_some_layers_are_visible_for_a_while(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, other, result, rest = layers
    rest.visible = False
    alone = VisibleOnly(viewer, [source, rest])
    assert [layer.visible for layer in layers] == [True, False, False, True]
    viewer.layers.remove(result)
    alone.close()
    assert [source.visible, other.visible, rest.visible] == [True, True, False]


# --- side by side -----------------------------------------------------------------------------------------------------


def test_side_by_side_puts_three_layers_in_one_row(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, _, result, rest = layers
    view = SideBySide(viewer, [source, result, rest])
    assert cells(viewer) == {"in": (0, 0), "out": (0, 1), "rest": (0, 2)}
    assert list(result.contrast_limits) == list(source.contrast_limits)
    assert list(rest.contrast_limits) == [0.0, 1.0]
    view.end()


def test_side_by_side_keeps_its_order_whatever_the_list_says(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, _, result, rest = layers
    viewer.layers.move(viewer.layers.index(source), len(viewer.layers))
    SideBySide(viewer, [source, result, rest])
    found = cells(viewer)
    assert found["in"] < found["out"] < found["rest"]


@pytest.mark.parametrize("ndisplay", [2, 3])
def test_side_by_side_puts_everything_back(viewer: Any, layers: tuple[Any, ...], ndisplay: int) -> None:
    source, _, result, rest = layers
    grid = grid_of(viewer)
    grid.stride, grid.shape = -2, (3, 1)
    viewer.dims.ndisplay = ndisplay
    rest.visible = False
    ended: list[bool] = []
    view = SideBySide(viewer, [source, result, rest], lambda: ended.append(True))
    viewer.dims.ndisplay = 5 - ndisplay
    view.end()
    view.end()
    assert (grid.enabled, grid.stride, tuple(grid.shape)) == (False, -2, (3, 1))
    assert viewer.dims.ndisplay == ndisplay
    assert [layer.visible for layer in layers] == [True, True, True, False]
    assert not any(layer.name_overlay.visible for layer in layers)
    assert ended == [True]


@pytest.mark.parametrize("victim", [0, 2, 3])
def test_side_by_side_ends_when_one_of_its_layers_is_deleted(viewer: Any, layers: tuple[Any, ...], victim: int) -> None:
    source, other, result, rest = layers
    view, num_links = SideBySide(viewer, [source, result, rest]), links()
    assert num_links > 0
    viewer.layers.remove(layers[victim])
    assert not view.is_open and not grid_of(viewer).enabled
    assert other.visible and links() == 0


def test_cells_show_different_pictures(shown_viewer: Any, wait_until: Callable[..., None]) -> None:
    dark, bright = add(shown_viewer, "a", 0, 0.2), add(shown_viewer, "b", 1)
    dark.contrast_limits = (0.0, 1.0)
    view = SideBySide(shown_viewer, [dark, bright])
    picture = shown_viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float)
    left, right = np.array_split(picture, 2, axis=1)
    assert left.std() > 0 and right.std() > 0
    assert right.mean() > 2 * left.mean()
    view.end()


# --- blink and wipe ---------------------------------------------------------------------------------------------------


def test_blink_shows_one_of_the_two_at_a_time(viewer: Any, layers: tuple[Any, ...], qtbot: Any) -> None:
    source, other, result, _ = layers
    shown: list[str] = []
    view = Blink(viewer, source, result, on_shown=lambda layer: shown.append(layer.name))
    view._timer.setInterval(10)
    view.play()
    qtbot.waitUntil(lambda: len(shown) >= 4, timeout=5000)
    assert shown[:4] == ["out", "in", "out", "in"]
    view.pause()
    assert source.visible != result.visible and not other.visible
    was = source.visible
    view.toggle()
    assert source.visible is not was
    view.end()
    assert all(layer.visible for layer in layers) and links() == 0


def test_blink_ends_when_its_layer_is_deleted(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, other, result, _ = layers
    ended: list[bool] = []
    view = Blink(viewer, source, result, on_ended=lambda: ended.append(True))
    view.play()
    viewer.layers.remove(result)
    view.toggle()
    assert ended == [True] and not view.is_playing and other.visible and source.visible


def test_a_wiped_array_is_left_before_and_right_behind_the_divider() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.random(SHAPE, np.float32), rng.random(SHAPE, np.float32)
    wiped = WipedArray(left, right)
    for divider in (0, 7, 20, 3, 12, 99, -5, 10):
        wiped.move(divider)
        inside = min(max(divider, 0), SHAPE[-1])
        assert np.array_equal(wiped.data[..., :inside], left[..., :inside])
        assert np.array_equal(wiped.data[..., inside:], right[..., inside:])


@pytest.mark.parametrize("ndisplay", [2, 3])
def test_a_wipe_is_one_temporary_layer(viewer: Any, layers: tuple[Any, ...], ndisplay: int) -> None:
    source, _, result, _ = layers
    viewer.dims.ndisplay = ndisplay
    count = len(viewer.layers)
    view = Wipe(viewer, source, result, result.data, source.data)
    view.move(0.5)
    layer = viewer.layers[-1]
    assert [entry.visible for entry in viewer.layers] == [False] * count + [True]
    assert np.array_equal(layer.data[..., :10], result.data[..., :10])
    assert np.array_equal(layer.data[..., 10:], source.data[..., 10:])
    assert np.allclose(layer.scale, result.scale) and list(layer.contrast_limits) == list(source.contrast_limits)
    view.end()
    view.end()
    assert len(viewer.layers) == count and all(entry.visible for entry in viewer.layers)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("kind", ["stack", "series"])
def test_a_wipe_lies_where_the_reconstruction_lies(viewer: Any, kind: str) -> None:
    data = np.random.default_rng(0).random(SHAPE, np.float32)
    source = viewer.add_image(data)
    turn, shear, affine = Rotation.from_euler("xyz", (0.2, 0.3, 0.4)).as_matrix(), np.eye(3), np.eye(4)
    shear[np.triu_indices(3, 1)] = (0.1, 0.2, 0.3)
    affine[:3] += np.random.default_rng(1).normal(0.0, 0.3, (3, 4))
    place: dict[str, Any] = {"scale": (0.3, 0.1, 0.2), "translate": (500.0, 7.0, -4.0), "rotate": turn, "shear": shear}
    if kind == "series":  # time is neither turned nor sheared
        wide = {key: np.eye(4) for key in ("rotate", "shear")}
        for key, matrix in wide.items():
            matrix[1:, 1:] = place[key]
        place |= {**wide, "scale": (2.0, *place["scale"]), "translate": (9.0, *place["translate"])}
        registered = np.eye(5)
        registered[1:, 1:] = affine
    else:
        registered = affine
    frames = data if kind == "stack" else np.stack([data] * 3)
    result = viewer.add_image(frames, affine=registered, **place)
    view = Wipe(viewer, source, result, data, data)
    for voxel in ((0, 0, 0), (5, 3, 19), (2, 23, 1)):
        index = voxel if kind == "stack" else (0, *voxel)
        assert np.allclose(view.layer.data_to_world(voxel), result.data_to_world(index)[-3:])
    assert np.allclose(view.layer.affine.affine_matrix, affine)
    view.end()


def test_of_many_moves_of_the_divider_few_are_drawn_and_the_last_counts(
    viewer: Any, layers: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    source, _, result, _ = layers
    view = Wipe(viewer, source, result, result.data, source.data)
    drawn: list[int] = []
    monkeypatch.setattr(view.layer, "refresh", lambda **_: drawn.append(view.array.divider))
    for divider in range(20):
        view.move(divider / 20)
    assert drawn == [0]  # the first at once
    wait_until(lambda: drawn[-1] == 19)
    assert len(drawn) == 2 and np.array_equal(view.array.data[..., :19], result.data[..., :19])
    wait_until(lambda: not view._rest.isActive())
    assert len(drawn) == 2  # at rest nothing is drawn
    view.move(0.5)
    view.end()
    view.move(0.2)


def test_a_wipe_shows_other_voxels_at_the_same_divider(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, other, result, rest = layers
    view = Wipe(viewer, source, result, result.data, source.data)
    view.move(0.5)
    view.show_voxels(rest.data, other.data)
    assert np.array_equal(view.layer.data[..., :10], rest.data[..., :10])
    assert np.array_equal(view.layer.data[..., 10:], other.data[..., 10:])
    view.end()


def test_a_wipe_survives_the_deletion_of_its_layers(viewer: Any, layers: tuple[Any, ...]) -> None:
    source, other, result, _ = layers
    view = Wipe(viewer, source, result, result.data, source.data)
    viewer.layers.remove(view.layer)
    view.move(0.7)
    assert other.visible
    view = Wipe(viewer, source, result, result.data, source.data)
    viewer.layers.remove(source)
    view.move(0.2)
    assert [layer.name for layer in viewer.layers] == ["other", "out", "rest"]
