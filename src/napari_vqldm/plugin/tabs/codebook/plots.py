"""What both plots of the tab have in common: how they are made, their colors, and the mouse and keys on them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from textwrap import fill
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QObject, QPoint, QPointF, QRect, Qt, Signal
from qtpy.QtGui import QColor, QHelpEvent, QKeyEvent, QMouseEvent, QPalette, QWheelEvent
from qtpy.QtWidgets import QApplication, QRubberBand, QToolTip, QWidget

FILAMENT_COLOR = "#4c9be8"  # seen on dark and on light, told apart by those who see no red or no green
BACKGROUND_COLOR = "#f0883e"
BOTTOM = 22  # pixels of ticks below a plot; what they count stands below, where pyqtgraph does not cut it off
EDGE = 10  # pixels at the right: what the last number of the axis hangs over
LEFT = 46  # pixels of ticks beside it: bars stay where they are while counts grow
TIP_LETTERS = 60  # of one line of a tip
_ZOOM = 1.3  # for one notch of the wheel, or one press of a key
_ROUNDING = 1e-9
_CLOSEST = 1e4  # times: nobody zooms in further


class Area(NamedTuple):
    """A part of a plot, in its own coordinates."""

    left: float
    right: float
    bottom: float
    top: float


def filament_shares(filament: npt.NDArray[np.int64], background: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the part (K,) of the cells of every code that hold a filament, 0 to 1; 0 where a code has no cell."""
    return np.asarray(filament / np.maximum(filament + background, 1), np.float64)


def make_plot(name: str, called: str, description: str, height: int) -> Any:
    """Return a plot without content, or None where pyqtgraph is not installed.

    Parameters
    ----------
    name : str
        Its ``objectName``.
    called, description : str
        For screen readers.
    height : int
        Pixels.
    """
    try:
        pyqtgraph = import_module("pyqtgraph")
    except ImportError:
        return None
    plot = pyqtgraph.PlotWidget(background=None)
    plot.setObjectName(name)
    plot.setAccessibleName(called)
    plot.setAccessibleDescription(description)
    plot.setFixedHeight(height)
    plot.setMinimumWidth(100)
    plot.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    plot.setMenuEnabled(False)
    plot.setMouseEnabled(x=False, y=False)
    plot.disableAutoRange()
    plot.hideButtons()
    plot.getPlotItem().layout.setContentsMargins(0, 0, EDGE, 0)
    plot.getAxis("left").setWidth(LEFT)
    plot.getAxis("bottom").setHeight(BOTTOM)
    return plot


def ink_of(widget: QWidget) -> QColor:
    """Return the color of text, as the theme has it."""
    widget.ensurePolished()
    return QColor(widget.palette().color(QPalette.ColorRole.WindowText))


def paint_frame(plot: Any, ink: QColor) -> None:
    """Give axes and frame of a plot the color of text; the frame is seen while keys go to the plot."""
    name = plot.objectName()
    style = (
        f"#{name} {{ background: transparent; border: 1px solid transparent; }}"
        f"#{name}:focus {{ border: 1px solid {ink.name()}; }}"
    )
    if plot.styleSheet() != style:
        plot.setStyleSheet(style)
    for side in ("bottom", "left"):
        axis = plot.getAxis(side)
        axis.setPen(ink)
        axis.setTextPen(ink)


