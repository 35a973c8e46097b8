"""The Measure tab: filaments of layers as a table, a plot and centre lines; two groups of layers compared."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMessageBox, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers import LayerSource, describe
from napari_vqldm.plugin.tabs.measure.filament_table import FilamentTable
from napari_vqldm.plugin.tabs.measure.histogram import Histogram
from napari_vqldm.plugin.tabs.measure.lines_layer import LinesLayer
from napari_vqldm.plugin.tabs.measure.tables import Tables
from napari_vqldm.plugin.tabs.measure.text import measure_command, measure_script
from napari_vqldm.plugin.tabs.measure.volumes_box import Result, VolumesBox
from napari_vqldm.plugin.tabs.measure.work import Measured, measure_work, memory_line
from napari_vqldm.plugin.widgets import HelpLabel, LayerPicker
from napari_vqldm.plugin.widgets.copy_button import CopyButton

NO_LAYER = "Open or generate a volume first."
NO_SIZE = "{!r} states no voxel size: give the layer its scale and units, or enter the size on the tab Reconstruct."


class MeasureTab(QWidget):
    """Trace the filaments of layers and show their numbers.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    """

    title = "Measure"

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-measure")
        self.desk = desk
        self._job: Any = None
        self._shown: Result | None = None
        self._is_closed = False
        self._build()
        self._show_state()

    # --- for the dock -------------------------------------------------------------------------------------------------

    def measure(self, layer: Any = None) -> None:
        """Measure a layer, by default the chosen one; one that cannot be measured is explained in the panel."""
        if layer is not None:
            if reason := why_not(layer):
                self.desk.show_error(VqldmError(reason))
                return
            self.picker.choose(layer)
        self._show_state()
        chosen = self.picker.layer
        if chosen is not None and self.button.isEnabled():
            self._run([chosen])

    def measure_all(self) -> None:
        """Measure every layer that can be measured."""
        if self._job is None:
            self._run([layer for layer in bare(self.desk.viewer).layers if not why_not(layer)])

    def save(self, folder: str | Path, *, force: bool = False) -> None:
        """Write tables, remarks and the centre lines (SWC) of all results into a folder.

        Parameters
        ----------
        folder : path
            It must be there.
        force : bool
            Replace files of these names.

        Raises
        ------
        FileError
            If a file exists already, then nothing is written; or if one cannot be written.
        """
        self._write(self._tables(folder), force=force)

    def close_tab(self) -> None:
        """Let go of viewer and layers; safe to call twice."""
        if not self._is_closed:
            self._is_closed = True
            self.picker.disconnect_viewer()
            self.volumes_box.results.clear()
            self._shown = None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.picker = LayerPicker(self.desk.viewer)
        self.picker.setObjectName("vqldm-measure-layer")
        self.picker.layer_changed.connect(self._show_state)
        listed = self.picker.model()
        if listed is not None:  # layers that cannot be chosen, too, change what is said
            listed.rowsInserted.connect(self._show_state)
        self.button = _button("Measure", "vqldm-measure-start", "")
        self.button.clicked.connect(lambda _checked=False: self.measure())
        self.all_button = _button("Measure all", "vqldm-measure-all", "Measure every layer that holds a volume")
        self.all_button.clicked.connect(lambda _checked=False: self.measure_all())
        self.reason = HelpLabel(parent=self)
        self.reason.setObjectName("vqldm-measure-reason")
        self.memory = HelpLabel(parent=self)
        self.memory.setObjectName("vqldm-measure-memory")
        self.remarks = HelpLabel(parent=self)
        self.remarks.setObjectName("vqldm-measure-remarks")
        self.volumes_box = VolumesBox()
        self.volumes_box.chosen.connect(self._show_result)
        self.table = FilamentTable()
        self.table.chosen.connect(self._show_filament)
        self.histogram = Histogram()
        self.volumes_box.compared_anew.connect(self._show_groups)
        self.save_button = _button(
            "Save tables...",
            "vqldm-measure-save",
            "Write all filaments, volumes and the comparison as CSV, and the centre lines as SWC",
        )
        self.save_button.clicked.connect(lambda _checked=False: self._ask_and_save())
        self.copy_button = CopyButton(
            lambda: measure_script(self.volumes_box.results), lambda: measure_command(self.volumes_box.results)
        )
        self.copy_button.setObjectName("vqldm-measure-copy")
        self.copy_button.setToolTip("Copy what measures the files of these layers outside napari")
        self.copy_button.failed.connect(self.desk.show_error)
        buttons = QHBoxLayout()
        for button in (self.button, self.all_button):
            buttons.addWidget(button)
        ends = QHBoxLayout()
        for button in (self.save_button, self.copy_button):
            ends.addWidget(button)
        column = QVBoxLayout(self)
        column.addWidget(self.picker)
        column.addWidget(self.reason)
        column.addLayout(buttons)
        for widget in (self.memory, self.volumes_box, self.remarks, self.table, self.histogram):
            column.addWidget(widget)
        column.addLayout(ends)
        column.addStretch(1)

    def _run(self, layers: list[Any]) -> None:
        """Measure layers in one job; each result appears when it is there."""
        sources = self.desk.guarded(lambda: [self.desk.snapshot_shown(layer) for layer in layers])
        if not sources:
            return
        origins = [
            (weakref.ref(bare(layer)), source.time, source.channel)
            for layer, source in zip(layers, sources, strict=True)
        ]
        title = f"Measure {sources[0].name}" if len(sources) == 1 else f"Measure {len(sources)} layers"

        def show(step: object) -> None:
            if isinstance(step, Measured):
                self._add(step, sources[step.number], origins[step.number])

        def done(failed: list[str]) -> None:
            self._ended()
            if failed:
                self.desk.show_error(VqldmError("; ".join(failed)))

        def stopped(_failure: object = None) -> None:
            self._ended()

        self._job = self.desk.run(
            title, measure_work(sources), on_step=show, on_done=done, on_cancelled=stopped, on_failure=stopped
        )
        self._show_state()

    def _add(self, step: Measured, source: LayerSource, origin: object) -> None:
        """Show a measured layer."""
        lines = None
        if step.found.lines:
            lines = LinesLayer(self.desk.viewer, step, source)
            self.desk.added(f"Measure {source.name}", [lines.layer])
        self.volumes_box.add(Result(step.found, lines, file=step.file, origin=origin))

    def _show_result(self, index: int) -> None:
        results = self.volumes_box.results
        if self._shown is not None and self._shown.lines is not None:
            self._shown.lines.choose(None)
        self._shown = results[index] if 0 <= index < len(results) else None
        found = None if self._shown is None else self._shown.found
        self.table.show_measurement(found)
        self.histogram.show_measurement(found)
        self.remarks.setText("" if found is None else "\n".join(found.notes))
        self._show_state()

    def _show_groups(self) -> None:
        self.histogram.show_groups(self.volumes_box.members("A"), self.volumes_box.members("B"))

    def _show_filament(self, filament: int) -> None:
        lines = None if self._shown is None else self._shown.lines
        if lines is not None and not lines.choose(filament):
            self.desk.noticed.emit("The layer of these centre lines is gone: measure the volume again to see them.")

    def _write(self, tables: Tables, *, force: bool) -> None:
        tables.write(force=force)
        self.desk.noticed.emit(f"The tables of {len(tables.found)} measured volumes are in {tables.folder}.")

    def _tables(self, folder: str | Path) -> Tables:
        found = [result.found for result in self.volumes_box.results]
        return Tables(Path(folder), found, self.volumes_box.comparison)

    def _ask_and_save(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the tables")
        if not folder:
            return
        tables = self._tables(folder)  # as they are now: while a question is open, more may be measured
        existing = self.desk.guarded(tables.existing)
        if existing is None:
            return
        if existing:
            names = ", ".join(path.name for path in existing[:3]) + (", …" if len(existing) > 3 else "")
            question = f"{folder} holds {names} already. Replace {'it' if len(existing) == 1 else 'them'}?"
            if QMessageBox.question(self, "Replace tables", question) != QMessageBox.StandardButton.Yes:
                return
        self.desk.guarded(lambda: self._write(tables, force=bool(existing)))

    def _ended(self) -> None:
        self._job = None
        self._show_state()

    def _show_state(self, *_: object) -> None:
        if self._is_closed:
            return
        layer, is_running = self.picker.layer, self._job is not None
        reason = why_not(layer) if layer is not None else why_none(self.desk.viewer)
        self.reason.setText(reason)
        self.memory.setText("" if reason else _memory_of(layer))
        self.button.setEnabled(not reason and not is_running)
        self.button.setToolTip(reason or "Trace the filaments of this layer, at the time point and channel in view")
        self.all_button.setEnabled(layer is not None and not is_running)
        has_results = bool(self.volumes_box.results)
        for widget in (self.table, self.histogram, self.save_button, self.copy_button):
            widget.setVisible(has_results)


def why_none(viewer: Any) -> str:
    """Say why no layer of a viewer can be chosen: of the topmost one that cannot, what is wrong with it."""
    unusable = [info for layer in bare(viewer).layers if not (info := describe(layer)).is_usable]
    return f"{unusable[-1].reason[:1].upper()}{unusable[-1].reason[1:]}." if unusable else NO_LAYER


def why_not(layer: Any) -> str:
    """Say why a layer cannot be measured; empty when it can."""
    if layer is None:
        return NO_LAYER
    info = describe(layer)
    if not info.is_usable:
        return info.reason
    return "" if info.voxel_size_um is not None else NO_SIZE.format(info.name)


def _memory_of(layer: Any) -> str:
    """Say what measuring one volume of a layer takes."""
    info = describe(layer)
    z, y, x = (info.shape[axis] for axis in info.spatial_axes)
    return memory_line((z, y, x))


def _button(text: str, name: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(name)
    button.setToolTip(tip)
    return button
