"""Choose one image layer of a viewer."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QStandardItem, QStandardItemModel
from qtpy.QtWidgets import QComboBox, QWidget

from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.layers.info import describe

if TYPE_CHECKING:
    from napari.layers import Layer

NONE = "no image layer"


class LayerPicker(QComboBox):
    """A list of the image layers of a viewer that follows adding, deleting, renaming and changed data.

    Layers that cannot be used are listed, disabled, with the reason as their tooltip.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers. Viewer and layers are referenced weakly.
    parent : QWidget, optional
        Of the box.
    """

    layer_changed = Signal(object)  # the chosen layer, or None

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = weakref.ref(bare(viewer))
        self._layers: list[weakref.ref[Layer]] = []
        self._watched: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._chosen: weakref.ref[Layer] | None = None
        self.setModel(QStandardItemModel(self))
        self.setAccessibleName("Layer")
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        events = bare(viewer).layers.events
        for emitter in (events.inserted, events.removed, events.reordered):
            emitter.connect(self._on_layers)
        self.currentIndexChanged.connect(self._on_index)
        self.refresh()

    @property
    def layer(self) -> Layer | None:
        """The chosen layer; None when there is none, or it was deleted."""
        return self._chosen() if self._chosen is not None else None

    def choose(self, layer: Layer) -> None:
        """Choose a layer; one that is not listed or not usable is ignored."""
        index = self._index_of(bare(layer))
        if index >= 0 and self._is_usable(index):
            self.setCurrentIndex(index)

    def refresh(self) -> None:
        """List the layers anew; keep the choice while its layer is usable, else take the topmost usable one."""
        viewer = self._viewer()
        layers = [] if viewer is None else list(reversed(viewer.layers))  # as napari shows them: topmost first
        before = self.layer
        self.blockSignals(True)
        model = self._model()
        model.clear()
        self._layers = []
        for layer in layers:
            info = describe(layer)
            if not info.shape:  # no image layer at all
                continue
            item = QStandardItem(info.name)
            item.setToolTip(info.reason or " x ".join(map(str, info.shape)))
            item.setEnabled(info.is_usable)
            model.appendRow(item)
            self._layers.append(weakref.ref(layer))
            self._watch(layer)
        if not self._layers:
            item = QStandardItem(NONE)
            item.setEnabled(False)
            model.appendRow(item)
        index = self._index_of(before) if before is not None else -1
        if index < 0 or not self._is_usable(index):
            index = next((i for i in range(len(self._layers)) if self._is_usable(i)), -1)
        self.setCurrentIndex(index if self._layers else 0)
        self.blockSignals(False)
        self._take(index, before)

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        viewer = self._viewer()
        if viewer is not None:
            events = viewer.layers.events
            for emitter in (events.inserted, events.removed, events.reordered):
                _disconnect(emitter, self._on_layers)
        for layer in list(self._watched):
            _disconnect(layer.events.name, self._on_layers)
            _disconnect(layer.events.data, self._on_layers)
        self._watched.clear()

    def _watch(self, layer: Layer) -> None:
        if layer not in self._watched:
            layer.events.name.connect(self._on_layers)
            layer.events.data.connect(self._on_layers)
            self._watched.add(layer)

    def _on_layers(self, _event: object = None) -> None:
        try:
            self.refresh()
        except RuntimeError:  # Qt has deleted the box, Python has not yet
            self.disconnect_viewer()

    def _on_index(self, index: int) -> None:
        self._take(index, self.layer)

    def _take(self, index: int, before: Layer | None) -> None:
        """Remember the chosen layer and tell when it is another one."""
        layer = self._layers[index]() if 0 <= index < len(self._layers) and self._is_usable(index) else None
        self._chosen = None if layer is None else weakref.ref(layer)
        self.setToolTip(self.itemData(index, _TOOLTIP) or "" if index >= 0 else "Open or generate a volume first")
        if layer is not before:
            self.layer_changed.emit(layer)

    def _index_of(self, layer: Layer) -> int:
        return next((i for i, ref in enumerate(self._layers) if ref() is layer), -1)

    def _is_usable(self, index: int) -> bool:
        item = self._model().item(index)
        return item is not None and item.isEnabled()

    def _model(self) -> QStandardItemModel:
        model = self.model()
        if not isinstance(model, QStandardItemModel):
            raise TypeError(f"expected the model of the picker, got {type(model).__name__}")
        return model


_TOOLTIP = Qt.ItemDataRole.ToolTipRole


def _disconnect(emitter: Any, callback: Any) -> None:
    """Disconnect; one that is gone already is fine."""
    try:
        emitter.disconnect(callback)
    except (ValueError, RuntimeError):
        pass
