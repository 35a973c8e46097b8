"""Titles and a line drawn into the canvas of napari: no layers, so that the layer list stays that of the user."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QFont, QFontMetricsF
from qtpy.QtWidgets import QApplication

from napari_vqldm.plugin.compat import bare

FONT_PT = 9.0
FONT_PX = round(FONT_PT * (96 / 72) ** 2)  # vispy counts 72 points an inch, and its inch twice
LINE_PX = 20  # of one line of text
PAD_PX = 8  # around it
MOST_PX = 260  # of a title: in a wide cell the volume lies beside it
TITLE_PX = 2 * LINE_PX + 2 * PAD_PX  # what two lines take of the top of a cell
LINE_COLOR = (1.0, 0.85, 0.1, 1.0)  # seen on dark and on bright voxels
LINE_WIDTH = 2.0
ON_TOP = 10**6  # order of drawing


def canvas_of(viewer: Any) -> Any:
    """Return what draws a viewer, or None when it has no window."""
    from napari.qt import QtViewer

    viewer = bare(viewer)
    for window in QApplication.topLevelWidgets():
        inside = [window] if isinstance(window, QtViewer) else window.findChildren(QtViewer)
        for widget in inside:
            if widget.viewer is viewer:
                return widget.canvas
    return None


class Titles:
    """What a cell shows, and the name of its layer, at the top of the cell that the layer is drawn in.

    napari cuts a long name at the edge of its cell, where names of one origin are still equal: these are shortened in
    the middle.

    Parameters
    ----------
    canvas : object or None
        From `canvas_of`; None draws nothing.
    viewer : ViewerModel
        Gives the color of the background.
    titled : sequence of (Image, str)
        Layers and what they are.
    """

    def __init__(self, canvas: Any, viewer: Any, titled: Sequence[tuple[Any, str]]) -> None:
        self._canvas = None if canvas is None else weakref.ref(canvas)
        self._viewer = weakref.ref(bare(viewer))
        self._titles: list[_Title] = []
        if canvas is None:
            return
        self._titles = [_Title(canvas, layer, words) for layer, words in titled]
        canvas.events.draw.connect(self._place, position="last")  # drawing gives the cells their size
        canvas.native.update()

    @property
    def texts(self) -> list[str]:
        """What is written, from left to right; two lines each."""
        return [title.text.text for title in self._titles]

    def close(self) -> None:
        """Take the titles away; safe to call twice."""
        canvas = None if self._canvas is None else self._canvas()
        if canvas is not None:
            canvas.events.draw.disconnect(self._place)
        for title in self._titles:
            title.put_into(None)
        self._canvas, self._titles = None, []

    def _place(self, _event: Any = None) -> None:
        """Follow cells, sizes, names and colors: napari makes the cells anew whenever layers come, go or hide."""
        canvas, viewer = None if self._canvas is None else self._canvas(), self._viewer()
        if canvas is not None and viewer is not None:
            background = tuple(float(part) for part in viewer.canvas.background_color[:3])
            changes = [title.place(canvas, background) for title in self._titles]
            if any(changes):
                canvas.native.update()


class _Title:
    """Two lines on a box of the color of the background."""

    def __init__(self, canvas: Any, layer: Any, words: str) -> None:
        from vispy.scene.visuals import Rectangle, Text

        self._layer, self._words = weakref.ref(bare(layer)), words
        font = canvas.font_info()  # the fonts of vispy itself would be fetched from the network
        face = QFont(font.face)
        face.setPixelSize(FONT_PX)
        self._metrics = QFontMetricsF(face)
        self.text = Text(
            "", font_size=FONT_PT, anchor_x="left", anchor_y="bottom", font_manager=font.font_manager, face=font.face
        )
        self.text.pos = (PAD_PX, PAD_PX)
        self.box = Rectangle(center=(1, 1), width=1, height=1, border_width=0)
        for part, order in ((self.box, ON_TOP), (self.text, ON_TOP + 1)):
            part.order = order
            part.set_gl_state("translucent", depth_test=False)
        self._shown: tuple[Any, ...] = ()

    def put_into(self, cell: Any) -> bool:
        """Draw it in another part of the canvas, None draws it nowhere; tell whether that is a change."""
        if self.text.parent is not cell:
            self.text.parent = self.box.parent = cell
            return True
        return False

    def place(self, canvas: Any, background: tuple[float, ...]) -> bool:
        """Put it where the layer is drawn, at a length that fits; tell whether anything changed."""
        layer: Any = self._layer()
        visual = None if layer is None else canvas.layer_to_visual.get(layer)
        cell = None if visual is None or not layer.visible else _cell_of(visual.node)
        is_moved = self.put_into(cell)
        if cell is None:
            return is_moved
        room = 0.95 * min(float(cell.size[0]) - 2 * PAD_PX, MOST_PX)  # vispy draws a little wider than Qt measures
        lines = [
            self._metrics.elidedText(line, Qt.TextElideMode.ElideMiddle, room) for line in (self._words, layer.name)
        ]
        if self._shown == (wanted := (*lines, background)):
            return is_moved
        self._shown = wanted
        self.text.text = "\n".join(lines)
        self.text.color = (0.0, 0.0, 0.0, 1.0) if sum(background) > 1.5 else (1.0, 1.0, 1.0, 1.0)
        width = max(self._metrics.horizontalAdvance(line) for line in lines) + PAD_PX
        height = TITLE_PX - PAD_PX
        self.box.center, self.box.width, self.box.height = (
            (PAD_PX / 2 + width / 2, PAD_PX / 2 + height / 2),
            width,
            height,
        )
        self.box.color = (*background, 0.7)
        return True


class Divider:
    """A line around the plane between two halves of a volume: a line in 2D, a frame in 3D.

    It hangs on the layer, so that it moves, turns and shows with it, and is in every screenshot.

    Parameters
    ----------
    viewer : napari.Viewer
        Gives the displayed axes.
    layer : Image
        (Z, Y, X), cut along X.
    """

    def __init__(self, viewer: Any, layer: Any) -> None:
        self._viewer, self._layer = weakref.ref(bare(viewer)), weakref.ref(bare(layer))
        self._position = 0
        self.line: Any = None
        canvas = canvas_of(viewer)
        visual = None if canvas is None else canvas.layer_to_visual.get(bare(layer))
        if visual is None:
            return
        from vispy.scene.visuals import Line
        from vispy.visuals.transforms import MatrixTransform

        self.line = Line(np.zeros((2, 3)), color=LINE_COLOR, width=LINE_WIDTH, connect="segments", parent=visual.node)
        self.line.transform = MatrixTransform()  # napari keeps it equal to the coordinates of voxels
        self.line.order = ON_TOP
        self.line.set_gl_state("translucent", depth_test=False)
        visual.reset()
        for event in self._events(bare(viewer)):
            event.connect(self._draw)
        self._draw()

    def move(self, voxel: int) -> None:
        """Put the line before this voxel of X."""
        self._position = voxel
        self._draw()

    def close(self) -> None:
        """Take the line away; safe to call twice."""
        line, self.line = self.line, None
        if line is None:
            return
        line.parent = None
        viewer = self._viewer()
        if viewer is not None:
            for event in self._events(viewer):
                event.disconnect(self._draw)

    @staticmethod
    def _events(viewer: Any) -> tuple[Any, ...]:
        return viewer.dims.events.ndisplay, viewer.dims.events.order

    def _draw(self, _event: Any = None) -> None:
        viewer, layer = self._viewer(), self._layer()
        if self.line is None or viewer is None or layer is None:
            return
        axes = [axis - (viewer.dims.ndim - layer.ndim) for axis in viewer.dims.displayed]
        pieces = outline(layer.data.shape, self._position, axes)
        self.line.visible = len(pieces) > 0
        if len(pieces):
            self.line.set_data(pos=pieces)


def outline(shape: Sequence[int], position: int, axes: Sequence[int]) -> np.ndarray:
    """Return the ends (2 n, 3) of the pieces of a line around the plane before a voxel of the last axis.

    Parameters
    ----------
    shape : sequence of int
        (Z, Y, X).
    position : int
        0 to X.
    axes : sequence of int
        Displayed axes, as napari lists them: the last one goes to the right.

    Returns
    -------
    ndarray
        Coordinates of voxels in the order of the canvas, (right, down, depth); none where the plane lies in the canvas.
    """
    x = len(shape) - 1
    if x not in axes:
        return np.zeros((0, 3), np.float32)
    others = [axis for axis in axes if axis != x]
    corners = [((-0.5, shape[axis] - 0.5), axis) for axis in others]
    if len(others) == 1:
        (((low, high), axis),) = corners
        path = [{axis: low}, {axis: high}]
    else:
        ((a0, a1), a), ((b0, b1), b) = corners
        ring = [{a: a0, b: b0}, {a: a1, b: b0}, {a: a1, b: b1}, {a: a0, b: b1}]
        path = [point for i in range(4) for point in (ring[i], ring[(i + 1) % 4])]
    points = [[({x: position - 0.5} | point)[axis] for axis in reversed(axes)] for point in path]
    return np.array([[*point, *[0.0] * (3 - len(point))] for point in points], np.float32)


def _cell_of(node: Any) -> Any:
    """The part of the canvas that a visual is drawn in."""
    from vispy.scene import ViewBox

    while node is not None and not isinstance(node, ViewBox):
        node = node.parent
    return node
