"""Tools for the selected layer: copy its script, reproduce it, save it; and undo, and free memory."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.engine import Engine
from napari_vqldm.plugin.layers import LayerSource, describe, provenance_of, snapshot
from napari_vqldm.plugin.widgets import CopyButton
from napari_vqldm.recipe import FileInput, read_recipe, walk
from napari_vqldm.volume import Volume, hash_voxels

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
        self.free_button = _button("Free memory", "Drop the loaded model and decoded frames", desk.free_memory)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.selected)
        column.addLayout(_row(self.copy, self.reproduce_button, self.save_button))
        column.addLayout(_row(self.undo_button, self.free_button))
        desk.undo.changed.connect(self._on_undo_changed)
        self._on_undo_changed()
        self._watched: weakref.ref[Layer] | None = None
        desk.viewer.layers.selection.events.active.connect(self._on_active)
        self._on_active()

    def close_tools(self) -> None:
        """Let go of the viewer."""
        self._watch(None)
        try:
            self.desk.viewer.layers.selection.events.active.disconnect(self._on_active)
        except (VqldmError, ValueError, RuntimeError):
            pass  # the viewer is gone
        self.desk.undo.changed.disconnect(self._on_undo_changed)

    def reproduce(self, layer: Layer) -> None:
        """Compute a layer of ours again and say in one line whether the bits are the same."""
        found = self.desk.guarded(lambda: (self.desk.record_of(layer), self.desk.snapshot_shown(layer)))
        if found is None:
            return
        record, source = found
        models, asked = [Path(path) for path in self.desk.models().values()], needed_inputs(record)
        files = {sha: file for sha, file in self.desk.inputs.items() if sha in asked}
        others = self._other_sources(layer) if asked else []

        def work(_engine: Engine) -> Generator[object, None, Any]:
            from napari_vqldm.reproduce import reproduce_steps

            inputs = list(find_inputs(asked, files, others))
            result = None
            for step in reproduce_steps(source.read(), models=models, inputs=inputs):
                result = step.result if step.result is not None else result
                yield step
            return result

        self.desk.run(f"Reproduce {layer.name}", work, on_done=self._show_reproduction)

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
        """Write a layer with its voxel size and record; the dialog has asked before overwriting."""
        source = self.desk.guarded(lambda: self.desk.snapshot_shown(layer))
        if source is None:
            return

        def work(_engine: Engine) -> Generator[object, None, tuple[Path, str]]:
            from napari_vqldm.files import write_volume

            yield from ()
            volume = source.read()
            return write_volume(path, volume, force=True), hash_voxels(volume)

        def saved(result: tuple[Path, str]) -> None:
            target, sha = result
            self.desk.remember_input(sha, FileInput(str(target)))  # what was computed from it can be copied now
            part = f" (frame {source.time} of the series alone)" if source.time is not None else ""
            self.desk.noticed.emit(f"Saved {target}{part}")

        self.desk.run(
            f"Save {layer.name}",
            work,
            on_done=saved,
            show_progress=False,
        )

    def _on_active(self, *_: object) -> None:
        layer = bare(self.desk.viewer).layers.selection.active
        self._watch(layer)
        self._show_name()
        self._show_record()

    def _watch(self, layer: Layer | None) -> None:
        """Follow the name and the record of the selected layer: a preview gets its record when the volume is done."""
        before = self._watched() if self._watched is not None else None
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


def needed_inputs(record: Mapping[str, Any]) -> set[str]:
    """Return the fingerprints of all volumes that went into a layer."""
    return {taken.sha256 for node in walk(read_recipe(record)) for taken in node.inputs if taken.sha256}


def find_inputs(asked: set[str], files: Mapping[str, FileInput], sources: Sequence[LayerSource]) -> Iterator[Volume]:
    """Read the inputs that lie in files, then look among layers for those that are left; on the inference thread."""
    from napari_vqldm.crop import crop
    from napari_vqldm.files import read_volume

    missing = set(asked)
    for sha, file in files.items():
        with suppress(VqldmError):  # gone or changed meanwhile: a layer may still hold it
            volume = read_volume(file.path, channel=file.channel, time=file.time, voxel_size_um=file.voxel_size_um)
            volume = volume if file.box is None else crop(volume, file.box)
            if hash_voxels(volume) == sha:
                missing.discard(sha)
                yield volume
    for source in sources:
        if not missing:
            return
        with suppress(VqldmError):  # a layer that cannot be read is no input
            volume = source.read()
            sha = hash_voxels(volume)
            if sha in missing:
                missing.discard(sha)
                yield volume
