"""Tools for the selected layer: copy its script, reproduce it, save it; and undo, and free memory."""

from __future__ import annotations

import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.estimating import TooLarge
from napari_vqldm.plugin.layers import LayerSource, describe, provenance_of, snapshot
from napari_vqldm.plugin.reproducing import needed_inputs, reproduce_work
from napari_vqldm.plugin.widgets import CopyButton
from napari_vqldm.plugin.widgets.estimate_box import EstimateBox
from napari_vqldm.plugin.writers import Saved, frames_of, is_our_series, save_work, series_axis
from napari_vqldm.recipe import FileInput

if TYPE_CHECKING:
    from napari.layers import Layer

SUFFIXES = "OME-TIFF (*.ome.tif);;OME-Zarr (*.zarr)"


class LayerTools(QWidget):
    """One row of buttons that act on the selected layer, one that act on the dock."""

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.desk = desk
        self.selected = QLabel("Selected layer: none")
        self.selected.setWordWrap(True)
        self.copy = CopyButton(lambda: desk.python_of(self._layer()), lambda: desk.command_of(self._layer()))
        self.copy.failed.connect(desk.show_error)
        self.reproduce_button = _button("Reproduce", "Compute this layer again and compare every bit", self._reproduce)
        self.save_button = _button("Save…", "Write this layer with its voxel size and its record", self._save)
        self.undo_button = _button("Undo", "Take back the layers that were added last", desk.undo.undo)
        self.redo_button = _button("Redo", "Add the layers again that were taken back last", desk.undo.redo)
        self.free_button = _button("Free memory", "Drop the loaded model and decoded frames", desk.free_memory)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.selected)
        column.addLayout(_row(self.copy, self.reproduce_button, self.save_button))
        self.estimate = EstimateBox(desk, "reproduce", lambda: None, prefix="Reproduce")  # shows refusals alone
        column.addWidget(self.estimate)
        column.addLayout(_row(self.undo_button, self.redo_button, self.free_button))
        desk.undo.changed.connect(self._on_undo_changed)
        self._on_undo_changed()
        self._watched: weakref.ref[Layer] | None = None
        desk.viewer.layers.selection.events.active.connect(self._on_active)
        self._on_active()

    def close_tools(self) -> None:
        """Let go of the viewer."""
        self.estimate.close_box()
        self._watch(None)
        try:
            self.desk.viewer.layers.selection.events.active.disconnect(self._on_active)
        except (VqldmError, ValueError, RuntimeError):
            pass  # the viewer is gone
        self.desk.undo.changed.disconnect(self._on_undo_changed)

    def reproduce(self, layer: Layer, *, is_forced: bool = False) -> None:
        """Compute a layer of ours again and say in one line whether the bits are the same.

        Nothing runs that does not fit in the free memory, unless it is forced.
        """

        def look() -> tuple[set[str], LayerSource]:
            return needed_inputs(self.desk.record_of(layer)), self.desk.snapshot_shown(layer)

        found = self.desk.guarded(look)
        if found is None:
            return
        asked, source = found
        work = reproduce_work(
            source,
            models=[Path(path) for path in self.desk.models().values()],
            asked=asked,
            files={sha: file for sha, file in self.desk.inputs.items() if sha in asked},
            others=self._other_sources(layer) if asked else [],
            is_forced=is_forced,
        )
        self.estimate.clear_refusal()
        reference = weakref.ref(layer)

        def done(result: Any) -> None:
            if isinstance(result, TooLarge):
                self.estimate.prefix = f"Reproduce {source.name}"  # another layer may be selected by now
                self.estimate.refuse(result, lambda: self._reproduce_anyway(reference))
            else:
                self._show_reproduction(result)

        self.desk.run(f"Reproduce {layer.name}", work, on_done=done)

    def _reproduce_anyway(self, reference: weakref.ref[Layer]) -> None:
        layer = reference()
        if any(layer is present for present in bare(self.desk.viewer).layers):  # else it was deleted meanwhile
            self.reproduce(layer, is_forced=True)

    def _show_reproduction(self, result: Any) -> None:
        details = [difference.message for difference in result.differences]
        self.desk.noticed.emit("\n".join([f"Reproduce: {result.verdict}", *details]))

    def _other_sources(self, layer: Layer) -> list[LayerSource]:
        """Layers that may be an input: all that can be read as one volume."""
        sources = []
        for other in self.desk.viewer.layers:
            info = describe(other)
            if other is not layer and info.is_usable and info.num_times == info.num_channels == 1:
                with suppress(VqldmError):
                    sources.append(snapshot(other))
        return sources

    def _layer(self) -> Layer:
        layer = self.desk.viewer.layers.selection.active
        if layer is None:
            raise VqldmError("expected a selected layer, got none: click one layer in the list")
        return layer

    def _reproduce(self) -> None:
        layer = self.desk.guarded(self._layer)
        if layer is not None:
            self.reproduce(layer)

    def _save(self) -> None:
        layer = self.desk.guarded(self._layer)
        if layer is None:
            return
        name, _ = QFileDialog.getSaveFileName(self, "Save layer", f"{layer.name}.ome.tif", SUFFIXES)
        if name:
            self.save(layer, Path(name))

    def save(self, layer: Layer, path: Path) -> None:
        """Write a layer with its voxel size and record; the dialog has asked before overwriting.

        A series that the dock made is written with all its frames, of any other series the frame in view.
        """
        info = describe(layer)
        if is_our_series(layer, info):
            found = self.desk.guarded(lambda: frames_of(layer, info))
        else:
            found = self.desk.guarded(lambda: [self.desk.snapshot_shown(layer)])
        if found is None:
            return
        sources: list[LayerSource] = found

        def saved(result: Saved) -> None:
            count = len(result.fingerprints)
            for time, sha in enumerate(result.fingerprints):  # what was computed from it can be copied now
                self.desk.remember_input(sha, FileInput(str(result.path), time=time if count > 1 else None))
            part = f" ({count} frames)" if count > 1 else ""
            if count == 1 and sources[0].time is not None:
                part = f" (frame {sources[0].time} of the series alone)"
            self.desk.noticed.emit(f"Saved {result.path}{part}")

        work = save_work(path, sources, series_axis(layer, info))
        self.desk.run(f"Save {layer.name}", work, on_done=saved, show_progress=len(sources) > 1)

    def _on_active(self, *_: object) -> None:
        layer = bare(self.desk.viewer).layers.selection.active
        self._watch(layer)
        self._show_name()
        self._show_record()

    def _watch(self, layer: Layer | None) -> None:
        """Follow the name and the record of the selected layer: a preview gets its record when the volume is done."""
        before = self._watched() if self._watched is not None else None
        if before is not layer:
            self.estimate.clear_refusal()  # which would stand below the name of another layer
        if before is not None:
            before.events.name.disconnect(self._show_name)
            before.events.metadata.disconnect(self._show_record)
        self._watched = None if layer is None else weakref.ref(layer)
        if layer is not None:
            layer.events.name.connect(self._show_name)
            layer.events.metadata.connect(self._show_record)

    def _show_record(self, *_: object) -> None:
        """Offer what can be done with the selected layer."""
        layer = self._watched() if self._watched is not None else None
        is_ours = layer is not None and provenance_of(layer) is not None
        for button in (self.copy, self.reproduce_button):
            button.setEnabled(is_ours)
        self.save_button.setEnabled(layer is not None)

    def _show_name(self, *_: object) -> None:
        layer = self._watched() if self._watched is not None else None
        self.selected.setText(f"Selected layer: {layer.name if layer is not None else 'none'}")

    def _on_undo_changed(self, *_: object) -> None:
        undo = self.desk.undo
        self.undo_button.setEnabled(undo.can_undo)
        self.undo_button.setToolTip(f"Take back: {undo.title}" if undo.can_undo else "Nothing to take back")
        self.redo_button.setEnabled(undo.can_redo)
        self.redo_button.setToolTip(f"Add again: {undo.redo_title}" if undo.can_redo else "Nothing was taken back")


def _button(text: str, tip: str, action: Any) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(f"vqldm-{text.lower().rstrip('…').replace(' ', '-')}")
    button.setToolTip(tip)
    button.clicked.connect(lambda _checked=False: action())
    return button


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
