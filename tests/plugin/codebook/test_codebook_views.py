"""The histogram of a codebook: what it shows, and every way to choose codes in it, with real mouse and key events."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QHelpEvent, QKeyEvent, QWheelEvent
from qtpy.QtWidgets import QApplication, QToolTip
from tests.plugin.codebook.views_helpers import (
    BACKGROUND,
    BY_FILAMENT,
    BY_USE,
    FILAMENT,
    ORDERS,
    beyond_the_edge,
    click,
    drag,
    found_of,
    many_found,
    shown,
)

if TYPE_CHECKING:
    from napari_vqldm.plugin.tabs.codebook.histogram import UsageHistogram

Key, Shift, NoModifier = Qt.Key, Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.NoModifier


@pytest.fixture
def view(qtbot: Any) -> UsageHistogram:
    """Shown, 320 pixels wide, with 12 codes in the order of their indices."""
    from napari_vqldm.plugin.tabs.codebook.histogram import UsageHistogram
    from napari_vqldm.plugin.tabs.codebook.state import CodebookState

    widget = UsageHistogram(CodebookState())
    widget.state.setParent(widget)
    shown(qtbot, widget)
    widget.state.show(found_of())
    qtbot.wait(20)
    sort(widget, "index")
    return widget


def sort(view: UsageHistogram, by: str) -> None:
    view.sort.setCurrentIndex(view.sort.findData(by))


def pixel(view: UsageHistogram, position: float, y: float = 0.5) -> QPoint:
    """Where the bar at a position is, from 0."""
    first = 0 if view.sort.currentData() == "index" else 1
    assert view.input is not None
    return view.input.pixel_of(position + first, y)


def press(qtbot: Any, view: UsageHistogram, *keys: Any, modifier: Any = NoModifier) -> None:
    for key in keys:
        qtbot.keyClick(view.plot, key, modifier)


@pytest.mark.parametrize("by", ORDERS)
def test_bars_show_the_counts_in_every_order(view: UsageHistogram, by: str) -> None:
    sort(view, by)
    assert tuple(view.order) == ORDERS[by]
    up, down = view.counts()
    assert tuple(up) == tuple(FILAMENT[code] for code in ORDERS[by])
    assert tuple(down) == tuple(BACKGROUND[code] for code in ORDERS[by])
    first = 0 if by == "index" else 1
    for name, counts in (("filament", up), ("background", down)):
        x, _ = view._bars[name].getData()
        assert tuple(x - first) == tuple(np.flatnonzero(counts))
    assert view.axis.text() == {"index": "code", "use": "rank by use", "filament": "rank by use on filaments"}[by]


@pytest.mark.parametrize("by", ORDERS)
@pytest.mark.parametrize("y", [0.9, -0.9])
def test_a_click_chooses_the_code_below_the_pointer(qtbot: Any, view: UsageHistogram, by: str, y: float) -> None:
    """Also a dead one, which has no bar, and beside the middle of a bar."""
    sort(view, by)
    for position, code in enumerate(ORDERS[by]):
        click(qtbot, view.plot, pixel(view, position + 0.3 * (-1) ** position, y))
        assert view.state.codes == (code,)


@pytest.mark.parametrize("by", ORDERS)
@pytest.mark.parametrize("is_back", [False, True])
def test_a_drag_chooses_exactly_the_bars_it_touches(qtbot: Any, view: UsageHistogram, by: str, is_back: bool) -> None:
    sort(view, by)
    ends = [pixel(view, 2, 0.8), pixel(view, 7, -0.3)]
    drag(qtbot, view.plot, *(reversed(ends) if is_back else ends))
    assert view.state.codes == tuple(sorted(ORDERS[by][2:8]))
    drag(qtbot, view.plot, pixel(view, 10), pixel(view, 30))  # out of the plot
    assert view.state.codes == tuple(sorted(ORDERS[by][10:]))


def test_a_click_beside_the_bars_and_escape_choose_none(qtbot: Any, view: UsageHistogram) -> None:
    view.state.choose(4)
    click(qtbot, view.plot, pixel(view, -0.8))
    assert view.state.codes == ()
    view.state.choose(4)
    click(qtbot, view.plot, QPoint(pixel(view, 7).x(), view.plot.height() - 5))  # below the axis
    assert view.state.codes == ()
    view.state.choose((4, 5))
    press(qtbot, view, Key.Key_Escape)
    assert view.state.codes == ()


def test_the_logarithmic_scale_changes_heights_and_no_count(view: UsageHistogram) -> None:
    """A cell is seen, none is nothing, and one scale holds above and below the line."""
    before = [counts.tolist() for counts in view.counts()]
    heights = {}
    for is_log in (True, False):
        view.is_log.setChecked(is_log)
        assert [counts.tolist() for counts in view.counts()] == before
        for name in ("filament", "background"):
            x, height = view._bars[name].getData()
            heights[is_log, name] = dict(zip(x.tolist(), np.abs(height).tolist(), strict=True))
    log_up, log_down = heights[True, "filament"], heights[True, "background"]
    assert 3 not in log_up and 3 not in log_down and 0 not in log_up
    assert log_up[10] == log_down[10] > 0.05
    decade = (log_down[0] - log_up[10]) / np.log10(5000)
    assert log_up[4] - log_up[10] == pytest.approx(decade * np.log10(90))
    assert heights[False, "filament"] == pytest.approx({c: n / 90 for c, n in enumerate(FILAMENT) if n})
    assert heights[False, "background"] == pytest.approx({c: n / 5000 for c, n in enumerate(BACKGROUND) if n})


def test_round_counts_stand_beside_the_bars() -> None:
    from napari_vqldm.plugin.tabs.codebook.scale import Scale

    up, down = np.array([0, 90]), np.array([1, 5300])
    for is_log, expected in ((True, {"0", "10", "100", "1k"}), (False, {"0", "90", "5k"})):
        scale = Scale.of(up, down, is_log)
        ticks = scale.ticks()
        assert {text for _, text in ticks} == expected
        assert {text: height for height, text in ticks if height >= 0}["0"] == 0
        for height, text in ticks:
            count = np.array([int(text.replace("k", "000"))])
            assert abs(height) == pytest.approx(float((scale.up if height > 0 else scale.down)(count)[0]))


def test_keys_walk_along_the_bars_and_extend(qtbot: Any, view: UsageHistogram) -> None:
    sort(view, "use")
    press(qtbot, view, Key.Key_Right, Key.Key_Right)
    assert view.state.codes == (BY_USE[1],)
    press(qtbot, view, Key.Key_Right, Key.Key_Right, modifier=Shift)
    assert view.state.codes == tuple(sorted(BY_USE[1:4]))
    press(qtbot, view, Key.Key_Left, Key.Key_Left, Key.Key_Left, modifier=Shift)  # over the beginning to its left
    assert view.state.codes == tuple(sorted(BY_USE[0:2]))
    press(qtbot, view, Key.Key_End)
    assert view.state.codes == (BY_USE[-1],)
    press(qtbot, view, Key.Key_Right)
    assert view.state.codes == (BY_USE[-1],)
    press(qtbot, view, Key.Key_Home)
    assert view.state.codes == (BY_USE[0],)
    view.state.choose(BY_USE[5])  # elsewhere: the keys go on from there, in the order shown
    sort(view, "filament")
    press(qtbot, view, Key.Key_Right)
    assert view.state.codes == (BY_FILAMENT[BY_FILAMENT.index(BY_USE[5]) + 1],)


def test_arrows_do_not_reach_the_shortcuts_of_the_viewer(view: UsageHistogram) -> None:
    for key, is_taken in ((Key.Key_Right, True), (Key.Key_Escape, True), (Key.Key_A, False), (Key.Key_unknown, False)):
        event = QKeyEvent(QEvent.Type.ShortcutOverride, key, NoModifier)
        event.ignore()
        QApplication.sendEvent(view.plot, event)
        assert event.isAccepted() == is_taken


def test_zoomed_in_a_click_still_finds_its_bar(qtbot: Any, view: UsageHistogram) -> None:
    whole = view.plot.getViewBox().viewRange()[0]
    where = pixel(view, 4)
    for modifiers in (NoModifier, Qt.KeyboardModifier.ControlModifier):
        turn = QWheelEvent(
            QPointF(where), QPointF(view.plot.viewport().mapToGlobal(where)), QPoint(), QPoint(0, 600),
            Qt.MouseButton.NoButton, modifiers, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(view.plot.viewport(), turn)
        is_closer = view.plot.getViewBox().viewRange()[0] != whole
        assert is_closer == turn.isAccepted() == (modifiers != NoModifier)  # the wheel alone scrolls the dock
    click(qtbot, view.plot, where)
    assert view.state.codes == (4,)
    view.state.choose(11)  # the plot moves there
    click(qtbot, view.plot, pixel(view, 11))
    assert view.state.codes == (11,) and view.plot.viewport().rect().contains(pixel(view, 11))
    press(qtbot, view, Key.Key_0)
    assert view.plot.getViewBox().viewRange()[0] == pytest.approx(whole)
    press(qtbot, view, Key.Key_Plus)
    assert np.ptp(view.plot.getViewBox().viewRange()[0]) == pytest.approx(np.ptp(whole) / 1.3)
    press(qtbot, view, Key.Key_Minus, Key.Key_Minus)
    assert view.plot.getViewBox().viewRange()[0] == pytest.approx(whole)


def test_lines_and_dead_codes_of_each_part(qtbot: Any, view: UsageHistogram) -> None:
    usage = view.state.found.usage  # type: ignore[union-attr]
    assert view.title.text() == "layer spindle: 12 codes"
    for part, words, dead in (
        ("filament", "Filament cells: 7 of 12 codes used, 5 dead", (0, 3, 6, 8, 11)),
        ("background", "Background cells: 8 of 12 codes used, 4 dead", (2, 3, 5, 8)),
        ("everywhere", "All cells: 10 of 12 codes used, 2 dead", (3, 8)),
    ):
        assert view.lines[part].text() == f"{words}, perplexity {getattr(usage, part).perplexity:.1f}"
        button = view.dead_buttons[part]
        assert button.text() == f"{len(dead)} dead" and str(len(dead)) in button.accessibleName()
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        assert view.state.codes == dead
    view.state.show(found_of(np.ones(12), np.ones(12)))
    assert not any(button.isEnabled() for button in view.dead_buttons.values())


def test_the_title_says_what_is_not_as_usual(view: UsageHistogram) -> None:
    view.state.show(found_of(is_implicit=True, is_complete=False, num_volumes=3, what="12 volumes of folder x"))
    assert view.title.text() == "12 volumes of folder x: 12 implicit codes (FSQ: no table is learned), 3 volumes so far"
    view.state.show(None)
    assert view.title.text() == "" and not view.plot.isVisible() and len(view.order) == 0


def test_a_bar_tells_its_counts_below_the_pointer(view: UsageHistogram) -> None:
    def tip(where: QPoint) -> str:
        viewport = view.plot.viewport()
        QApplication.sendEvent(viewport, QHelpEvent(QEvent.Type.ToolTip, where, viewport.mapToGlobal(where)))
        return QToolTip.text()

    assert tip(pixel(view, 4)) == "code 4 · rank 2 of 12\n90 filament cells, 800 background cells"
    assert tip(pixel(view, 3)) == "code 3 · rank 11 of 12\ndead: no counted cell has it"
    beside = tip(pixel(view, -0.8))
    assert "Escape chooses none" in " ".join(beside.split())
    assert max(len(line) for line in beside.splitlines()) <= 60  # no line as wide as the screen
    QToolTip.hideText()


def test_screen_readers_hear_what_is_chosen(view: UsageHistogram) -> None:
    assert view.plot.accessibleName() == "Use of the codes"
    view.state.choose(10)
    assert "code 10 · rank 10 of 12\n1 filament cells, 1 background cells" in view.plot.accessibleDescription()
    view.state.choose((1, 2, 3))
    assert "3 codes are chosen." in view.plot.accessibleDescription()
    x, _ = view._bars["chosen"].getData()
    assert x.tolist() == [1, 2, 3]


def test_counts_that_grow_keep_zoom_and_choice(qtbot: Any, view: UsageHistogram) -> None:
    view.state.choose(4)
    press(qtbot, view, Key.Key_Plus)
    zoomed = view.plot.getViewBox().viewRange()[0]
    view.state.show(found_of(np.array(FILAMENT) * 2, BACKGROUND))
    assert view.state.codes == (4,) and view.plot.getViewBox().viewRange()[0] == zoomed
    assert view.counts()[0].tolist() == [2 * n for n in FILAMENT]


@pytest.mark.parametrize("size, most_s", [(1024, 0.1), (16384, 1.0)])
def test_many_codes_stay_fast_and_can_be_reached(qtbot: Any, view: UsageHistogram, size: int, most_s: float) -> None:
    found = [many_found(size), many_found(size, is_complete=False)]
    times = []
    for number in range(5):
        start = time.perf_counter()
        view.state.show(found[number % 2])
        view.plot.viewport().repaint()
        times.append(time.perf_counter() - start)
    assert min(times) < most_s
    sort(view, "use")
    for position in (0, size // 3, size - 1):
        assert view.input is not None
        view.input.zoom(size / 20, position + 1.0, 0.0)
        view.state.choose(())
        click(qtbot, view.plot, pixel(view, position))
        assert view.state.codes == (int(view.order[position]),)
        press(qtbot, view, Key.Key_0)


@pytest.mark.parametrize("width", [320, 480])
def test_both_themes_are_followed_and_everything_fits(qtbot: Any, view: UsageHistogram, width: int) -> None:
    from napari._qt.qt_resources import get_stylesheet

    view.state.show(many_found(16384, is_implicit=True))
    for theme, is_bright in (("dark", True), ("light", False), ("dark", True)):
        view.setStyleSheet(get_stylesheet(theme))
        view.resize(width, 500)
        qtbot.wait(50)
        for color in (view.plot.getAxis("left").textPen().color(), view._bars["chosen"].opts["pen"].color()):
            assert (color.lightness() > 128) == is_bright
        assert beyond_the_edge(view) == []


def test_without_pyqtgraph_the_most_used_codes_are_named(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_vqldm.plugin.tabs.codebook.histogram import UsageHistogram
    from napari_vqldm.plugin.tabs.codebook.state import CodebookState

    monkeypatch.setitem(sys.modules, "pyqtgraph", None)
    state = CodebookState()
    view = shown(qtbot, UsageHistogram(state))
    state.show(found_of())
    state.choose(4)
    assert view.plot is None and view.text.text().startswith("Most used codes: 0 (5000 cells), 4 (890 cells), 7 (302")
    assert "pip install pyqtgraph" in view.text.text() and view.lines["everywhere"].isVisible()
