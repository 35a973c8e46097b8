"""Clicks in the viewer choose codes: in 2D, in 3D from many sides, and never where another tool is at work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from tests.planted_model import planted_volume
from tests.plugin.codebook.conftest import FACTOR, SIZE, some_codes
from tests.plugin.codebook.viewing import canvas_of, click, pixel_of, pixels, show_map

from napari_vqldm.plugin.compat import camera_of

UM, NM = ("um",) * 3, ("nm",) * 3
TURNED = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
QUARTER = np.array([[1, 0, 0, 3.0], [0, 0, 1, -2.0], [0, -1, 0, 0.5], [0, 0, 0, 1]])
PLACES: dict[str, dict[str, Any]] = {
    "plain": {"scale": SIZE, "units": UM},
    "nm": {"scale": tuple(1000 * s for s in SIZE), "units": NM, "translate": (900.0, 50.0, -7.0)},
    "rotated in the plane": {"scale": SIZE, "units": UM, "rotate": 25.0},
    "sheared in the plane": {"scale": SIZE, "units": UM, "shear": (0.0, 0.0, 0.5), "translate": (1.0, 2.0, 3.0)},
    "rotated": {"scale": SIZE, "units": UM, "rotate": TURNED, "translate": (1.0, 2.0, 3.0)},
    "sheared": {"scale": SIZE, "units": UM, "shear": (0.3, -0.2, 0.5)},
    "affine": {"scale": SIZE, "units": UM, "affine": QUARTER},
}
IN_PLANE = ("plain", "nm", "rotated in the plane", "sheared in the plane", "affine")
QUICK = (
    "nm",
    "rotated",
    "rotated in the plane",
)  # in every run; the others take long where the screen is drawn by software
SLOW = [pytest.mark.slow, pytest.mark.both_bindings]
ANGLES = [(0.0, 180.0, 0.0), (20.0, -35.0, 60.0), (-50.0, 110.0, 15.0)]

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")


@pytest.fixture
def scene(shown_viewer: Any, planted_of: Any, qtbot: Any) -> Iterator[Any]:
    shown_viewer.window.resize(800, 560)  # a small canvas is drawn faster
    scene = Scene(shown_viewer, planted_of)
    yield scene
    scene.close()


class Scene:
    """A viewer whose clicks choose codes of the maps that are shown."""

    def __init__(self, viewer: Any, model: Any) -> None:
        from napari_vqldm.plugin.desk import Desk
        from napari_vqldm.plugin.tabs.codebook.picking import Picker
        from napari_vqldm.plugin.tabs.codebook.state import CodebookState

        self.viewer, self.model = viewer, model
        self.desk, self.state = Desk(viewer), CodebookState()
        self.maps: list[Any] = []
        self.picker = Picker(self.desk, lambda: self.maps, self.state)

    def show(self, codes: np.ndarray[Any, Any], name: str = "planted", **place: Any) -> Any:
        data = planted_volume(codes, FACTOR).data
        stack = self.viewer.add_image(data, name=name, **(place or PLACES["plain"]))
        self.maps.append(show_map(self.viewer, self.model, stack, self.state))
        return self.maps[-1]

    def click_cell(self, cell: Any, shown: Any = None, **how: Any) -> int | None:
        """Click where a cell is drawn; return the code that is chosen then."""
        layer = (shown or self.maps[0]).layer
        click(self.viewer, pixel_of(self.viewer, layer, cell), **how)
        return self.state.code

    def plane(self, z: int) -> None:
        """Show a plane of cells."""
        self.viewer.dims.set_point(0, float(self.maps[0].layer.data_to_world((z, 0, 0))[0]))

    def turn(self, angles: tuple[float, float, float], perspective: float = 0.0) -> None:
        self.viewer.dims.ndisplay = 3
        camera = camera_of(self.viewer)
        camera.angles, camera.perspective = angles, perspective
        self.viewer.reset_view(reset_camera_angle=False)

    def close(self) -> None:
        self.picker.close()
        self.picker.close()
        for shown in self.maps:
            shown.close()
        self.desk.close()


# --- 2D ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [pytest.param(place, marks=() if place in QUICK else SLOW) for place in IN_PLANE],
)
def test_a_click_chooses_the_code_of_the_cell(scene: Scene, place: str) -> None:
    codes = some_codes()
    scene.show(codes, **PLACES[place])
    for z, y, x in [(0, 0, 1), (0, 5, 4), (1, 2, 3), (2, 5, 0), (2, 3, 3)]:
        scene.plane(z)
        for off in (-0.45, 0.0, 0.45):  # also near the edge of the cell
            scene.state.choose(3)  # stands nowhere
            assert scene.click_cell((z, y + off, x + off)) == codes[z, y, x]


def test_a_click_beside_the_cells_leaves_the_choice(scene: Scene) -> None:
    scene.show(some_codes())
    scene.plane(1)
    scene.state.choose((2, 5))
    for cell in [(1, -0.6, 2), (1, 5.6, 2), (1, 2, -0.6), (1, 2, 4.6)]:
        scene.click_cell(cell)
        assert scene.state.codes == (2, 5)
    scene.viewer.add_image(np.ones((40, 24, 20)), scale=SIZE, units=UM, opacity=0.1)
    scene.viewer.dims.set_point(0, 6.0)  # beyond the last plane of cells
    scene.click_cell((1, 2, 2))
    assert scene.state.codes == (2, 5)


def test_drags_other_buttons_and_modifiers_choose_nothing(scene: Scene) -> None:
    shown = scene.show(some_codes())
    scene.plane(1)
    start = pixel_of(scene.viewer, shown.layer, (1, 2, 2))
    before = tuple(camera_of(scene.viewer).center)
    click(scene.viewer, start, to=(start[0] + 40, start[1] + 25))
    assert scene.state.codes == ()
    assert tuple(camera_of(scene.viewer).center) != before  # the drag moves the view as ever
    there_and_back = pixel_of(scene.viewer, shown.layer, (1, 2, 2))
    click(scene.viewer, there_and_back, to=(there_and_back[0] + 40, there_and_back[1]), and_back=True)
    scene.click_cell((1, 2, 2), button=Qt.MouseButton.RightButton)
    for key in (Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier):
        scene.click_cell((1, 2, 2), modifiers=key)
    assert scene.state.codes == ()
    hand = pixel_of(scene.viewer, shown.layer, (1, 2, 2))
    click(scene.viewer, hand, to=(hand[0] + 2, hand[1] - 2))  # a hand trembles
    assert scene.state.code == some_codes()[1, 2, 2]


def test_what_is_not_seen_is_not_picked(scene: Scene) -> None:
    shown = scene.show(some_codes())
    scene.plane(1)
    shown.layer.visible = False
    assert scene.click_cell((1, 2, 2)) is None
    shown.layer.visible, shown.layer.opacity = True, 0.0
    assert scene.click_cell((1, 2, 2)) is None
    shown.layer.opacity = 1.0
    assert scene.click_cell((1, 2, 2)) == some_codes()[1, 2, 2]
    scene.state.choose(())
    scene.viewer.layers.remove(shown.layer)
    stack = scene.viewer.layers["planted"]
    click(scene.viewer, pixel_of(scene.viewer, stack, (3, 9, 9)))
    assert scene.state.codes == ()


@pytest.mark.parametrize("active", ["planted", "planted (codes)", None])
def test_whichever_layer_is_active(scene: Scene, active: str | None) -> None:
    scene.show(some_codes())
    scene.plane(1)
    layers = scene.viewer.layers
    layers.selection.active = None if active is None else layers[active]
    assert scene.click_cell((1, 2, 3)) == some_codes()[1, 2, 3]


def test_the_upper_of_two_maps(scene: Scene) -> None:
    codes, others = some_codes(), some_codes(seed=4)
    first, second = scene.show(codes), scene.show(others, "second")
    cell = tuple(np.argwhere(codes != others)[0])
    scene.plane(int(cell[0]))
    assert scene.click_cell(cell) == others[cell]
    scene.viewer.layers.move(scene.viewer.layers.index(first.layer), len(scene.viewer.layers))
    assert scene.click_cell(cell) == codes[cell]
    first.layer.visible = False
    assert scene.click_cell(cell, second) == others[cell]


@pytest.mark.slow
@pytest.mark.both_bindings
def test_tools_of_the_user_keep_their_clicks(scene: Scene) -> None:
    shown = scene.show(some_codes())
    scene.plane(1)
    z, y, x = 3, 10, 10
    labels = scene.viewer.add_labels(np.zeros((6, 24, 20), np.uint8), scale=SIZE, units=UM)
    labels.mode, labels.brush_size, labels.selected_label = "paint", 1, 3
    click(scene.viewer, pixel_of(scene.viewer, labels, (z, y, x)))
    assert scene.state.codes == () and (labels.data == 3).any()
    labels.mode = "pick"
    scene.click_cell((1, 2, 2))
    points = scene.viewer.add_points(ndim=3, scale=SIZE, units=UM)
    points.mode = "add"
    scene.click_cell((1, 2, 2))
    assert scene.state.codes == () and len(points.data) == 1
    shapes = scene.viewer.add_shapes(ndim=3, scale=SIZE, units=UM)
    for mode in ("add_polyline", "select", "transform"):
        shapes.mode = mode
        scene.click_cell((1, 2, 2))
    assert scene.state.codes == ()
    shown.layer.mode = "pick"
    scene.viewer.layers.selection.active = shown.layer
    scene.click_cell((1, 2, 2))  # the picker of napari itself
    assert scene.state.codes == () and shown.layer.selected_label == some_codes()[1, 2, 2] + 1
    shown.layer.mode = "pan_zoom"
    assert scene.click_cell((1, 2, 2)) == some_codes()[1, 2, 2]


def test_after_the_end_clicks_choose_nothing(scene: Scene) -> None:
    scene.show(some_codes())
    scene.plane(1)
    scene.picker.close()
    assert scene.click_cell((1, 2, 2)) is None


# --- 3D ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "perspective"),
    [
        pytest.param(place, perspective, marks=() if place == "rotated" else SLOW)
        for place, perspective in zip(PLACES, [0.0, 0.0, 45.0, 0.0, 45.0, 45.0, 0.0], strict=True)
    ],
)
def test_lone_cells_are_picked_from_all_sides(scene: Scene, place: str, perspective: float) -> None:
    codes = np.zeros((4, 6, 6), np.int32)
    alone = {(0, 1, 1): 4, (3, 4, 1): 5, (1, 5, 5): 6, (3, 0, 4): 7}
    for cell, code in alone.items():
        codes[cell] = code
    scene.show(codes, **PLACES[place])
    scene.viewer.layers["planted"].visible = False  # takes the most time to draw
    for angles in ANGLES:
        scene.turn(angles, perspective)
        front = _first_on_the_way(scene, list(alone))
        for cell, code in alone.items():
            scene.state.choose(())
            found = scene.click_cell(cell)
            assert found == alone[front[cell]], (angles, cell, code)


def _first_on_the_way(scene: Scene, cells: list[Any]) -> dict[Any, Any]:
    """Return for every cell the one that is seen at its center, from the picture: cells have colors of their own."""
    scene.state.choose(())
    picture, layer = pixels(scene.viewer), scene.maps[0].layer
    hues = {cell: _hue(layer.colormap.map(layer.data[cell])) for cell in cells}
    found = {}
    for cell in cells:
        x, y = pixel_of(scene.viewer, layer, cell)
        far = {other: np.abs(_hue(picture[y, x]) - hue).max() for other, hue in hues.items()}
        found[cell] = min(far, key=lambda other: far[other])
        assert far[found[cell]] < 0.05, "no cell is drawn at the center of a cell"
    return found


def _hue(color: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(color[:3], float) / max(float(np.max(color[:3])), 1e-3)


@pytest.mark.slow
@pytest.mark.both_bindings
def test_the_first_that_is_seen_and_lit_cells_before_all(scene: Scene) -> None:
    codes = np.zeros((5, 3, 3), np.int32)
    codes[1, 1, 1], codes[3, 1, 1] = 4, 6  # one behind the other, background around
    scene.show(codes)
    scene.viewer.layers["planted"].visible = False
    fronts = []
    for angles in [(0.0, 0.0, 0.0), (0.0, 180.0, 0.0)]:
        scene.turn(angles)
        scene.state.choose(())
        fronts.append(scene.click_cell((2, 1, 1)))
        scene.state.choose((2, 6))
        assert scene.click_cell((2, 1, 1)) == 6  # lit, and the one that is seen
        scene.state.choose((2, 4))
        assert scene.click_cell((2, 1, 1)) == 4
        scene.state.choose((3, 7))  # stand nowhere: nothing is lit
        assert scene.click_cell((2, 1, 1)) == fronts[-1]
    assert sorted(fronts) == [4, 6]  # from the front and from behind
    scene.state.choose((2, 3))
    scene.click_cell((2, 0, 0))  # background all the way: hidden, not picked
    assert scene.state.codes == (2, 3)
    scene.state.choose((0, 2))  # lit, it is
    assert scene.click_cell((2, 0, 0)) == 0


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_drag_in_3d_turns_the_view_and_chooses_nothing(scene: Scene) -> None:
    shown = scene.show(some_codes())
    scene.viewer.layers["planted"].visible = False
    scene.turn((0.0, 0.0, 0.0))
    start = pixel_of(scene.viewer, shown.layer, shown.places(5)[0])
    scene.click_cell(shown.places(5)[0])
    assert scene.state.codes != ()  # a click there would choose
    scene.state.choose(())
    before = tuple(camera_of(scene.viewer).angles)
    click(scene.viewer, start, to=(start[0] + 60, start[1] + 40))
    assert scene.state.codes == () and tuple(camera_of(scene.viewer).angles) != before


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_layer_of_nm_among_layers_of_um(scene: Scene) -> None:
    """The world of both is in nm; the map is on the one in um."""
    scene.viewer.add_image(np.ones((4, 4, 4)), name="other", scale=(200.0, 100.0, 100.0), units=NM, visible=False)
    codes = some_codes()
    shown = scene.show(codes)
    pixels(scene.viewer)
    middle = 1000.0 * np.array(shown.layer.data_to_world((1, 2, 3)))
    scene.viewer.dims.set_point(0, middle[0])
    pixels(scene.viewer)
    view = canvas_of(scene.viewer).view
    x, y = (view.transform * view.scene.transform).map(middle[:0:-1])[:2]
    click(scene.viewer, (round(x), round(y)))
    assert scene.state.code == codes[1, 2, 3]


# --- the way of a ray -------------------------------------------------------------------------------------------------


def test_the_cells_on_the_way_of_a_line() -> None:
    from napari_vqldm.plugin.tabs.codebook.picking import cells_along

    random, shape = np.random.default_rng(3), (4, 6, 5)
    for _ in range(200):
        point, direction = random.uniform(-1, 6, 3), random.normal(size=3)
        steps = np.linspace(-40, 40, 80001)[:, None]
        walked = np.floor(point + steps * direction + 0.5).astype(int)
        walked = walked[((walked >= 0) & (walked < shape)).all(axis=1)]
        is_new = np.r_[True, (np.diff(walked, axis=0) != 0).any(axis=1)] if len(walked) else np.zeros(0, bool)
        crossed = cells_along(shape, point, direction)
        # the walk may step over a corner that the line just touches
        assert {tuple(cell) for cell in walked} <= {tuple(cell) for cell in crossed}
        assert len(crossed) <= len(walked[is_new]) + 1
        order = (crossed - point) @ direction
        assert np.all(np.diff(order) > 0)
    assert cells_along(shape, np.array([1.0, 2.0, 3.0]), np.zeros(3)).tolist() == [[1, 2, 3]]
    assert len(cells_along(shape, np.array([1.0, 6.0, 3.0]), np.zeros(3))) == 0
    assert len(cells_along(shape, np.array([9.0, 0.0, 3.0]), np.array([0.0, 1.0, 0.0]))) == 0
