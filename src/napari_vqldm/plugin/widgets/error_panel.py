"""An error where the user looks: what went wrong, what to do, and a report to copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QApplication, QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.plugin.widgets.help_label import HelpLabel

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.failures import Failure


class ErrorPanel(QFrame):
    """Shows one failure; hidden while there is none.

    Attributes
    ----------
    cause, remedy : HelpLabel
        The two lines.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-error")
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.setAccessibleName("Error")
        self._report = ""
        self.cause, self.remedy = HelpLabel(parent=self), HelpLabel(parent=self)
        self.cause.setObjectName("vqldm-error-cause")
        self.remedy.setObjectName("vqldm-error-remedy")
        self.cause.setStyleSheet("font-weight: bold")  # napari's style sheet sets the font: a QFont would be lost
        self.copy_button = QPushButton("Copy report")
        self.copy_button.setToolTip("Put versions and details on the clipboard, for a question or an issue")
        self.copy_button.clicked.connect(self._copy)
        self.dismiss_button = QPushButton("Dismiss")
        self.dismiss_button.setToolTip("Hide this message")
        self.dismiss_button.clicked.connect(self.clear)
        buttons = QHBoxLayout()
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.dismiss_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.addWidget(self.cause)
        column.addWidget(self.remedy)
        column.addLayout(buttons)
        self.hide()

    @property
    def report(self) -> str:
        """What "Copy report" puts on the clipboard."""
        return self._report

    def show_failure(self, failure: Failure) -> None:
        """Show a failure; a cancelled job is none."""
        if failure.is_cancelled:
            return
        self.show_text(failure.cause, failure.remedy, failure.report)

    def show_error(self, error: BaseException) -> None:
        """Show an exception in the words of `failure_of`."""
        from napari_vqldm.plugin.inference.failures import failure_of

        self.show_failure(failure_of(error))

    def show_text(self, cause: str, remedy: str = "", report: str = "") -> None:
        """Show a cause, what to do, and a report; the last one wins."""
        self.cause.setText(cause)
        self.remedy.setText(remedy)
        self._report = report or "\n".join(part for part in (cause, remedy) if part)
        self.show()

    def clear(self) -> None:
        """Hide the panel and forget the report."""
        self._report = ""
        self.cause.setText("")
        self.remedy.setText("")
        self.hide()

    def _copy(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self._report)
