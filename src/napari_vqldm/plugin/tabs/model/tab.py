"""The Model tab: choose a checkpoint, read its card, say where it computes, test this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QFileDialog, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.card import Header
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.estimating import self_test_work
from napari_vqldm.plugin.inference.inquiry import Inquiry
from napari_vqldm.plugin.inference.jobs import Priority
from napari_vqldm.plugin.tabs.model.card import ModelCard
from napari_vqldm.plugin.tabs.sample.work import devices_work
from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.plugin.widgets.forms import make_form
from napari_vqldm.zoo import available

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.devices import DeviceInfo
    from napari_vqldm.plugin.inference.engine import ModelSpec
    from napari_vqldm.plugin.inference.jobs import Job
    from napari_vqldm.self_test import SelfTest

FILTER = "Checkpoint (*.safetensors)"
ABOUT = {
    "ldm": "ldm: continuous latents",
    "vq-ldm": "vq-ldm: latents from a codebook",
}


class ModelTab(QWidget):
    """Choose a model and how it computes.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    """

    title = "Model"

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-model")
        self.desk = desk
        self._is_closed = False
        self._shown: Header | None = None
        self._job: Job | None = None
        self._times: dict[ModelSpec, tuple[str, str]] = {}  # fingerprint of the weights, lines of their self-test
        self._inquiry = Inquiry(desk.runner, "List of devices", self._show_devices, desk.show_error, self)
        self._build()
        desk.model_changed.connect(self._on_model)
        desk.runner.ended.connect(self._on_job_ended)
        desk.timing.measured.connect(self._on_measured)
        self._on_model()

    # --- for the dock -------------------------------------------------------------------------------------------------

    def open_checkpoint(self, path: str | Path) -> None:
        """Choose a checkpoint file; a bad one is explained, and the old choice stays."""
        self.desk.guarded(lambda: self.desk.model.open(path))
        self._show_choice()

    def start_self_test(self) -> None:
        """Time the chosen model on this machine; it can be cancelled like every job."""
        if self._is_closed or not self.test_button.isEnabled():
            return
        spec = self.desk.model.spec()
        self._job = self.desk.run(
            "Self-test",
            self_test_work(spec),
            on_done=lambda result: self._on_tested(spec, result),
            on_cancelled=self._on_test_ended,
            on_failure=lambda _failure: self._on_test_ended(),
        )
        self._show_test()

    def close_tab(self) -> None:
        """Let go of state and runner; safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self.desk.model_changed.disconnect(self._on_model)
        self.desk.runner.ended.disconnect(self._on_job_ended)
        self.desk.timing.measured.disconnect(self._on_measured)
        self._inquiry.close()
        self.compute.disconnect_state()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.choice = QComboBox()
        self.choice.setObjectName("vqldm-model-choice")
        self.choice.setAccessibleName("Model")
        self.choice.setToolTip("Models that come with the package, and the checkpoint that you opened")
        self.choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.choice.setMinimumContentsLength(8)
        for name in available():
            self.choice.addItem(ABOUT.get(name, name), name)
        self.choice.activated.connect(self._on_chosen)
        self.open_button = QPushButton("Open checkpoint…")
        self.open_button.setObjectName("vqldm-model-open")
        self.open_button.setToolTip("A .safetensors file of napari-vqldm; dropping it on the dock does the same")
        self.open_button.clicked.connect(lambda _checked=False: self._on_open())
        self.card = ModelCard()
        self.card.sha256.copied.connect(lambda _text: self.desk.noticed.emit("The sha256 is on the clipboard."))
        self.test_button = QPushButton("Self-test")
        self.test_button.setObjectName("vqldm-model-test")
        self.test_button.clicked.connect(lambda _checked=False: self.start_self_test())
        self.times = HelpLabel(parent=self)
        self.times.setObjectName("vqldm-model-times")
        self.compute = make_form(self.desk.model, ["device", "precision", "threads"])
        self.devices = HelpLabel("The first job finds the devices of this machine.", parent=self)
        self.devices.setObjectName("vqldm-model-devices")
        column = QVBoxLayout(self)
        for widget in (
            self.choice,
            self.open_button,
            self.card,
            self.test_button,
            self.times,
            self.compute,
            self.devices,
        ):
            column.addWidget(widget)
        column.addStretch(1)

    def _on_chosen(self, index: int) -> None:
        name = self.choice.itemData(index)
        if name != self.desk.model.name:
            self.desk.guarded(lambda: self.desk.model.open(name))
        self._show_choice()

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open checkpoint", "", FILTER)
        if path:
            self.open_checkpoint(path)

    def _on_model(self) -> None:
        self._show_choice()
        header = self.desk.model.header
        if header is None or header != self._shown:
            self._shown = header
            self.card.show_header(header)
        self._show_test()

    def _show_choice(self) -> None:
        """Select the open model in the list; one that was opened from a file gets an entry."""
        name = self.desk.model.name
        with QSignalBlocker(self.choice):
            if name and self.choice.findData(name) < 0:
                self.choice.addItem(Path(name).name, name)
            self.choice.setCurrentIndex(self.choice.findData(name) if name else -1)
        path = self.desk.guarded(lambda: self.desk.model.path)
        self.choice.setToolTip(str(path) if path is not None else "Choose a model")

    def _on_tested(self, spec: ModelSpec, result: SelfTest | None) -> None:
        self._on_test_ended()
        if result is not None:
            self.desk.timing.measured.emit(spec, result)

    def _on_test_ended(self) -> None:
        self._job = None
        self._show_test()

    def _on_measured(self, spec: ModelSpec, result: SelfTest) -> None:
        self._times[spec] = result.weights_sha256, "\n".join(result.lines())
        self._show_test()

    def _show_test(self) -> None:
        """Show the times of this model as it computes now, if there are any."""
        header = self.desk.model.header
        sha256, lines = self._times.get(self.desk.model.spec(), ("", ""))
        self.times.setText(lines if header is not None and header.card.weights_sha256 == sha256 else "")
        reason = ""
        if header is None:
            reason = "No model is open: choose one."
        elif self._job is not None:
            reason = "The self-test is running: wait for it or cancel it."
        self.test_button.setEnabled(not reason)
        self.test_button.setToolTip(
            reason or "Time every part of this model on this machine, in seconds: then estimates of time are good"
        )

    def _on_job_ended(self, job: Any) -> None:
        """Look for devices after a job that may have brought PyTorch, or changed what is free."""
        if not self._is_closed and job.priority is Priority.BATCH:
            self._inquiry.ask(devices_work)

    def _show_devices(self, found: tuple[DeviceInfo, ...]) -> None:
        if self._is_closed or not found:
            return
        lines = [f"{device.label}{_free(device.free_bytes)}" for device in found]
        self.devices.setText("\n".join(lines))
        chosen = self.desk.model.device
        names = ["auto", *(device.name for device in found)]
        self.compute.set_choices("device", names if chosen in names else [*names, chosen])


def _free(num_bytes: int | None) -> str:
    return "" if num_bytes is None else f": {num_bytes / 2**30:.1f} GiB free"
