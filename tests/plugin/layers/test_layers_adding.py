"""Layers out: what is added lies where it came from; regions that are drawn or in view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.plugin.layers.helpers import UM, ZYX, stack

from napari_vqldm.errors import ShapeError, VolumeError
from napari_vqldm.plugin.compat import camera_of, grid_of, scale_bar_of
from napari_vqldm.plugin.layers import (
    KEY,
    add_series,
    add_volume,
    box_of_shapes,
    box_of_view,
    describe,
    set_volume,
    snapshot,
)
from napari_vqldm.volume import Volume

# napari: rotated layers are sliced approximately. Nothing is sliced here.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")


# --- add --------------------------------------------------------------------------------------------------------------


def test_added_volumes_carry_size_units_labels_contrast_and_record(model: Any, recorded: Volume) -> None:
    layer = add_volume(model, recorded)
    assert tuple(layer.scale) == recorded.voxel_size_um
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert layer.axis_labels == ZYX
    assert layer.metadata[KEY]["request"] == {"seed": 7}
    assert recorded.data.min() <= layer.contrast_limits[0] < layer.contrast_limits[1] <= recorded.data.max()
    assert layer.rendering == "attenuated_mip"
    np.testing.assert_array_equal(layer.data, recorded.data)


def test_names_are_unique_and_nothing_is_replaced(model: Any, recorded: Volume) -> None:
    first, second = add_volume(model, recorded), add_volume(model, recorded)
    assert first.name == "sample" and second.name != "sample" and len(model.layers) == 2
    assert "preview" in add_volume(model, recorded, kind="preview").name


@pytest.mark.parametrize("kind", ["volume", "reconstruction", "residual", "uncertainty", "preview"])
@pytest.mark.parametrize("data", [np.zeros((3, 4, 5), np.float32), stack(3, 4, 5) - 0.5], ids=["constant", "signed"])
def test_contrast_is_never_empty(model: Any, kind: Any, data: Any) -> None:
    low, high = add_volume(model, Volume(data, (0.2, 0.1, 0.1)), kind=kind).contrast_limits
    assert low < high
    assert kind != "residual" or low == -high
    assert kind != "uncertainty" or low == 0


def test_zero_residual_is_black(model: Any) -> None:
    layer = add_volume(model, Volume(stack(3, 4, 5) - 0.5, (0.2, 0.1, 0.1)), kind="residual")
    colors = layer.colormap.map(np.array([0.0, 0.5, 1.0]))
    assert tuple(colors[1, :3]) == (0, 0, 0)
    assert colors[0, 2] > colors[0, 0] and colors[2, 0] > colors[2, 2]  # blue is too low, orange too high


@pytest.mark.parametrize(
    "place",
    [
        {"scale": (0.2, 0.1, 0.1), "units": UM, "translate": (5, 6, 7)},
        {"scale": (200, 100, 100), "units": ("nm",) * 3, "rotate": (10, 20, 30), "axis_labels": ZYX},
        {"scale": (0.2, 0.1, 0.1), "shear": (0.2, 0.1, 0.3), "affine": np.diag([1.0, 2, 1, 1]) + np.eye(4, k=1) * 0.1},
    ],
    ids=["moved", "turned", "sheared"],
)
def test_results_lie_on_the_region_that_they_came_from(model: Any, place: dict[str, Any]) -> None:
    data = stack(2, 8, 10, 12)
    wide = {key: (1, *value) if key == "scale" else value for key, value in place.items()}
    if "units" in wide:
        wide["units"] = ("s", *wide["units"])
    single = model.add_image(data[1], **place)
    several = model.add_image(data, **{k: v for k, v in wide.items() if k in ("scale", "units")})
    box = ((2, 6), (1, 9), (4, 12))
    for layer, lead in ((single, {}), (several, {"time": 1})):
        source = snapshot(layer, box=box, **lead)
        result = add_volume(model, source.read(), like=source, kind="reconstruction")
        coarse = add_volume(model, Volume(stack(2, 4, 4), (0.4, 0.2, 0.2)), like=source)
        assert [str(u) for u in result.units] == [str(u) for u in layer.units[-3:]]
        assert result.axis_labels == layer.axis_labels[-3:]
        for voxel in ((0, 0, 0), (3, 7, 7), (1, 5, 2)):
            inside = np.add(voxel, [2, 1, 4])
            expected = np.array(layer.data_to_world([*([1] if lead else []), *inside]))[-3:]
            np.testing.assert_allclose(result.data_to_world(voxel), expected, rtol=1e-9)
        # Voxels twice as large share the outer corner, half a voxel before their first center.
        corner = np.array([1.5, 0.5, 3.5])
        expected = np.array(layer.data_to_world([*([1] if lead else []), *corner]))[-3:]
        np.testing.assert_allclose(coarse.data_to_world((-0.5, -0.5, -0.5)), expected, rtol=1e-9)


def test_an_exact_copy_has_exactly_the_voxel_size_of_its_input(model: Any) -> None:
    layer = model.add_image(stack(4, 8, 8), scale=(203.7, 64.3, 64.3), units=("nm",) * 3)
    source = snapshot(layer)
    assert describe(add_volume(model, source.read(), like=source)).voxel_size_um == source.voxel_size_um


def test_set_volume_keeps_what_the_user_set(model: Any, recorded: Volume) -> None:
    layer = add_volume(model, recorded)
    layer.contrast_limits, layer.colormap, layer.visible = (0.1, 0.4), "magma", False
    other = recorded.with_data(stack(6, 9, 11, seed=1), provenance={"verb": "generate", "request": {"seed": 8}})
    set_volume(layer, other, name="another")
    np.testing.assert_array_equal(layer.data, other.data)
    assert (tuple(layer.contrast_limits), layer.colormap.name, layer.visible) == ((0.1, 0.4), "magma", False)
    assert layer.metadata[KEY] == other.provenance and layer.name == "another"
    with pytest.raises(ShapeError, match="add a new one"):
        set_volume(layer, Volume(stack(4, 4, 4), (0.2, 0.1, 0.1)))


def test_series_keep_the_record_of_every_frame(model: Any) -> None:
    records = [{"software": "napari-vqldm", "verb": "interpolate", "request": {"t": t}} for t in (0.0, 0.5, 1.0)]
    frames = stack(3, 4, 8, 9)
    layer = add_series(model, frames, (0.2, 0.1, 0.1), name="path", step=0.5, provenances=records)
    assert tuple(layer.scale) == (0.5, 0.2, 0.1, 0.1) and layer.axis_labels == ("t", *ZYX)
    source = snapshot(layer, time=1)
    assert source.provenance == records[1]
    np.testing.assert_array_equal(source.read().data, frames[1])
    with pytest.raises(ShapeError, match="one record for each"):
        add_series(model, frames, (0.2, 0.1, 0.1), name="path", provenances=records[:2])
    with pytest.raises(ShapeError, match="frames"):
        add_series(model, frames[0], (0.2, 0.1, 0.1), name="path")


def test_lazy_series_compute_no_frame_when_limits_are_given(model: Any) -> None:
    da = pytest.importorskip("dask.array")
    touched: list[Any] = []
    frames = da.ones((5, 4, 8, 9), chunks=(1, 4, 8, 9)).map_blocks(
        lambda block: touched.append(block.shape) or block, dtype=float, meta=np.empty((0,) * 4)
    )
    like = snapshot(model.add_image(stack(4, 8, 9), scale=(0.2, 0.1, 0.1), rotate=(0, 0, 30), units=UM))
    touched.clear()
    layer = add_series(model, frames, (0.2, 0.1, 0.1), name="lazy", limits=(0, 2), like=like)
    assert sum(shape == (1, 4, 8, 9) for shape in touched) <= 1  # the frame that is shown
    expected = np.array(like.transform.rotate) @ (np.array([1, 2, 3]) * [0.2, 0.1, 0.1])
    np.testing.assert_allclose(layer.data_to_world((2, 1, 2, 3)), [2, *expected], rtol=1e-9)


# --- regions ----------------------------------------------------------------------------------------------------------


def rectangle(y0: float, y1: float, x0: float, x1: float) -> np.ndarray[Any, Any]:
    return np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]])


def test_a_drawn_rectangle_gives_the_voxels_under_it(model: Any) -> None:
    target = model.add_image(stack(2, 5, 20, 30), scale=(1, 0.2, 0.1, 0.1), translate=(0, 0, 1, 2))
    world = rectangle(1.3, 1.9, 2.5, 4.0)  # rows 3 to 9, columns 5 to 20
    shapes = model.add_shapes([world], shape_type="rectangle")
    assert box_of_shapes(shapes, target) == ((0, 5), (3, 10), (5, 21))
    fine = model.add_shapes([world * 10], shape_type="rectangle", scale=(0.1, 0.1))
    assert box_of_shapes(fine, target) == ((0, 5), (3, 10), (5, 21))


def test_only_the_selected_shape_counts_and_it_is_cut_to_the_layer(model: Any) -> None:
    target = model.add_image(stack(5, 20, 30))
    shapes = model.add_shapes([rectangle(2, 8, 2, 8), rectangle(10, 40, -5, 12)], shape_type="rectangle")
    shapes.selected_data = set()
    with pytest.raises(VolumeError, match="none is selected"):
        box_of_shapes(shapes, target)
    shapes.selected_data = {1}
    assert box_of_shapes(shapes, target) == ((0, 5), (10, 20), (0, 13))


def test_units_of_length_are_converted(model: Any) -> None:
    target = model.add_image(stack(5, 20, 30), scale=(0.2, 0.1, 0.1), units=UM)
    shapes = model.add_shapes([rectangle(300, 900, 500, 2000)], shape_type="rectangle", units=("nm", "nm"))
    assert box_of_shapes(shapes, target) == ((0, 5), (3, 10), (5, 21))


@pytest.mark.slow
@pytest.mark.both_bindings
def test_empty_and_far_shapes_are_named(model: Any) -> None:
    target = model.add_image(stack(5, 20, 30), name="cell")
    with pytest.raises(VolumeError, match="holds no shape"):
        box_of_shapes(model.add_shapes(None, name="empty"), target)
    with pytest.raises(VolumeError, match="beside 'cell'"):
        box_of_shapes(model.add_shapes([rectangle(50, 60, 0, 5)]), target)
    with pytest.raises(VolumeError, match="expected a shapes layer"):
        box_of_shapes(target, target)


def test_the_view_gives_the_voxels_on_the_canvas(make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    layer = viewer.add_image(stack(5, 100, 100), scale=(0.2, 0.1, 0.1), units=UM)
    camera = camera_of(viewer)
    camera.center, camera.zoom = (0, 3.0, 7.0), camera.zoom * 5
    qtbot.waitUntil(lambda: layer.corner_pixels[0][2] > 50, timeout=5000)
    z, y, x = box_of_view(viewer, layer)
    assert z == (0, 5)
    assert y[0] < 30 < y[1] and 50 < x[0] < 70 < x[1] < 90 and y[1] - y[0] < 40
    assert sum(y) / 2 == pytest.approx(30.5, abs=1.5) and sum(x) / 2 == pytest.approx(70.5, abs=1.5)
    camera.center = (0, 300.0, 300.0)
    qtbot.waitUntil(lambda: layer.corner_pixels[0][2] > 90, timeout=5000)
    with pytest.raises(VolumeError, match="shows nothing"):
        box_of_view(viewer, layer)
    viewer.dims.ndisplay = 3
    with pytest.raises(VolumeError, match="set it to 2D"):
        box_of_view(viewer, layer)


def test_camera_grid_and_scale_bar_are_those_of_the_viewer(model: Any) -> None:
    """The names that napari 0.9 deprecates would warn, and warnings are errors here."""
    camera_of(model).zoom = 3.5
    grid_of(model).enabled = True
    scale_bar_of(model).visible = True
    assert model.scene.camera.zoom == 3.5 and model.canvas.grid.enabled and model.canvas.overlays.scale_bar.visible
