"""Start a training preset as a process of its own, and stop the run that is followed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_vqldm.errors import ConfigError
from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.training.config import preset_paths
from napari_vqldm.training.start import MISSING, can_train

FIRST_PRESET = "smoke-ldm"  # minutes on a CPU


@dataclass(frozen=True)
class StartRequest:
    """What the user asked to train: arguments of `napari_vqldm.training.start.start_training`."""

    config: str
    out: Path
    overrides: tuple[str, ...]


class StartBox(QWidget):
    """Preset, run folder, values that replace those of the preset; Start and Stop."""

    asked_start = Signal()
    asked_stop = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-run-start-box")
        self.preset = QComboBox()
        self.preset.setObjectName("vqldm-run-preset")
        self.preset.setAccessibleName("Preset")
        self.preset.setToolTip("What to train: smoke presets take minutes on a CPU, the others are for a GPU")
        self.preset.addItems(list(preset_paths()))
        self.preset.setCurrentText(FIRST_PRESET)
        self.out = QLineEdit()
        self.out.setObjectName("vqldm-run-out")
        self.out.setPlaceholderText("a new folder, or a run to go on with")
        self.out.setToolTip("Run folder: a new one, or that of a run that was stopped, which goes on")
        self.browse = QPushButton("…")
        self.browse.setObjectName("vqldm-run-out-browse")
        self.browse.setToolTip("Choose the run folder")
        self.browse.clicked.connect(lambda _checked=False: self._on_browse())
        self.overrides = QLineEdit()
        self.overrides.setObjectName("vqldm-run-overrides")
        self.overrides.setPlaceholderText("autoencoder.steps=100 denoiser.steps=100")
        self.overrides.setToolTip("Values that replace those of the preset: KEY=VALUE, separated by spaces")
        self.start = QPushButton("Start training")
        self.start.setObjectName("vqldm-run-start")
        self.start.clicked.connect(lambda _checked=False: self.asked_start.emit())
        self.stop = QPushButton("Stop")
        self.stop.setObjectName("vqldm-run-stop")
        self.stop.clicked.connect(lambda _checked=False: self.asked_stop.emit())
        self.missing = HelpLabel(parent=self)
        self.missing.setObjectName("vqldm-run-missing")
        folder = QHBoxLayout()
        folder.addWidget(self.out, 1)
        folder.addWidget(self.browse)
        form = QFormLayout()
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        form.addRow("Preset", self.preset)
        form.addRow("Run folder", folder)
        form.addRow("Change", self.overrides)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start)
        buttons.addWidget(self.stop)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form)
        column.addLayout(buttons)
        column.addWidget(self.missing)
        self.show_buttons(may_stop=False, is_starting=False)

    def request(self) -> StartRequest:
        """Return what is asked for.

        Raises
        ------
        ConfigError
            If no folder is given, or the changes cannot be split.
        """
        text = self.out.text().strip()
        if not text:
            raise ConfigError("a training needs a run folder: choose one")
        try:
            overrides = tuple(shlex.split(self.overrides.text()))
        except ValueError as error:
            raise ConfigError(f"the changes cannot be read ({error}): write KEY=VALUE, separated by spaces") from None
        return StartRequest(self.preset.currentText(), Path(text).expanduser().absolute(), overrides)

    def show_buttons(self, may_stop: bool, is_starting: bool) -> None:
        """Enable what can be done now; a button that cannot be pressed says why."""
        is_here = can_train()
        self.missing.setText("" if is_here else f"{MISSING}; following a run works without.")
        self.start.setEnabled(is_here and not is_starting)
        reason = MISSING if not is_here else "A training is being started." if is_starting else ""
        self.start.setToolTip(reason or "Train in a process of its own: it goes on when the dock or napari is closed")
        self.stop.setEnabled(may_stop)
        self.stop.setToolTip(
            "Ask the training that is followed to save and leave; the same start goes on later"
            if may_stop
            else "No training that is followed runs on this computer."
        )

    def _on_browse(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Run folder", self.out.text())
        if path:
            self.out.setText(path)
