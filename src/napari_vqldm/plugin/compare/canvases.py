"""A second canvas with its own slices: cameras stay locked, slices may be let go."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import QCheckBox, QSplitter, QVBoxLayout, QWidget

from napari_vqldm.plugin.compare.looks import LinkedLook, VisibleOnly
from napari_vqldm.plugin.compare.marks import Titles
from napari_vqldm.plugin.compare.sync import CameraLock, SliceLock
from napari_vqldm.plugin.compare.whole import WholeView
from napari_vqldm.plugin.compat import bare

TITLE = "VQ-LDM comparison"
LEAST_WIDTH, LEAST_HEIGHT = 120, 120  # pixels of one canvas
HEIGHT = 360  # pixels of all, where the window has them
ROLES = ("Reconstruction", "Residual")


class SeparateCanvases(QWidget):
    """One more canvas for each layer, in a dock below the canvas: the dock of the plugin stays as wide as it is.

    Layers are copied, since the slice that is shown lives on the layer: the copies share voxels, look and name with
    the layers that they show, and follow their data.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer whose camera and slices are followed.
    source : Image
        Its contrast and rendering are shared by the first of ``layers``.
    layers : sequence of Image
        What to show: one canvas each, from left to right.
    on_ended : callable, optional
        Called once, also when the user closed the dock or deleted a layer.
    """

    def __init__(
        self, viewer: Any, source: Any, layers: Sequence[Any], on_ended: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        viewer, layers = bare(viewer), [bare(layer) for layer in layers]
        self.setObjectName("vqldm-canvases")
        self._viewer = weakref.ref(viewer)
        self._originals = [weakref.ref(layer) for layer in (bare(source), *layers)]
        self._on_ended = on_ended
        self._has_ended = False
        self.models: list[Any] = []
        self._canvases: list[Any] = []
        self._follow: list[tuple[weakref.ref[Any], Callable[..., None]]] = []
        self._parts: list[Any] = []  # to be closed, the last first
        self.titles: list[Titles] = []
        splitter = QSplitter(Qt.Orientation.Horizontal)
        try:
            for layer in layers:
                self._add_canvas(viewer, layer, splitter)
            self._parts.append(VisibleOnly(viewer, [source]))
            self._parts.append(LinkedLook([source, layers[0], self.models[0].layers[0]]))
            self._parts.append(CameraLock([viewer, *self.models]))
            self._slices = SliceLock([viewer, *self.models])
            self._parts.append(self._slices)
            self._parts.append(WholeView([viewer, *self.models], [source]))
            for canvas, model, role in zip(self._canvases, self.models, ROLES, strict=False):
                self.titles.append(Titles(canvas.canvas, model, [(model.layers[0], role)]))
        except Exception:  # nobody holds a view that was not made: the layers must not stay hidden
            self._on_ended = None
            self.end()
            raise
        self.independent = QCheckBox("Independent slices")
        self.independent.setObjectName("vqldm-independent-slices")
        self.independent.setToolTip("Let every canvas show its own slice; zoom, position and rotation stay the same")
        self.independent.toggled.connect(self._set_independent)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(splitter, 1)
        column.addWidget(self.independent)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.events.theme.connect(self._on_theme)

    def dock(self) -> Any:
        """Put this into the window of the viewer; returns the dock widget."""
        viewer = self._viewer()
        if viewer is None:
            return None
        return viewer.window.add_dock_widget(self, name=TITLE, area="bottom")

    def sizeHint(self) -> QSize:
        """Large enough to compare; less where the window is small."""
        return QSize(2 * HEIGHT, HEIGHT)

    def end(self) -> None:
        """Unlink everything, take the dock away, delete the canvases, show the other layers; safe to call twice."""
        if self._has_ended:
            return
        self._has_ended = True
        for titles in self.titles:
            titles.close()
        self.titles = []
        while self._parts:
            self._parts.pop().close()
        for ref, callback in self._follow:
            if (layer := ref()) is not None:
                layer.events.data.disconnect(callback)
        self._follow = []
        viewer = self._viewer()
        if viewer is not None:
            viewer.layers.events.removed.disconnect(self._on_removed)
            viewer.events.theme.disconnect(self._on_theme)
            try:
                viewer.window.remove_dock_widget(self)
            except (LookupError, RuntimeError, AttributeError):
                pass  # the user closed the dock, or the window is going
        for model in self.models:
            model.layers.clear()
        for canvas in self._canvases:
            canvas.close()
            canvas.deleteLater()
        self._canvases, self.models = [], []
        self.setParent(None)
        self.deleteLater()
        if self._on_ended is not None:
            self._on_ended()

    def hideEvent(self, event: QHideEvent) -> None:
        """A closed dock only hides its content: look again when the event is over."""
        super().hideEvent(event)
        QTimer.singleShot(0, self._close_if_removed)

    def _close_if_removed(self) -> None:
        if self._has_ended:
            return
        viewer = self._viewer()
        try:
            docked = viewer is not None and any(
                widget is self or widget.isAncestorOf(self) for widget in viewer.window.dock_widgets.values()
            )
        except (RuntimeError, AttributeError):  # the window is being taken down
            docked = False
        if not docked:
            self.end()

    def _add_canvas(self, viewer: Any, layer: Any, splitter: QSplitter) -> None:
        """Show a copy of a layer in a canvas of its own."""
        from napari.components import ViewerModel
        from napari.qt import QtViewer

        model = ViewerModel(title=layer.name)
        canvas = QtViewer(model)
        self.models.append(model)
        self._canvases.append(canvas)
        canvas.setMinimumSize(LEAST_WIDTH, LEAST_HEIGHT)
        model.theme = viewer.theme
        copy = _copy(layer)
        model.add_layer(copy)
        self._follow_data(layer, copy)
        splitter.addWidget(canvas)

    def _set_independent(self, independent: bool) -> None:
        self._slices.is_locked = not independent

    def _follow_data(self, layer: Any, copy: Any) -> None:
        """Show new voxels of the original in its copy."""
        original, shown = weakref.ref(layer), weakref.ref(copy)

        def update(_event: Any = None) -> None:
            source, target = original(), shown()
            if source is not None and target is not None:
                target.data = source.data

        layer.events.data.connect(update)
        self._follow.append((original, update))

    def _on_theme(self, _event: Any = None) -> None:
        viewer: Any = self._viewer()
        for model in self.models:
            model.theme = viewer.theme

    def _on_removed(self, event: Any) -> None:
        if any(ref() is event.value for ref in self._originals):
            self.end()


def _copy(layer: Any) -> Any:
    """Return a layer that shares voxels and look with another one."""
    from napari.layers import Layer

    copy = Layer.create(*layer.as_layer_data_tuple())
    copy.visible = True
    return copy
