"""Sliders of the camera, and why it cannot be used where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.state.camera import CAMERA_FIELDS, CameraState
from napari_vqldm.plugin.tabs.sample.camera_live import CameraLive
from napari_vqldm.plugin.widgets import CopyButton, HelpLabel
from napari_vqldm.plugin.widgets.forms import knob_of
from napari_vqldm.plugin.widgets.slider_row import SliderRow

if TYPE_CHECKING:
    from napari.layers import Layer

DECIMALS = {"photons": 0, "background": 2, "read_noise_e": 1, "offset_adu": 0, "blur_um": 3}


class CameraBox(QWidget):
    """Switch, sliders and the recording that follows them."""

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-camera")
        self.desk = desk
        self.state = CameraState()
        self.live = CameraLive(desk, self.state, self)
        self.switch = QCheckBox("Record with a camera")
        self.switch.setObjectName("vqldm-camera-on")
        self.switch.toggled.connect(self._on_switch)
        self.reason = HelpLabel(parent=self)
        self.reason.setObjectName("vqldm-camera-reason")
        self.of = HelpLabel(parent=self)
        self.of.setObjectName("vqldm-camera-of")
        self.sliders: dict[str, SliderRow] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.switch)
        column.addWidget(self.reason)
        column.addWidget(self.of)
        for name in CAMERA_FIELDS:
            knob = knob_of(self.state, name)
            slider = SliderRow(
                f"vqldm-{name.replace('_', '-')}",
                knob.label,
                knob.min or 0.0,
                knob.max or 1.0,
                unit=knob.unit,
                tooltip=knob.tooltip,
                decimals=DECIMALS[name],
                parent=self,
            )
            slider.show_value(getattr(self.state, name))
            slider.value_changed.connect(lambda value, n=name: setattr(self.state, n, value))
            self.sliders[name] = slider
            column.addWidget(slider)
        self.copy = CopyButton(
            lambda: desk.python_of(self._recording()),
            lambda: desk.command_of(self._recording()),
            text="Copy recording",
        )
        self.copy.setToolTip("Copy what computes the recording again, bit for bit, outside napari")
        self.copy.setObjectName("vqldm-camera-copy")
        self.copy.failed.connect(desk.show_error)
        column.addWidget(self.copy)
        self.state.events.connect(self._on_state)
        self.live.target_changed.connect(self.show_state)
        layers = bare(desk.viewer).layers
        self._layer_events = (layers.selection.events.active, layers.events.removed)
        for event in self._layer_events:
            event.connect(self._show_copy)
        self.show_state()

    def show_state(self) -> None:
        """Enable what can be used, and say why the rest cannot."""
        target = self.live.target
        reason = self.state.why_not(self.desk.model.header, has_sample=target is not None)
        self.reason.setText(reason)
        self.of.setText(f"Records: {target.name}" if target is not None and self.state.is_on else "")
        self.switch.setEnabled(not reason)
        self.switch.setToolTip(
            reason or "Add what a camera would record of the noise-free volume; it follows the sliders"
        )
        for slider in self.sliders.values():
            slider.setVisible(self.state.is_on)
            slider.setEnabled(not reason)
        self._show_copy()

    def close_box(self) -> None:
        """Let go of viewer and state."""
        self.live.target_changed.disconnect(self.show_state)
        for event in self._layer_events:
            try:
                event.disconnect(self._show_copy)
            except (ValueError, RuntimeError):
                pass  # the viewer is gone
        self.live.close()
        self.state.events.disconnect(self._on_state)

    def _show_copy(self, *_: object) -> None:
        """Offer to copy the recording unless its layer is selected: then the buttons below all tabs copy it."""
        layer = self.live.layer
        try:
            selected = bare(self.desk.viewer).layers.selection.active
        except VqldmError:  # the viewer is gone
            return
        self.copy.setVisible(self.state.is_on and layer is not None and layer is not selected)

    def _recording(self) -> Layer:
        layer = self.live.layer
        if layer is None:
            raise VqldmError("expected a recording, got none yet: switch the camera on and wait a moment")
        return layer

    def _on_switch(self, is_on: bool) -> None:
        self.state.is_on = is_on

    def _on_state(self, *_: object) -> None:
        if self.switch.isChecked() != self.state.is_on:
            self.switch.setChecked(self.state.is_on)
        for name, slider in self.sliders.items():
            if slider.value != getattr(self.state, name):
                slider.show_value(getattr(self.state, name))
        self.show_state()
