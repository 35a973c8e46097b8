"""Put the script behind a result on the clipboard."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QApplication, QMenu, QPushButton, QWidget

from napari_vqldm.errors import VqldmError

SHOWN_MS = 1500


class CopyButton(QPushButton):
    """A menu: Copy as Python, Copy as command line.

    Parameters
    ----------
    python, command : callable
        Return the text, or raise `VqldmError`, which goes to `failed`.
    parent : QWidget, optional
        Of the button.
    text : str
        On the button: what is copied, where several buttons are seen at once.
    """

    failed = Signal(object)  # VqldmError, for the error panel
    copied = Signal(str)  # the text

    def __init__(
        self,
        python: Callable[[], str],
        command: Callable[[], str] | None = None,
        parent: QWidget | None = None,
        text: str = "Copy",
    ) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-copy")
        self._text = text
        self.setText(text)
        self.setToolTip("Copy what computes this again, bit for bit, outside napari")
        self._menu = QMenu(self)
        self._menu.setToolTipsVisible(True)
        self.python_action = self._menu.addAction("Copy as Python")
        self.python_action.triggered.connect(lambda _checked=False: self._copy(python))
        if command is not None:
            self.command_action = self._menu.addAction("Copy as command line")
            self.command_action.triggered.connect(lambda _checked=False: self._copy(command))
        self.setMenu(self._menu)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SHOWN_MS)
        # A method goes with its button. In a lambda here PyQt6 crashed once, between two tests.
        self._timer.timeout.connect(self._show_again)

    def _show_again(self) -> None:
        self.setText(self._text)

    def _copy(self, text_of: Callable[[], str]) -> None:
        try:
            text = text_of()
        except VqldmError as error:
            self.failed.emit(error)
            return
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(text)
        self.setText("Copied")
        self._timer.start()
        self.copied.emit(text)
