"""What else can be done: images of cells as layers, files, and the program that counts the same."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.plugin.widgets import CopyButton

NOTHING_COUNTED = "Count first."


class ToolsBox(QWidget):
    """Buttons only; the tab does the work.

    Parameters
    ----------
    python, command : callable
        Text of the program that counts the same; they may raise `VqldmError`, which goes to ``copy.failed``.
    """

    quantization_wanted = Signal()
    channels_wanted = Signal()
    table_wanted = Signal()
    picture_wanted = Signal()

    def __init__(self, python: Callable[[], str], command: Callable[[], str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-codebook-tools")
        self.quantization = _button("Quantization error as layers", "vqldm-codebook-quantization")
        self.quantization.clicked.connect(lambda _checked=False: self.quantization_wanted.emit())
        self.channels = _button("Latent channels as layers", "vqldm-codebook-channel-layers")
        self.channels.clicked.connect(lambda _checked=False: self.channels_wanted.emit())
        self.table = _button("Save table…", "vqldm-codebook-save-table")
        self.table.clicked.connect(lambda _checked=False: self.table_wanted.emit())
        self.picture = _button("Save picture…", "vqldm-codebook-save-picture")
        self.picture.clicked.connect(lambda _checked=False: self.picture_wanted.emit())
        self.copy = CopyButton(python, command, text="Copy what counts this")
        self.copy.setObjectName("vqldm-codebook-copy")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.quantization)
        column.addWidget(self.channels)
        files = QGridLayout()
        files.addWidget(self.table, 0, 0)
        files.addWidget(self.picture, 0, 1)
        column.addLayout(files)
        column.addWidget(self.copy)

    def show_state(self, *, layer_name: str, reason: str, has_counts: bool, is_continuous: bool) -> None:
        """Enable what can be done now; a button that cannot be pressed says why.

        Parameters
        ----------
        layer_name, reason : str
            Layer that images are made of, and why they cannot be; empty when they can.
        has_counts : bool
            Whether there is something to write.
        is_continuous : bool
            The model is an ``ldm``: it has no codes.
        """
        self.quantization.setVisible(not is_continuous)
        self.picture.setVisible(not is_continuous)
        tips = {
            self.quantization: f"How far every cell of {layer_name} is moved to reach its code, and what that changes",
            self.channels: f"Every channel of the latent of {layer_name} as an image over it",
        }
        for button, tip in tips.items():
            button.setEnabled(not reason)
            button.setToolTip(reason or tip)
        counted = {
            self.table: "Write a CSV file with one line for every " + ("channel" if is_continuous else "code"),
            self.picture: "Write a PNG file with the use of the codes, and the atoms that were measured",
            self.copy: "Copy a program, or a command that writes a report, with the same counts",
        }
        for button, tip in counted.items():
            button.setEnabled(has_counts)
            button.setToolTip(tip if has_counts else NOTHING_COUNTED)


def _button(text: str, name: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(name)
    return button
