"""The channels of a continuous latent (`ldm`): which of them say something about the volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from napari_vqldm.plugin.widgets import HelpLabel

if TYPE_CHECKING:
    from napari_vqldm.inside.channels import ChannelReport
    from napari_vqldm.plugin.tabs.codebook.channel_work import Channels

NONE_YET = "Nothing is counted yet. This model has no codes: a latent of {} channels stands for the volume."
COLUMNS = {
    "channel": "Index from 0",
    "active": "Its mean varies with the volume: by more than 0.1 of the prior's standard deviation",
    "KL (nats)": "Mean Kullback-Leibler divergence to the prior N(0, 1), nats per cell: what the channel says",
    "sd": "Standard deviation over cells, in the latent as the encoder returns it",
    "mean": "Mean over cells, in the latent as the encoder returns it",
    "sd, std.": "Standardised, as files and the denoiser see it: 1 on volumes like those of the training",
    "mean, std.": "Standardised, as files and the denoiser see it: 0 on volumes like those of the training",
}
LEAST_ROWS, MOST_ROWS = 3, 10  # seen at once


class ChannelsBox(QWidget):
    """A table with one row a channel, and the warning of the report."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-codebook-channels")
        self.lead = HelpLabel(parent=self)
        self.lead.setObjectName("vqldm-codebook-channels-lead")
        self.warning = HelpLabel(parent=self)
        self.warning.setObjectName("vqldm-codebook-channels-warning")
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setObjectName("vqldm-codebook-channels-table")
        self.table.setAccessibleName("Channels of the latent")
        self.table.setHorizontalHeaderLabels(list(COLUMNS))
        for column, tip in enumerate(COLUMNS.values()):
            head = self.table.horizontalHeaderItem(column)
            if head is not None:
                head.setToolTip(tip)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        vertical = self.table.verticalHeader()
        if vertical is not None:
            vertical.hide()
        column_of_widgets = QVBoxLayout(self)
        column_of_widgets.setContentsMargins(0, 0, 0, 0)
        for widget in (self.lead, self.warning, self.table):
            column_of_widgets.addWidget(widget)
        self.show_channels(None)

    def show_channels(self, channels: Channels | None, num_channels: int = 0) -> None:
        """Show numbers, or that there are none yet for a latent of so many channels."""
        rows = [] if channels is None else _rows(channels.report)
        self.lead.setText(NONE_YET.format(num_channels) if channels is None else _lead(channels))
        warning = "" if channels is None else channels.report.warning
        self.warning.setText(f"! {warning}" if warning else "")
        self.table.setRowCount(len(rows))
        for row, cells in enumerate(rows):
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(row, column, item)
        self.table.resizeColumnsToContents()
        self.table.setVisible(bool(rows))
        shown = min(max(len(rows), LEAST_ROWS), MOST_ROWS) + 2  # the head, and a bar below
        self.table.setFixedHeight(shown * max(self.table.rowHeight(0), self.fontMetrics().height() + 6))


def _rows(report: ChannelReport) -> list[tuple[str, ...]]:
    """Texts in the order of `COLUMNS`."""
    return [
        (
            str(channel),
            "yes" if report.is_active[channel] else "no",
            f"{report.kl_nats[channel]:.3g}",
            f"{report.sd[channel]:.3g}",
            f"{report.mean[channel]:.3g}",
            f"{report.standardised_sd[channel]:.3g}",
            f"{report.standardised_mean[channel]:.3g}",
        )
        for channel in range(len(report.mean))
    ]


def _lead(channels: Channels) -> str:
    report = channels.report
    active, many = int(report.is_active.sum()), len(report.is_active)
    so_far = "" if channels.is_complete else " so far"
    return (
        f"{channels.what}{so_far}: {active} of {many} channels vary with the volume; "
        f"{report.kl_nats.sum():.1f} nats per cell in all."
    )
