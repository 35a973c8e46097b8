"""What is counted: one layer, all layers, or the files of a folder."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any, Literal

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.tabs.measure.tab import why_none, why_not
from napari_vqldm.plugin.widgets import HelpLabel, LayerPicker

What = Literal["layer", "all", "folder"]

NO_MODEL = "No model is open: choose one on the Model tab."
NO_FOLDER = "Choose a folder of volumes."
RUNNING = "A count is running: wait for it, or cancel it below."
_CHOICES: dict[What, str] = {"layer": "This layer", "all": "All layers", "folder": "Folder"}
_TIPS: dict[What, str] = {
    "layer": "Find the codes of this layer; of a series, those of the time point in view",
    "all": "Find the codes of every layer that holds a volume, one after the other",
    "folder": "Count over all volumes of this folder, one in memory at a time",
}


class SourceBox(QWidget):
    """Choose what is counted, and start it.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers.
    """

    asked = Signal()  # the user wants the count
    changed = Signal()  # something else is chosen

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-codebook-source")
        self._viewer = weakref.ref(bare(viewer))
        self.choice = QComboBox()
        self.choice.setObjectName("vqldm-codebook-source-what")
        self.choice.setAccessibleName("What to count")
        self.choice.setToolTip("Count over one layer, over all layers, or over the volumes of a folder")
        for key, text in _CHOICES.items():
            self.choice.addItem(text, key)
        self.choice.currentIndexChanged.connect(lambda _index: self._on_choice())
        self.button = QPushButton("Count")
        self.button.setObjectName("vqldm-codebook-count")
        self.button.clicked.connect(lambda _checked=False: self.asked.emit())
        self.picker = LayerPicker(viewer)
        self.picker.setObjectName("vqldm-codebook-layer")
        self.picker.layer_changed.connect(lambda _layer: self.changed.emit())
        listed = self.picker.model()
        if listed is not None:  # layers that cannot be chosen, too, change what is said
            listed.rowsInserted.connect(lambda *_: self.changed.emit())
        self.folder_line = QLineEdit()
        self.folder_line.setObjectName("vqldm-codebook-folder")
        self.folder_line.setAccessibleName("Folder of volumes")
        self.folder_line.setPlaceholderText("a folder of volumes")
        self.folder_line.setToolTip("Files in this folder, not below it; those that cannot be read are left out")
        self.folder_line.textChanged.connect(lambda _text: self.changed.emit())
        self.browse = QPushButton("Folder…")
        self.browse.setObjectName("vqldm-codebook-browse")
        self.browse.setToolTip("Choose the folder")
        self.browse.clicked.connect(lambda _checked=False: self._on_browse())
        self.reason = HelpLabel(parent=self)
        self.reason.setObjectName("vqldm-codebook-reason")
        first = QHBoxLayout()
        first.addWidget(self.choice, 1)
        first.addWidget(self.button, 1)
        second = QHBoxLayout()
        for widget in (self.folder_line, self.browse):
            second.addWidget(widget, 1 if widget is self.folder_line else 0)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.picker)
        column.addLayout(second)
        column.addLayout(first)
        column.addWidget(self.reason)
        self._show_fields()

    @property
    def what(self) -> What:
        """What is chosen."""
        chosen: What = self.choice.currentData()
        return chosen

    @property
    def folder(self) -> Path | None:
        """The folder that is entered; None for an empty line."""
        text = self.folder_line.text().strip()
        return Path(text).expanduser().absolute() if text else None

    def choose(self, what: What, folder: str | Path | None = None) -> None:
        """Choose what is counted."""
        if folder is not None:
            self.folder_line.setText(str(folder))
        self.choice.setCurrentIndex(list(_CHOICES).index(what))

    def why_not(self, *, has_model: bool, what: What | None = None) -> str:
        """Say why what is chosen, or ``what``, cannot be counted; empty when it can."""
        what = what or self.what
        if not has_model:
            return NO_MODEL
        if what == "folder":
            return "" if self.folder is not None else NO_FOLDER
        layer, viewer = self.picker.layer, self._viewer()
        if layer is None:
            return why_none(viewer) if viewer is not None else why_not(None)
        return why_not(layer) if what == "layer" else ""

    def show_state(self, *, has_model: bool, is_running: bool) -> None:
        """Enable what can be done now; a button that cannot be pressed says why."""
        reason = self.why_not(has_model=has_model)
        self.reason.setText(reason)
        self.button.setEnabled(not reason and not is_running)
        self.button.setToolTip(reason or (RUNNING if is_running else _TIPS[self.what]))

    def _on_choice(self) -> None:
        self._show_fields()
        self.changed.emit()

    def _show_fields(self) -> None:
        is_folder = self.what == "folder"
        for widget in (self.folder_line, self.browse):
            widget.setVisible(is_folder)
        self.picker.setVisible(not is_folder)
        self.picker.setEnabled(self.what == "layer")

    def _on_browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder of volumes", self.folder_line.text())
        if path:
            self.folder_line.setText(path)
