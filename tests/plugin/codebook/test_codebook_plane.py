"""The codes in a plane: where they stand, how they look, and every way to choose them there."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from tests.plugin.codebook.views_helpers import beyond_the_edge, click, drag, found_of, many_found, shown

if TYPE_CHECKING:
    from napari_vqldm.plugin.tabs.codebook.plane_plot import PlanePlot

Key = Qt.Key
GRID = np.array([(x, y) for y in (0.0, 1.0, 2.0) for x in (0.0, 2.0, 4.0, 6.0)])  # code 0 at the lower left


@pytest.fixture
def view(qtbot: Any) -> PlanePlot:
    """Shown, with 12 codes on a grid of 4 columns and 3 rows, laid out by hand."""
    from napari_vqldm.plugin.tabs.codebook.plane_plot import PlanePlot
    from napari_vqldm.plugin.tabs.codebook.state import CodebookState

    widget = PlanePlot(CodebookState())
    widget.state.setParent(widget)
    shown(qtbot, widget, height=330)
    widget.state.show(found_of())
    on_grid(widget)
    qtbot.wait(20)
    return widget


def on_grid(view: PlanePlot) -> None:
    choose(view, "tsne")
    view.set_plane("tsne", GRID)


def choose(view: PlanePlot, method: str) -> None:
    view.choice.setCurrentIndex(view.choice.findData(method))


def pixel(view: PlanePlot, code: int, x: int = 0, y: int = 0) -> QPoint:
    assert view.input is not None
    return view.input.pixel_of(*view.points[code]) + QPoint(x, y)


def test_a_click_chooses_the_next_point_up_to_ten_pixels_away(qtbot: Any, view: PlanePlot) -> None:
    assert view.points.tolist() == GRID.tolist()
    for code in range(12):
        for x, y in ((0, 0), (6, -7), (-9, 0)):
            view.state.choose(())
            click(qtbot, view.plot, pixel(view, code, x, y))
            assert view.state.codes == (code,)
        click(qtbot, view.plot, pixel(view, code, 9, 9))  # 13 pixels
        assert view.state.codes == ()


@pytest.mark.parametrize("is_back", [False, True])
def test_a_drag_chooses_exactly_the_points_inside(qtbot: Any, view: PlanePlot, is_back: bool) -> None:
    ends = [pixel(view, 4, -15, -15), pixel(view, 2, 15, 15)]  # rows 0 and 1, columns 0 to 2
    drag(qtbot, view.plot, *(reversed(ends) if is_back else ends))
    assert view.state.codes == (0, 1, 2, 4, 5, 6)
    drag(qtbot, view.plot, pixel(view, 0, 15, -15), pixel(view, 0, 25, -8))
    assert view.state.codes == ()


def test_arrow_keys_go_to_the_next_point_that_way(qtbot: Any, view: PlanePlot) -> None:
    keys = (Key.Key_Right, Key.Key_Right, Key.Key_Up, Key.Key_Up, Key.Key_Up, Key.Key_Left, Key.Key_Down)
    seen = []
    for key in keys:
        qtbot.keyClick(view.plot, key)
        seen.append(view.state.code)
    assert seen == [0, 1, 5, 9, 9, 8, 4]  # first the most used code; at the upper edge there is none to go to
    qtbot.keyClick(view.plot, Key.Key_Escape)
    assert view.state.codes == ()


def test_an_arrow_key_passes_a_nearer_point_that_lies_aside(qtbot: Any, view: PlanePlot) -> None:
    view.state.show(found_of([9, 1, 1], [0, 0, 0], weights_sha256="b" * 64))
    choose(view, "tsne")
    view.set_plane("tsne", np.array([(0.0, 0.0), (0.3, 1.0), (2.0, 0.5)]))
    view.state.choose(0)
    qtbot.keyClick(view.plot, Key.Key_Right)
    assert view.state.codes == (2,)


def test_zoomed_in_the_point_that_keys_go_to_is_seen(qtbot: Any, view: PlanePlot) -> None:
    view.state.choose(0)
    assert view.input is not None
    view.input.zoom(6.0, *GRID[0])
    visible = view.plot.viewport().rect()
    assert not visible.contains(pixel(view, 8))
    for key in (Key.Key_Up, Key.Key_Up):
        qtbot.keyClick(view.plot, key)
    assert view.state.codes == (8,) and visible.contains(pixel(view, 8))
    click(qtbot, view.plot, pixel(view, 8))
    assert view.state.codes == (8,)


def test_size_is_use_color_is_filament_share_and_dead_codes_are_hollow(view: PlanePlot) -> None:
    found = view.state.found
    assert found is not None
    sizes = view.sizes(found)
    counts = found.usage.everywhere.counts
    used = counts > 0
    order = np.argsort(counts[used], kind="stable")
    assert (np.diff(sizes[used][order]) >= 0).all() and sizes[0] == sizes.max() == 17 and (sizes[~used] == 4).all()
    assert sizes[4] - 3 == pytest.approx((sizes[0] - 3) * np.sqrt(counts[4] / counts[0]), abs=0.5)
    spots = {tuple(spot.pos()): spot for spot in view._dots.points()}
    dot = {code: spots[tuple(GRID[code])] for code in range(12)}
    blue, orange = QColor("#4c9be8"), QColor("#f0883e")
    assert dot[5].brush().color() == blue and dot[0].brush().color() == orange
    mixed = dot[1].brush().color()  # 4 of 10 cells on filaments
    assert orange.blue() < mixed.blue() < blue.blue()
    for code in range(12):
        is_dead = code in (3, 8)
        assert (dot[code].brush().style() == Qt.BrushStyle.NoBrush) == is_dead
        assert (dot[code].pen().style() != Qt.PenStyle.NoPen) == is_dead
    drawn = [spot.size() for spot in view._dots.points()]
    assert drawn == sorted(drawn, reverse=True)  # small ones are not hidden below large ones
    assert view.legend.text().startswith("Blue: on filaments; orange: on background.")


def test_the_chosen_have_a_ring(view: PlanePlot) -> None:
    view.state.choose((3, 5))
    assert sorted(tuple(spot.pos()) for spot in view._rings.points()) == sorted(tuple(GRID[c]) for c in (3, 5))
    assert "2 codes are chosen." in view.plot.accessibleDescription()
    view.state.choose(5)
    assert "code 5\n12 filament cells, 0 background cells" in view.plot.accessibleDescription()
    view.state.choose(())
    assert len(view._rings.points()) == 0


def test_main_directions_are_those_of_the_core(view: PlanePlot) -> None:
    from napari_vqldm.inside.plane import codebook_plane

    found = view.state.found
    choose(view, "pca")
    assert found is not None and view.method == "pca"
    assert np.array_equal(view.points, codebook_plane(found.vectors))
    pixels = [view.input.pixel_of(*where) for where in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))]  # type: ignore[union-attr]
    assert pixels[1].x() - pixels[0].x() == pytest.approx(pixels[0].y() - pixels[2].y(), abs=2)  # one scale for both


def test_neighbors_are_asked_for_once_and_shown_when_they_come(qtbot: Any, view: PlanePlot) -> None:
    asked: list[str] = []
    view.plane_wanted.connect(asked.append)
    choose(view, "pca")
    choose(view, "tsne")
    assert asked == [] and view.method == "tsne"  # it is still there
    view.state.show(found_of(weights_sha256="b" * 64))
    assert view.method == view.choice.currentData() == "pca"
    choose(view, "tsne")
    assert asked == ["tsne"] and view.method == "pca" and "until then this is PCA" in view.text.text()
    view.state.show(found_of(weights_sha256="b" * 64, num_volumes=2))  # counting goes on
    assert view.choice.currentData() == "tsne"
    choose(view, "pca")
    choose(view, "tsne")
    assert asked == ["tsne"]
    view.set_plane("tsne", GRID)
    assert view.method == "tsne" and view.points.tolist() == GRID.tolist() and view.text.text() == ""


def test_without_scikit_learn_one_line_says_so_and_pca_stays(view: PlanePlot) -> None:
    view.state.show(found_of(weights_sha256="b" * 64))
    points = view.points
    choose(view, "tsne")
    view.set_plane("tsne", None, "t-SNE needs scikit-learn: pip install scikit-learn, or take method pca")
    assert view.text.text() == "t-SNE needs scikit-learn: pip install scikit-learn, or take method pca"
    assert view.method == view.choice.currentData() == "pca" and view.points is points
    asked: list[str] = []
    view.plane_wanted.connect(asked.append)
    choose(view, "tsne")
    assert asked == ["tsne"]  # it may be installed by now


def test_a_layout_of_another_codebook_is_dropped(view: PlanePlot) -> None:
    view.state.show(found_of(weights_sha256="b" * 64))
    choose(view, "tsne")
    view.state.show(found_of(weights_sha256="c" * 64))
    points = view.points
    view.set_plane("tsne", GRID)
    assert view.method == "pca" and view.points is points
    view.state.show(None)
    view.set_plane("tsne", GRID)
    assert len(view.points) == 0 and not view.plot.isVisible()


@pytest.mark.parametrize("size, most_s", [(1024, 0.15), (16384, 1.5)])
def test_many_codes_stay_fast(qtbot: Any, view: PlanePlot, size: int, most_s: float) -> None:
    found = [many_found(size, num_volumes=number) for number in range(2)]
    times = []
    for number in range(5):
        start = time.perf_counter()
        view.state.show(found[number % 2])
        view.plot.viewport().repaint()
        times.append(time.perf_counter() - start)
    assert min(times) < most_s and len(view._dots.points()) == size
    far = int(np.abs(view.points[:, 0]).argmax())
    click(qtbot, view.plot, pixel(view, far))
    assert view.state.codes == (far,)


def test_one_code_and_vectors_of_one_channel_can_be_shown(qtbot: Any, view: PlanePlot) -> None:
    for size in (1, 2):
        vectors = np.arange(size, dtype=np.float32)[:, None]
        view.state.show(found_of(np.ones(size), np.ones(size), vectors=vectors, weights_sha256=str(size) * 64))
        click(qtbot, view.plot, pixel(view, size - 1))
        assert view.state.codes == (size - 1,)


@pytest.mark.parametrize("width", [320, 480])
def test_both_themes_are_followed_and_everything_fits(qtbot: Any, view: PlanePlot, width: int) -> None:
    from napari._qt.qt_resources import get_stylesheet

    view.state.choose(4)
    for theme, is_bright in (("dark", True), ("light", False), ("dark", True)):
        view.setStyleSheet(get_stylesheet(theme))
        view.resize(width, 330)
        qtbot.wait(50)
        assert (view._rings.points()[0].pen().color().lightness() > 128) == is_bright
        assert beyond_the_edge(view) == []


def test_without_pyqtgraph_one_line_says_what_to_install(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_vqldm.plugin.tabs.codebook.plane_plot import PlanePlot
    from napari_vqldm.plugin.tabs.codebook.state import CodebookState

    monkeypatch.setitem(sys.modules, "pyqtgraph", None)
    state = CodebookState()
    view = shown(qtbot, PlanePlot(state))
    state.show(found_of())
    state.choose(4)
    assert view.plot is None and not view.choice.isVisible()
    assert view.legend.text() == "To see the codes as points in a plane: pip install pyqtgraph."
