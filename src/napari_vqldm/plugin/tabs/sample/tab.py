"""The Sample tab: volumes from noise, and what a camera would record of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.card import Header
from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.estimating import TooLarge, generation_ask
from napari_vqldm.plugin.inference.inquiry import Inquiry
from napari_vqldm.plugin.layers.lazy_frames import LazyFrames
from napari_vqldm.plugin.state.sample import SampleState, most_steps_of, samplers_of
from napari_vqldm.plugin.tabs.sample.camera_box import CameraBox
from napari_vqldm.plugin.tabs.sample.conditions import ConditionKnobs
from napari_vqldm.plugin.tabs.sample.layers import SampleRun
from napari_vqldm.plugin.tabs.sample.text import request_command, request_script
from napari_vqldm.plugin.tabs.sample.work import Preview, VolumeDone, conditions_work, sample_work
from napari_vqldm.plugin.widgets import CopyButton, HelpLabel, SeedBox
from napari_vqldm.plugin.widgets.estimate_box import EstimateBox
from napari_vqldm.plugin.widgets.fold import Fold
from napari_vqldm.plugin.widgets.forms import make_form

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.estimating import Ask
    from napari_vqldm.plugin.inference.jobs import Failure, Job

SIZES = ("size_z", "size_y", "size_x")


class SampleTab(QWidget):
    """Generate volumes with the chosen model.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    """

    title = "Sample"

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-sample")
        self.desk = desk
        self.state = SampleState()
        self._header: Header | None = None
        self._job: Job | None = None
        self._run: SampleRun | None = None
        self._ways: list[weakref.ref[LazyFrames]] = []
        self._is_closed = False
        self._has_ranges = False
        self._inquiry = Inquiry(desk.runner, "Ranges of the conditions", self._show_ranges, desk.show_error, self)
        self._build()
        desk.model_changed.connect(self._on_model)
        self.state.events.connect(self._on_state)
        self.seed_box.roll()  # the first volume of a session is not always the same
        self._on_model()

    # --- for the dock -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Generate what is chosen."""
        if self._is_closed or self._reason():
            self._show_state()
            return
        self.state.seed = self.seed_box.next_seed()
        self._launch(self.state.to_request())

    def _launch(self, request: dict[str, Any], *, is_forced: bool = False) -> None:
        """Run a request; it is checked against the free memory unless it is forced."""
        self.estimate.clear_refusal()
        run = self._run = SampleRun(self.desk, self._ways)
        work = sample_work(
            self.desk.model.spec(),
            request,
            ask=None if is_forced else generation_ask(request),
            shows_preview=self.state.shows_preview,
            keeps_way=self.state.keeps_way,
        )
        asked = request["count"]
        self._job = self.desk.run(
            self.state.action(),
            work,
            on_step=lambda step: self._on_step(run, step),
            on_done=lambda outcome: self._finish(run, request, outcome),
            on_cancelled=lambda: self._end(run, self._left_text(run, asked, "Cancelled")),
            on_failure=lambda failure: self._fail(run, asked, failure),
        )
        self._show_state()

    def close_tab(self) -> None:
        """Remove the preview; let go of viewer, layers and state. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self.desk.model_changed.disconnect(self._on_model)
        self.state.events.disconnect(self._on_state)
        self._inquiry.close()
        self.estimate.close_box()
        self.camera.close_box()
        self.knobs.disconnect_state()
        for form in (self.count_form, self.size_form, self.show_form, self.advanced_form):
            form.disconnect_state()
        if self._run is not None:
            self._run.finish()
            self._run = None
        for reference in self._ways:
            frames = reference()
            if frames is not None:
                frames.close()

    # --- Qt -----------------------------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:
        """Ask for the ranges of the conditions when somebody sees them: the optics behind them take a moment."""
        super().showEvent(event)
        QTimer.singleShot(0, self._ask_ranges)

    def _build(self) -> None:
        self.count_form = make_form(self.state, ["count"])
        self.size_form = make_form(self.state, list(SIZES))
        self.extent = HelpLabel(parent=self)
        self.extent.setObjectName("vqldm-sample-extent")
        self.extent.setToolTip("Edges of the volume; a range where the voxel size is drawn for each volume")
        self.seed_box = SeedBox(self.state.seed)
        self.seed_box.seed_changed.connect(self._on_seed)
        self.knobs = ConditionKnobs(self.state)
        self.conditions = Fold(
            "Conditions",
            "vqldm-sample-conditions",
            self.knobs,
            "What the volumes should look like: density, stiffness, arrangement, ...",
        )
        self.show_form = make_form(self.state, ["shows_preview", "keeps_way"])
        self.advanced_form = make_form(self.state, ["steps", "sampler", "guidance_scale", "batch", "start"])
        self.advanced = Fold(
            "Advanced", "vqldm-sample-advanced", self.advanced_form, "How noise is turned into a volume"
        )
        self.reason = HelpLabel(parent=self)
        self.reason.setObjectName("vqldm-sample-reason")
        self.button = QPushButton()
        self.button.setObjectName("vqldm-sample-start")
        self.button.clicked.connect(lambda _checked=False: self.start())
        self.copy = CopyButton(self._python, self._command, text="Copy request")
        self.copy.setObjectName("vqldm-sample-copy")
        self.copy.setToolTip(
            "Copy this request with the seed that is shown, to run outside napari; a finished volume: select its layer"
        )
        self.copy.failed.connect(self.desk.show_error)
        self.estimate = EstimateBox(self.desk, "sample", self._ask)
        self.camera = CameraBox(self.desk)
        column = QVBoxLayout(self)
        for widget in (self.count_form, self.size_form, self.extent, _labelled("Seed", self.seed_box)):
            column.addWidget(widget)
        for widget in (self.conditions, self.show_form, self.advanced, self.reason):
            column.addWidget(widget)
        buttons = QHBoxLayout()
        buttons.addWidget(self.button, 1)
        buttons.addWidget(self.copy)
        column.addLayout(buttons)
        column.addWidget(self.estimate)
        column.addWidget(self.camera)
        column.addStretch(1)

    # --- running ------------------------------------------------------------------------------------------------------

    def _on_step(self, run: SampleRun, step: object) -> None:
        if isinstance(step, Preview):
            run.show_preview(step)
        elif isinstance(step, VolumeDone):
            layer = run.add(step)
            if layer is not None:
                self.camera.live.choose(layer)

    def _finish(self, run: SampleRun, request: dict[str, Any], refusal: TooLarge | None) -> None:
        self._end(run)
        if refusal is not None:
            self.estimate.refuse(refusal, lambda: self._launch(request, is_forced=True))

    def _fail(self, run: SampleRun, asked: int, _failure: Failure) -> None:
        self._end(run, self._left_text(run, asked, "Stopped by an error"))

    def _end(self, run: SampleRun, notice: str = "") -> None:
        run.finish()
        self._job, self._run = None, None
        if notice:
            self.desk.noticed.emit(notice)
        self._show_state()

    def _left_text(self, run: SampleRun, asked: int, why: str) -> str:
        """Say what is left in the viewer after a run that did not end."""
        done = len(run.samples)
        if done == 0:
            return f"{why}: nothing was added."
        return f"{why}: {done} of {asked} volumes {'is' if done == 1 else 'are'} complete and stay{'s' * (done == 1)}."

    # --- showing ------------------------------------------------------------------------------------------------------

    def _on_model(self) -> None:
        header = self.desk.model.header
        if header != self._header:
            self._header = header
            self._has_ranges = False
            self._inquiry.close()
            self.knobs.show_ranges({})
            if header is not None:
                self._take_model(header)
        self.camera.show_state()
        self._ask_ranges()
        self._show_state()

    def _take_model(self, header: Header) -> None:
        """Set the forms to what the model allows, and say its defaults."""
        for name, most in zip(SIZES, header.config.window, strict=True):
            self.size_form.set_range(name, 2, most)
        self.state.take_model(header)
        diffusion = header.config.diffusion
        form = self.advanced_form
        form.set_range("steps", 1, most_steps_of(header))
        form.set_choices("sampler", samplers_of(header))
        for name, value in (
            ("steps", diffusion.steps),
            ("sampler", diffusion.sampler),
            ("guidance_scale", diffusion.guidance_scale),
        ):
            shown = f"{value:g}" if isinstance(value, float) else value
            form.set_default_text(name, f"model's default: {shown}")
        takes_conditions = header.config.denoiser is not None and header.config.denoiser.condition is not None
        form.set_enabled("guidance_scale", takes_conditions, "This model takes no conditions that it could follow.")
        self.conditions.setVisible(takes_conditions and header.config.simulation is not None)

    def _ask_ranges(self) -> None:
        if self._header is None or self._has_ranges or self._is_closed or not self.isVisible():
            return
        self._has_ranges = True
        self._inquiry.ask(conditions_work(self._header.config))

    def _show_ranges(self, ranges: Any) -> None:
        if not self._is_closed:
            self.knobs.show_ranges(ranges)

    def _on_seed(self, seed: int) -> None:
        self.state.seed = seed

    def _on_state(self, *_: object) -> None:
        if self.seed_box.seed != self.state.seed:
            self.seed_box.seed = self.state.seed
        self.estimate.refresh()
        self._show_state()

    def _ask(self) -> Ask | None:
        """What is to be estimated; None when nothing can be generated."""
        reason = self.state.why_not(self.desk.model.header)
        return None if reason else generation_ask(self.state.to_request())

    def _reason(self) -> str:
        return self.state.why_not(self.desk.model.header, is_running=self._job is not None)

    def _show_state(self) -> None:
        reason = self._reason()
        self.reason.setText(reason)
        self.extent.setText(self.state.extent_text(self.desk.model.header))
        self.button.setText(self.state.action())
        self.button.setEnabled(not reason)
        self.button.setToolTip(reason or "Turn noise into volumes; each becomes a layer as soon as it is finished")
        self.copy.setEnabled(self.desk.model.can_generate)

    # --- copying ------------------------------------------------------------------------------------------------------

    def _python(self) -> str:
        return self._text(request_script)

    def _command(self) -> str:
        return self._text(request_command)

    def _text(self, of_request: Callable[..., str]) -> str:
        """What the button would do; a finished volume is copied as the selected layer, below all tabs."""
        if self.desk.model.header is None:
            raise VqldmError("no model is open: choose one on the Model tab")
        return of_request(self.desk.model, self.state.to_request())


def _labelled(text: str, widget: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    label = QLabel(text)
    label.setToolTip("The same seed gives the same volumes, on every machine of the same kind")
    layout.addWidget(label)
    layout.addWidget(widget, 1)
    return row
