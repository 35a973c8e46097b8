"""The camera of the Sample tab: records a noise-free layer whenever a slider moves, and shows the last recording."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.jobs import Priority
from napari_vqldm.plugin.layers import LayerSource, add_volume, describe, placement, provenance_of, set_volume, snapshot
from napari_vqldm.plugin.state.camera import CameraState, is_noise_free
from napari_vqldm.plugin.tabs.sample.work import Recorded, record_work

if TYPE_CHECKING:
    from napari.layers import Layer

KEY = "camera"  # of its jobs: the latest wins
SUFFIX = " (camera)"


class CameraLive(QObject):
    """Keeps one layer "... (camera)" equal to what the camera makes of the chosen noise-free layer.

    The chosen layer is the selected one, else the last sample. The sample itself never changes.

    Parameters
    ----------
    desk : Desk
        Viewer, jobs and undo.
    state : CameraState
        The camera.
    parent : QObject, optional
        Qt owner.
    """

    target_changed = Signal()

    def __init__(self, desk: Desk, state: CameraState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.desk, self.state = desk, state
        self._target: weakref.ref[Any] | None = None
        self._layer: weakref.ref[Any] | None = None
        self._shown_of: weakref.ref[Any] | None = None  # sample that the camera layer shows
        self._limits: tuple[float, float] | None = None
        self._is_closed = False
        layers = bare(desk.viewer).layers
        self._events = (layers.selection.events.active, layers.events.inserted, layers.events.removed)
        for event in self._events:
            event.connect(self._on_layers)
        state.events.connect(self._on_state)
        self._on_layers()

    @property
    def target(self) -> Any:
        """The noise-free layer that is recorded."""
        return self._present(self._target)

    @property
    def layer(self) -> Any:
        """The recording, while it is in the viewer."""
        return self._present(self._layer)

    def choose(self, layer: Layer) -> None:
        """Record this layer from now on: a new sample."""
        layer = bare(layer)
        if layer is not self.target and can_be_recorded(layer):
            self._set_target(layer)

    def record(self) -> None:
        """Record the chosen layer with the present camera."""
        target = self.target
        if self._is_closed or target is None or not self.state.is_on:
            return
        source = self.desk.guarded(lambda: snapshot(target))
        if source is None:
            return
        sample = weakref.ref(target)
        self.desk.run(
            f"Record {target.name} with a camera",
            record_work(source, self.state.to_camera()),
            on_done=lambda recorded: self._show(recorded, sample, source),
            priority=Priority.INTERACTIVE,
            key=KEY,
            show_progress=False,
        )

    def close(self) -> None:
        """Let go of viewer, layers and state; the recording stays."""
        self._is_closed = True
        for event in self._events:
            try:
                event.disconnect(self._on_layers)
            except (ValueError, RuntimeError):
                pass  # the viewer is gone
        self.state.events.disconnect(self._on_state)

    def _show(self, recorded: Recorded, sample: weakref.ref[Any], source: LayerSource) -> None:
        """Show a recording, unless its sample is gone or another one was chosen in between."""
        target = self._present(sample)
        if self._is_closed or target is None or target is not self.target or not self.state.is_on:
            return
        layer, volume = self.layer, recorded.volume
        if layer is not None and tuple(layer.data.shape) != volume.shape:
            bare(self.desk.viewer).layers.remove(layer)
            layer = None
        if layer is None:
            layer = add_volume(self.desk.viewer, volume, name=target.name + SUFFIX, like=source, limits=recorded.limits)
            self._layer = weakref.ref(layer)
            self.desk.added("Record with a camera", [layer])
        else:
            follows = self._limits is None or np.allclose(layer.contrast_limits, self._limits)
            is_new = self._shown_of is None or self._shown_of() is not target
            set_volume(layer, volume, name=target.name + SUFFIX if is_new else None)
            if is_new:
                for name, value in placement(volume, source).items():
                    setattr(layer, name, value)
            if follows:  # another brightness needs other limits, unless the user has chosen his own
                layer.contrast_limits = recorded.limits
            else:
                self._shown_of = sample
                return
        self._shown_of, self._limits = sample, recorded.limits

    def _on_state(self, *_: object) -> None:
        self.record()

    def _on_layers(self, *_: object) -> None:
        """Follow the selection; fall back to the newest noise-free layer when the chosen one is deleted."""
        viewer = self._viewer()
        if self._is_closed or viewer is None:
            return
        active = viewer.layers.selection.active
        if active is not None and can_be_recorded(active):
            self._set_target(active)
        elif self.target is None:
            self._set_target(next((layer for layer in reversed(viewer.layers) if can_be_recorded(layer)), None))

    def _set_target(self, layer: Layer | None) -> None:
        before = self._target() if self._target is not None else None
        self._target = None if layer is None else weakref.ref(layer)
        if layer is not before or layer is None:
            self.target_changed.emit()
            self.record()

    def _present(self, reference: weakref.ref[Any] | None) -> Any:
        layer, viewer = reference() if reference is not None else None, self._viewer()
        if layer is None or viewer is None:
            return None
        return layer if any(layer is other for other in viewer.layers) else None

    def _viewer(self) -> Any:
        try:
            return bare(self.desk.viewer)
        except VqldmError:
            return None


def can_be_recorded(layer: Layer) -> bool:
    """Tell whether a layer is a generated, noise-free volume."""
    return is_noise_free(provenance_of(layer)) and describe(layer).is_usable
