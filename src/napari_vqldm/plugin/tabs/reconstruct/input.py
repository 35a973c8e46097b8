"""The upper half of the Reconstruct tab: which layer, which part of it, how large its voxels are."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.errors import VolumeError, VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers import (
    Box,
    LayerInfo,
    box_of_shapes,
    box_of_view,
    describe,
    shown_channel,
    write_voxel_size,
)
from napari_vqldm.plugin.state.reconstruct import FRAMES, REGIONS, ReconstructState
from napari_vqldm.plugin.widgets import HelpLabel, LayerPicker
from napari_vqldm.plugin.widgets.fold import Fold
from napari_vqldm.plugin.widgets.forms import make_form
from napari_vqldm.plugin.widgets.voxel_size_fields import VoxelSizeFields

FRAME_TEXTS = {"this": "This time point", "all": "All time points"}
REGION_TEXTS = {"whole": "Whole volume", "shapes": "Rectangle of a shapes layer", "view": "What the view shows"}


class InputForm(QWidget):
    """Layer, channel, frames, region, voxel size, and what is rarely changed.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    state : ReconstructState
        What the form shows and changes.
    """

    changed = Signal()  # another layer, or another part of it

    def __init__(self, desk: Desk, state: ReconstructState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.desk, self.state = desk, state
        self._build()
        self.picker.layer_changed.connect(self._on_layer)
        state.events.connect(self._on_state)
        events = bare(desk.viewer).layers.events
        for emitter in (events.inserted, events.removed):
            emitter.connect(self._on_layers)
        self._watched: weakref.ref[Any] | None = None
        self._on_layer(self.picker.layer)

    @property
    def layer(self) -> Any:
        """The chosen layer; None when there is none."""
        return self.picker.layer

    @property
    def info(self) -> LayerInfo | None:
        """What the chosen layer holds; of a layer that cannot be used, the reason."""
        layer = self.picker.layer
        if layer is not None:
            return describe(layer)
        unusable = [info for entry in self._image_layers() if not (info := describe(entry)).is_usable]
        return unusable[-1] if unusable else None

    @property
    def shapes_layer(self) -> Any:
        """The shapes layer that names the region: the selected one, else the topmost."""
        from napari.layers import Shapes

        viewer = self._viewer()
        if viewer is None:
            return None
        active = viewer.layers.selection.active
        if isinstance(active, Shapes):
            return active
        return next((layer for layer in reversed(viewer.layers) if isinstance(layer, Shapes)), None)

    def choose(self, layer: Any) -> None:
        """Choose a layer."""
        self.picker.choose(layer)

    def close_input(self) -> None:
        """Let go of viewer and state."""
        self.picker.disconnect_viewer()
        self.advanced.disconnect_state()
        self.state.events.disconnect(self._on_state)
        self._watch(None)
        viewer = self._viewer()
        if viewer is not None:
            events = viewer.layers.events
            for emitter in (events.inserted, events.removed):
                emitter.disconnect(self._on_layers)

    def _build(self) -> None:
        self.picker = LayerPicker(self.desk.viewer)
        self.picker.setObjectName("vqldm-reconstruct-layer")
        self.channel = _combo("vqldm-reconstruct-channel", "Which channel holds the microtubules")
        self.channel.currentIndexChanged.connect(lambda index: self._set("channel", max(index, 0)))
        self.frames = _combo("vqldm-reconstruct-frames", "Of a time series: the time point in view, or all of them")
        for value in FRAMES:
            self.frames.addItem(FRAME_TEXTS[value], value)
        self.frames.currentIndexChanged.connect(lambda index: self._set("frames", FRAMES[max(index, 0)]))
        self.region = _combo("vqldm-reconstruct-region", "The whole volume, or a part of it over all planes")
        for value in REGIONS:
            self.region.addItem(REGION_TEXTS[value], value)
        self.region.currentIndexChanged.connect(lambda index: self._set("region", REGIONS[max(index, 0)]))
        self.size_text = HelpLabel()
        self.size_text.setObjectName("vqldm-voxel-size-text")
        self.own_size = QCheckBox("Enter another voxel size")
        self.own_size.setObjectName("vqldm-own-voxel-size")
        self.own_size.setToolTip("Use this when the layer states no voxel size or a wrong one")
        self.own_size.toggled.connect(lambda is_on: self._set("uses_typed", is_on))
        self.voxel_size = VoxelSizeFields()
        self.voxel_size.changed.connect(lambda values: self._set("typed_voxel_size_um", values))
        self.write_button = QPushButton("Write it to the layer")
        self.write_button.setObjectName("vqldm-write-voxel-size")
        self.write_button.setToolTip("Set scale and unit of the layer to this voxel size")
        self.write_button.clicked.connect(lambda _checked=False: self.write_size())
        self.advanced = make_form(self.state, ("background", "scale", "max_voxels"))
        fold = Fold("Advanced", "vqldm-reconstruct-advanced", self.advanced, "Rarely changed: intensity scale, tiles")
        self.form = QFormLayout()
        self.form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self.form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.form.addRow("Layer", self.picker)
        self.form.addRow("Channel", self.channel)
        self.form.addRow("Frames", self.frames)
        self.form.addRow("Region", self.region)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(self.form)
        for widget in (self.size_text, self.own_size, self.voxel_size, self.write_button, fold):
            column.addWidget(widget)

    def _set(self, name: str, value: Any) -> None:
        if getattr(self.state, name) != value:
            setattr(self.state, name, value)

    def _watch(self, layer: Any) -> None:
        """Follow scale and unit of the chosen layer."""
        before = self._watched() if self._watched is not None else None
        if before is not None:
            for emitter in (before.events.scale, before.events.units):
                emitter.disconnect(self._on_placed)
        self._watched = None if layer is None else weakref.ref(layer)
        if layer is not None:
            for emitter in (layer.events.scale, layer.events.units):
                emitter.connect(self._on_placed)

    def _on_layers(self, _event: object = None) -> None:
        """A layer came or went: what is said about layers that cannot be used may have changed."""
        self._show(self.info)
        self.changed.emit()

    def _on_placed(self, _event: object = None) -> None:
        self.state.take_voxel_size_of(self.info)
        self._on_layers()

    def _on_layer(self, layer: Any) -> None:
        self._watch(layer)
        info = describe(layer) if layer is not None else None
        self.state.take_voxel_size_of(info)
        viewer = self._viewer()
        # Start from the channel in view, as the time point does.
        self.state.channel = shown_channel(viewer, layer, info) if info is not None and viewer is not None else 0
        self.channel.blockSignals(True)
        self.channel.clear()
        self.channel.addItems([str(i) for i in range(info.num_channels if info is not None else 1)])
        self.channel.setCurrentIndex(self.state.channel)
        self.channel.blockSignals(False)
        self._show(info)
        self.changed.emit()

    def _on_state(self, *_: object) -> None:
        self._show(self.info)

    def _show(self, info: LayerInfo | None) -> None:
        """Show what the state holds for this layer; rows without a choice are hidden."""
        is_usable = info is not None and info.is_usable
        self.form.setRowVisible(self.channel, info is not None and info.num_channels > 1)
        self.form.setRowVisible(self.frames, info is not None and info.num_times > 1)
        self.frames.setCurrentIndex(FRAMES.index(self.state.frames))
        self.region.setCurrentIndex(REGIONS.index(self.state.region))
        self.size_text.setText(self.state.voxel_size_text(info) if is_usable and info is not None else "")
        states_size = info is not None and info.voxel_size_um is not None
        uses_typed = is_usable and self.state.uses_typed
        self.own_size.setVisible(is_usable and states_size)
        self.own_size.setChecked(self.state.uses_typed)
        self.voxel_size.setVisible(uses_typed)
        self.voxel_size.set_values(self.state.typed_voxel_size_um)
        self.write_button.setVisible(uses_typed)
        self.write_button.setEnabled(0.0 not in self.state.typed_voxel_size_um)

    def write_size(self) -> None:
        """Give the layer the voxel size that was entered; a region that was drawn on it stays on it."""
        layer, info = self.layer, self.info
        if layer is None or info is None:
            return
        size = self.desk.guarded(lambda: self.state.voxel_size_um(info))
        if size is None:
            return
        shapes = self.shapes_layer if self.state.region == "shapes" else None
        ratio = write_voxel_size(layer, info, size)
        if shapes is not None and 2 <= shapes.ndim <= layer.ndim:
            shapes.units = [str(unit) for unit in layer.units][-shapes.ndim :]
            shapes.scale = np.asarray(shapes.scale) * ratio[-shapes.ndim :]

    def _image_layers(self) -> list[Any]:
        from napari.layers import Image

        viewer = self._viewer()
        return [] if viewer is None else [layer for layer in viewer.layers if isinstance(layer, Image)]

    def _viewer(self) -> Any:
        try:
            return bare(self.desk.viewer)
        except VqldmError:
            return None


def chosen_box(region: str, viewer: Any, layer: Any, shapes_layer: Any) -> Box | None:
    """Return the box of a region; None for the whole volume.

    Raises
    ------
    VolumeError
        If nothing is drawn, or nothing of the layer is in view.
    """
    if region == "whole":
        return None
    if region == "view":
        return box_of_view(viewer, layer)
    if shapes_layer is None:
        raise VolumeError("there is no shapes layer: add one and draw a rectangle around the region")
    return box_of_shapes(shapes_layer, layer)


def _combo(name: str, tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setObjectName(name)
    combo.setToolTip(tip)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(6)
    return combo
