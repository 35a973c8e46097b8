"""What leaves the Interpolate tab: a 4D layer, files, scripts."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers.lazy_frames import LazyFrames
from napari_vqldm.plugin.state.interpolate import InterpolateState, even_ts, rounded_t
from napari_vqldm.plugin.tabs.interpolate.export import export_ask, export_files, export_layer, export_ts, stem_of
from napari_vqldm.plugin.tabs.interpolate.text import frames_command, frames_script, seeds_record
from napari_vqldm.plugin.tabs.interpolate.way_layer import WayLayer
from napari_vqldm.plugin.tabs.interpolate.ways import LiveWay, SampledWay
from napari_vqldm.plugin.widgets import CopyButton
from napari_vqldm.plugin.widgets.estimate_box import EstimateBox
from napari_vqldm.plugin.widgets.forms import make_form
from napari_vqldm.recipe import command_line, python_script

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.estimating import Ask, TooLarge

_LAYER_TIP = "Add all frames as one layer with a slider; they are decoded when they are looked at"
_FILES_TIP = "Write one OME-TIFF per frame into a new folder"


class OutputBox(QWidget):
    """Buttons for what a way becomes.

    Parameters
    ----------
    desk : Desk
        Viewer, model, inference thread.
    state : InterpolateState
        Ends and number of frames.
    parent : QWidget, optional
        Of the box.
    """

    def __init__(self, desk: Desk, state: InterpolateState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.desk, self.state = desk, state
        self.way: LiveWay | SampledWay | None = None
        self.view: WayLayer | None = None
        self._lazy: weakref.WeakSet[LazyFrames] = weakref.WeakSet()
        self.copy_frame = self._copy_button("frame", self._frame_python, self._frame_command)
        self.copy_frame.setToolTip("Copy what computes the frame that is shown, bit for bit, outside napari")
        self.form = make_form(state, ["export_frames"])
        self.layer_button = _button("As 4D layer", "interpolate-layer", self.add_layer)
        self.files_button = _button("To files…", "interpolate-files", self._choose_folder)
        self.copy_export = self._copy_button("export", self._export_python, self._export_command)
        self.copy_export.setToolTip("Copy what computes all exported frames, bit for bit, outside napari")
        row = QHBoxLayout()
        for widget in (self.layer_button, self.files_button, self.copy_export):
            row.addWidget(widget)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.copy_frame)
        column.addWidget(self.form)
        column.addLayout(row)
        self.estimate = EstimateBox(self.desk, "export", self._ask, prefix="To files")
        column.addWidget(self.estimate)
        state.events.export_frames.connect(self._on_frames)

    def set_way(self, way: LiveWay | SampledWay | None, view: WayLayer | None) -> None:
        """Take the way that is shown, or None."""
        self.way, self.view = way, view
        self.estimate.refresh()

    def show_ready(self, reason: str) -> None:
        """Enable what can be done; the reason why not replaces the help."""
        is_ready = self.way is not None and bool(self.way.ts)
        for button, tip in ((self.layer_button, _LAYER_TIP), (self.files_button, _FILES_TIP)):
            button.setEnabled(is_ready)
            button.setToolTip(tip if is_ready else reason)
        self.form.setVisible(self.state.mode != "seeds")

    def add_layer(self, *, is_forced: bool = False) -> None:
        """Add all frames as one 4D layer; when they do not fit in the free memory, only if it is forced."""
        if self.way is None or self.view is None:
            return
        self.estimate.clear_refusal()
        way, like, num = self.way, self.view.like, self.state.export_frames
        name = f"{self.view.name} ({len(export_ts(way, num))} frames)"

        def refuse(refusal: TooLarge) -> None:
            self.estimate.refuse(refusal, lambda: self.add_layer(is_forced=True))

        self.desk.guarded(
            lambda: export_layer(self.desk, way, num, name, like, self._on_exported, refuse, is_forced=is_forced)
        )

    def write_to(self, parent: Path, *, is_forced: bool = False) -> None:
        """Write all frames into a new folder in ``parent``; when that takes too much memory, only if it is forced."""
        if self.way is None:
            return
        self.estimate.clear_refusal()
        way, num, stem = self.way, self.state.export_frames, self._stem()

        def refuse(refusal: TooLarge) -> None:
            self.estimate.refuse(refusal, lambda: self.write_to(parent, is_forced=True))

        def tell(folder: Path) -> None:
            self.desk.noticed.emit(f"Saved {folder}")

        self.desk.guarded(lambda: export_files(self.desk, way, num, stem, parent, tell, refuse, is_forced=is_forced))

    def close_box(self) -> None:
        """Stop decoding frames of 4D layers; those that are decoded stay."""
        self.state.events.export_frames.disconnect(self._on_frames)
        self.estimate.close_box()
        for lazy in list(self._lazy):
            lazy.close()
        self.form.disconnect_state()

    def _on_exported(self, _layer: object, lazy: LazyFrames | None) -> None:
        if lazy is not None:
            self._lazy.add(lazy)

    def _ask(self) -> Ask | None:
        return export_ask(self.way, self.state.export_frames)

    def _on_frames(self, *_: object) -> None:
        self.estimate.refresh()

    def _choose_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for the frames")
        if name:
            self.write_to(Path(name))

    def _copy_button(self, name: str, python: Any, command: Any) -> CopyButton:
        button = CopyButton(python, command, text=f"Copy {name}")
        button.setObjectName(f"vqldm-interpolate-copy-{name}")
        button.failed.connect(self.desk.show_error)
        return button

    def _stem(self) -> str:
        return stem_of(self.state.a.label, self.state.b.label)

    def _record(self) -> dict[str, Any]:
        """Record of the frame that is shown, of its full frame for a preview, or of the request before anything ran."""
        frame = self.view.frame if self.view is not None else None
        if frame is not None and frame.quality == "full":
            return dict(frame.volume.provenance)
        if isinstance(self.way, LiveWay):
            return self.way.record_at(self.state.t if frame is None else frame.t)
        header = self.desk.model.header
        if self.state.mode != "seeds" or header is None:
            raise VqldmError("the ends are not encoded yet, and a script names them by their voxels: encode them first")
        return seeds_record(header, self.state.to_request(header), self.desk.model.precision)

    def _frame_python(self) -> str:
        return python_script(self._record(), files=self.desk.inputs, models=self.desk.models())

    def _frame_command(self) -> str:
        return command_line(self._record(), files=self.desk.inputs, models=self.desk.models())

    def _num_frames(self) -> int:
        return self.state.num_frames if self.state.mode == "seeds" else self.state.export_frames

    def _export_python(self) -> str:
        ts = [rounded_t(t) for t in even_ts(self._num_frames())]
        if self.state.mode == "seeds":
            ts = even_ts(self._num_frames())
        return frames_script(self._record(), ts, self._stem(), self.desk.inputs, self.desk.models())

    def _export_command(self) -> str:
        return frames_command(self._record(), self._num_frames(), self._stem(), self.desk.inputs, self.desk.models())


def _button(text: str, name: str, action: Any) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(f"vqldm-{name}")
    button.clicked.connect(lambda _checked=False: action())
    return button