class PlotInput(QObject):
    """Click, brush, hover, zoom and keys of a plot.

    A drag brushes; Ctrl and the wheel, or + and -, zoom, 0 shows everything. The wheel alone scrolls the dock.

    Parameters
    ----------
    plot : pyqtgraph.PlotWidget
        Whose events are taken.
    tip_at : callable
        Gets x and y in coordinates of the plot, returns what to say there.
    whole_height : bool
        A brush and a zoom take x alone.
    """

    # Signals, not calls: an error that leaves an event filter ends the program under PySide6, that of a slot is shown.
    clicked = Signal(float, float)  # x and y in coordinates of the plot; they may lie outside its axes
    brushed = Signal(object)  # the `Area` that was dragged over
    pressed = Signal(object, bool)  # a key, and whether Shift was held

    def __init__(self, plot: Any, tip_at: Callable[[float, float], str], whole_height: bool = False) -> None:
        super().__init__(plot)
        self.plot = plot
        self.whole = Area(0.0, 1.0, 0.0, 1.0)
        self._tip_at, self._whole_height = tip_at, whole_height
        self._zoomed = 1.0  # how many times closer than the whole
        self._start: QPoint | None = None
        self._band = QRubberBand(QRubberBand.Shape.Rectangle, plot.viewport())
        plot.viewport().setMouseTracking(True)
        plot.viewport().installEventFilter(self)
        plot.installEventFilter(self)

    def show_whole(self, whole: Area) -> None:
        """Set what there is to see, and show all of it."""
        self.whole, self._zoomed = whole, 1.0
        self._show(whole)

    def zoom(self, factor: float, x: float, y: float) -> None:
        """Show less for a factor above 1, more for one below; (x, y) stays where it is."""
        (left, right), (bottom, top) = self.plot.getViewBox().viewRange()
        if self._zoomed * factor <= 1.0 + _ROUNDING:
            self.show_whole(self.whole)
        elif self._zoomed * factor < _CLOSEST:
            self._zoomed *= factor
            wide, high = (right - left) / factor, (top - bottom) / factor
            part_x, part_y = (x - left) / (right - left), (y - bottom) / (top - bottom)
            left, bottom = x - part_x * wide, y - part_y * high
            self._show(Area(left, left + wide, bottom, bottom + high))

    def bring_into_view(self, x: float, y: float = 0.0) -> None:
        """Move, if needed, so that a place is seen."""
        (left, right), (bottom, top) = self.plot.getViewBox().viewRange()
        if not (left <= x <= right and bottom <= y <= top):
            wide, high = (right - left) / 2, (top - bottom) / 2
            self._show(Area(x - wide, x + wide, y - high, y + high))

    def place_of(self, where: QPoint) -> tuple[float, float]:
        """Return the coordinates in the plot of a pixel of its viewport."""
        point = self.plot.getViewBox().mapSceneToView(self.plot.mapToScene(where))
        return point.x(), point.y()

    def pixel_of(self, x: float, y: float) -> QPoint:
        """Return the pixel of the viewport for coordinates in the plot."""
        box = self.plot.getViewBox()
        return cast("QPoint", self.plot.mapFromScene(box.mapViewToScene(QPointF(x, y))))

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Take what belongs to the plot and leave the rest."""
        if isinstance(event, QMouseEvent):
            return self._on_mouse(event)
        if isinstance(event, QWheelEvent):
            return self._on_wheel(event)
        if isinstance(event, QHelpEvent):
            self._show_tip(event.globalPos(), event.pos())
            return True
        if isinstance(event, QKeyEvent) and event.type() in (QEvent.Type.KeyPress, QEvent.Type.ShortcutOverride):
            return self._on_key_event(event)
        return False

    def _on_mouse(self, event: QMouseEvent) -> bool:
        where, kind = event.position().toPoint(), event.type()
        is_left = event.button() == Qt.MouseButton.LeftButton
        if is_left and kind in (QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonDblClick):
            self._start = where
            self.plot.setFocus(Qt.FocusReason.MouseFocusReason)
            return True
        if kind == QEvent.Type.MouseMove and self._start is not None:
            if not event.buttons() & Qt.MouseButton.LeftButton:  # it was let go where no event came from
                self._end_drag()
            elif self._is_drag(where):
                self._band.setGeometry(self._dragged(where))
                self._band.show()
            return True
        if kind == QEvent.Type.MouseMove and QToolTip.isVisible():
            self._show_tip(event.globalPosition().toPoint(), where)
            return False
        if kind == QEvent.Type.MouseButtonRelease and is_left and self._start is not None:
            if self._is_drag(where):
                rect = self._dragged(where)
                (left, top), (right, bottom) = self.place_of(rect.topLeft()), self.place_of(rect.bottomRight())
                self.brushed.emit(Area(left, right, bottom, top))
            else:
                self.clicked.emit(*self.place_of(where))
            self._end_drag()
            return True
        return False

    def _show_tip(self, on_screen: QPoint, where: QPoint) -> None:
        lines = self._tip_at(*self.place_of(where)).splitlines()
        QToolTip.showText(on_screen, "\n".join(fill(line, TIP_LETTERS) for line in lines), self.plot)

    def _on_wheel(self, event: QWheelEvent) -> bool:
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            notches = event.angleDelta().y() / 120.0
            self.zoom(_ZOOM**notches, *self.place_of(event.position().toPoint()))
            event.accept()
        else:
            event.ignore()  # the dock scrolls
        return True

    def _on_key_event(self, event: QKeyEvent) -> bool:
        """Take keys before napari's shortcuts do: arrows would move its sliders."""
        key, modifiers = _KEYS.get(event.key()), event.modifiers()
        has_other = bool(modifiers & (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier))
        if has_other or key is None:
            return False
        event.accept()
        if event.type() == QEvent.Type.ShortcutOverride:
            return True
        if key == Qt.Key.Key_Escape and self._start is not None:
            self._end_drag()
        elif key in _ZOOM_KEYS:
            (left, right), (bottom, top) = self.plot.getViewBox().viewRange()
            self.zoom(_ZOOM_KEYS[key], (left + right) / 2, (bottom + top) / 2)
        else:
            self.pressed.emit(key, bool(modifiers & Qt.KeyboardModifier.ShiftModifier))
        return True

    def _is_drag(self, where: QPoint) -> bool:
        return self._start is not None and (where - self._start).manhattanLength() >= QApplication.startDragDistance()

    def _dragged(self, where: QPoint) -> QRect:
        """The pixels that are dragged over, inside the axes."""
        axes = self.plot.mapFromScene(self.plot.getViewBox().sceneBoundingRect()).boundingRect()
        rect = QRect(self._start or where, where).normalized()
        if self._whole_height:
            rect.setTop(axes.top())
            rect.setBottom(axes.bottom())
        return rect.intersected(axes)

    def _end_drag(self) -> None:
        self._start = None
        self._band.hide()

    def _show(self, area: Area) -> None:
        """Show an area, moved so that nothing beside the whole is seen."""
        left, right, bottom, top = area
        shift = max(self.whole.left - left, 0.0) + min(self.whole.right - right, 0.0)
        if self._whole_height:
            bottom, top = self.whole.bottom, self.whole.top
        self.plot.getViewBox().setRange(xRange=(left + shift, right + shift), yRange=(bottom, top), padding=0)


_ZOOM_KEYS = {Qt.Key.Key_Plus: _ZOOM, Qt.Key.Key_Equal: _ZOOM, Qt.Key.Key_Minus: 1 / _ZOOM, Qt.Key.Key_0: 1e-9}
_KEYS = {  # by number: PyQt6 makes no `Qt.Key` of keys that Qt does not know
    key.value: key
    for key in (
        *_ZOOM_KEYS,
        Qt.Key.Key_Escape,
        Qt.Key.Key_Left,
        Qt.Key.Key_Right,
        Qt.Key.Key_Up,
        Qt.Key.Key_Down,
        Qt.Key.Key_Home,
        Qt.Key.Key_End,
        Qt.Key.Key_PageUp,
        Qt.Key.Key_PageDown,
    )
}
