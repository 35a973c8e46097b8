"""Open a stack from a file: channel, time point and voxel size are chosen where the file leaves a choice."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.jobs import Priority
from napari_vqldm.plugin.layers import add_series, add_volume
from napari_vqldm.plugin.layers.add import shown_axis
from napari_vqldm.plugin.opening.work import Opened, inspect_work, open_work
from napari_vqldm.plugin.state.open_volume import FileContent, OpenState
from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.plugin.widgets.voxel_size_fields import VoxelSizeFields


class OpenVolume(QWidget):
    """A button that asks for a file, and below it the choices that the file leaves open.

    Parameters
    ----------
    desk : Desk
        Of the dock: files are read on its inference thread.
    """

    opened = Signal(object)  # the new layer

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.desk = desk
        self.state = OpenState()
        self._build()

    def ask(self) -> None:
        """Ask for a file and open it."""
        from napari_vqldm.files import READABLE_SUFFIXES

        patterns = " ".join(f"*{suffix}" for suffix in READABLE_SUFFIXES if suffix != ".zarr")
        path, _ = QFileDialog.getOpenFileName(self, "Open volume", "", f"Stacks ({patterns});;All files (*)")
        if path:
            self.open_file(path)

    def ask_folder(self) -> None:
        """Ask for an OME-Zarr, which is a folder, and open it."""
        path = QFileDialog.getExistingDirectory(self, "Open OME-Zarr")
        if path:
            self.open_file(path)

    def open_file(self, path: str) -> None:
        """Look into a file; open it at once when it leaves no choice, else show the choices.

        Only its header is read: that waits for no job.
        """
        self.desk.asked.emit()
        work = inspect_work(str(path))
        self.desk.run(f"Look into {path}", work, on_done=self._on_content, priority=Priority.INTERACTIVE)

    def start(self) -> None:
        """Read what was chosen and add it as a layer."""
        content = self.state.content
        request = self.desk.guarded(self.state.to_request)
        if content is None or request is None:
            return
        work = open_work(content, self.state.times(), request)
        self.desk.run(f"Open {content.name}", work, on_done=self._on_opened)

    def close_open(self) -> None:
        """Forget the file that waits for a choice."""
        self.choices.hide()
        self.state.content = None

    def _build(self) -> None:
        self.button = QPushButton("Open volume…")
        self.button.setObjectName("vqldm-open-volume")
        self.button.setToolTip("Open a z stack from a file, with its voxel size: TIFF, OME-TIFF, .npy, ...")
        self.button.clicked.connect(lambda _checked=False: self.ask())
        self.folder_button = QPushButton("Open OME-Zarr…")
        self.folder_button.setObjectName("vqldm-open-zarr")
        self.folder_button.setToolTip("Open a z stack from an OME-Zarr folder")
        self.folder_button.clicked.connect(lambda _checked=False: self.ask_folder())
        self.choices = QWidget()
        self.choices.setObjectName("vqldm-open-choices")
        self.title = HelpLabel()
        self.channel = QComboBox()
        self.channel.setObjectName("vqldm-open-channel")
        self.channel.setToolTip("Which channel of the file holds the microtubules")
        self.channel.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.channel.currentIndexChanged.connect(self._on_channel)
        self.time = QSpinBox()
        self.time.setObjectName("vqldm-open-time")
        self.time.setToolTip("Which time point, from 0")
        self.time.valueChanged.connect(self._on_time)
        self.all_times = QCheckBox("All time points")
        self.all_times.setObjectName("vqldm-open-all-times")
        self.all_times.setToolTip("Open every time point, as one layer with a time slider")
        self.all_times.toggled.connect(self._on_all_times)
        self.voxel_size = VoxelSizeFields()
        self.voxel_size.changed.connect(self._on_size)
        self.reason = HelpLabel()
        self.open_button = QPushButton("Open")
        self.open_button.setObjectName("vqldm-open-chosen")
        self.open_button.setToolTip("Read the file and add it as a layer")
        self.open_button.clicked.connect(lambda _checked=False: self.start())
        self.form = QFormLayout()
        self.form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self.form.addRow("Channel", self.channel)
        self.form.addRow("Time point", self.time)
        self.form.addRow("", self.all_times)
        self.form.addRow("Voxel size (µm)", self.voxel_size)
        inner = QVBoxLayout(self.choices)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(self.title)
        inner.addLayout(self.form)
        inner.addWidget(self.reason)
        inner.addWidget(self.open_button)
        self.choices.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(self.button)
        row.addWidget(self.folder_button)
        column.addLayout(row)
        column.addWidget(self.choices)

    def _on_content(self, content: FileContent) -> None:
        self.state.take(content)
        if not self.state.needs_choice:
            self.start()
            return
        shape = " × ".join(f"{letter} {n}" for letter, n in zip(content.axes, content.shape, strict=True))
        note = " The file does not name its first axis: it is taken for time." if content.is_time_assumed else ""
        self.title.setText(f"{content.name}: {shape}.{note}")
        self.channel.blockSignals(True)
        self.channel.clear()
        self.channel.addItems(content.channels)
        self.channel.blockSignals(False)
        self.time.setRange(0, content.num_times - 1)
        self.time.setValue(0)
        self.all_times.setChecked(False)
        self.voxel_size.set_values(self.state.voxel_size_um)
        self.form.setRowVisible(self.channel, len(content.channels) > 1)
        self.form.setRowVisible(self.time, content.num_times > 1)
        self.form.setRowVisible(self.all_times, content.num_times > 1)
        self.choices.show()
        self._show_reason()

    def _on_opened(self, opened: Opened) -> None:
        viewer = _open_viewer(self.desk)
        if viewer is None:
            return
        for fingerprint, file in opened.inputs.items():
            self.desk.remember_input(fingerprint, file)
        first = opened.volumes[0]
        if opened.frames is None:
            layer = add_volume(viewer, first, limits=opened.limits)
        else:
            records = [volume.provenance for volume in opened.volumes]
            axis = shown_axis(opened.axis)
            layer = add_series(
                viewer,
                opened.frames,
                first.voxel_size_um,
                name=first.name,
                limits=opened.limits,
                step=axis.step,
                start=axis.start,
                step_unit=axis.unit,
                step_label=axis.label,
                provenances=records,
            )
        self.desk.added(f"Open {first.name}", [layer])
        self.close_open()
        self.opened.emit(layer)

    def _on_channel(self, index: int) -> None:
        self.state.channel = max(index, 0)

    def _on_time(self, value: int) -> None:
        self.state.time = value

    def _on_all_times(self, is_on: bool) -> None:
        self.state.all_times = is_on
        self.time.setEnabled(not is_on)

    def _on_size(self, values: object) -> None:
        self.state.voxel_size_um = values  # type: ignore[assignment]
        self._show_reason()

    def _show_reason(self) -> None:
        reason = self.state.why_not()
        self.reason.setText(reason)
        self.open_button.setEnabled(not reason)
        self.open_button.setToolTip(reason or "Read the file and add it as a layer")


def _open_viewer(desk: Desk) -> Any:
    """The viewer of a desk; None when it is closed."""
    try:
        return bare(desk.viewer)
    except VqldmError:
        return None
