"""The Training tab: follow a run folder, see its curves and volumes, start a training and stop it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_vqldm.card import read_header
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.tabs.training.curves import RunCurves
from napari_vqldm.plugin.tabs.training.following import Following
from napari_vqldm.plugin.tabs.training.recent import recent_runs, remember_run
from napari_vqldm.plugin.tabs.training.run_layers import RunLayers
from napari_vqldm.plugin.tabs.training.start_box import StartBox
from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.plugin.widgets.fold import Fold
from napari_vqldm.training.follow import RunHistory, RunNews
from napari_vqldm.training.run_state import works_there
from napari_vqldm.training.start import StartedTraining, TrainingEnd, start_training, stop_training

if TYPE_CHECKING:
    from napari_vqldm.plugin.tabs.training.looker import Answer

START, STOP, OPEN, END = "start", "stop", "open", "end"
WITH_PROGRESS = ("running", "silent", "died", "failed", "stopped")
MOST_SHOWN = 8  # volumes of a file


class TrainingTab(QWidget):
    """Follow, start and stop trainings. They are processes of their own: closing the dock ends none.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    """

    title = "Training"

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-training")
        self.desk = desk
        self.following = Following(self)
        self.history = RunHistory()
        self.news: RunNews | None = None
        self.layers = RunLayers(desk)
        self.started: StartedTraining | None = None
        self._is_starting = False
        self._is_stopped = False  # it was asked to, from here
        self._is_told = False  # how the training that was started here ended
        self._is_seen = False  # whether it was at work already: else it is still starting
        self._is_closed = False
        self._build()
        self.following.looked.connect(self._on_looked)
        self.following.volumes.connect(self.layers.show)
        self.following.answered.connect(self._on_answered)
        self.following.waiting.connect(self._on_waiting)
        self._show_recent()
        self._show_news()

    # --- for the dock -------------------------------------------------------------------------------------------------

    def follow(self, path: str | Path) -> None:
        """Follow a run folder, whether it is there or not."""
        if self._is_closed or self._waits_for_start():
            return
        folder = Path(path).expanduser().absolute()
        self.history, self.news = RunHistory(), None
        self._is_starting = False
        self.layers.begin(folder.name, str(folder))
        self.following.follow(folder)
        remember_run(str(folder))
        self._show_recent()
        self.start_box.out.setText(str(folder))
        self.curves.show_curves({})
        self._show_news()

    def start(self) -> None:
        """Start what is chosen, and follow it."""
        request = self.desk.guarded(self.start_box.request)
        if request is None or self._is_starting or self._is_closed:
            return
        if self.started is not None and self.started.folder == request.out.absolute() and self.started.is_alive:
            # It says so in its folder some seconds after it was started only.
            self.desk.show_error(works_there(request.out, self.started.pid, platform.node()))
            return
        self.desk.asked.emit()
        self.follow(request.out)
        self._is_starting = True
        self.following.ask(START, lambda: start_training(request.config, request.out, request.overrides))
        self._show_news()

    def stop(self) -> None:
        """Ask the training that is followed to save and leave."""
        path, started = self.following.path, self.started
        if path is None:
            return
        self.desk.asked.emit()
        # One that was started here can be stopped before it has written anything.
        ours = started if started is not None and self._is_ours() else None
        self._is_stopped = ours is not None
        self.following.ask(STOP, ours.stop if ours is not None else lambda: stop_training(path))

    def show_samples(self) -> None:
        """Show the volumes that the run wrote as layers, from now on as they come."""
        self.layers.forget_removed()
        self.following.want_volume(self.number.value() - 1)

    def open_checkpoint(self) -> None:
        """Open the newest checkpoint of the run as the model of the dock."""
        if self.news is None or self.news.checkpoint is None:
            return
        path = self.news.checkpoint

        def look() -> Path:
            read_header(path)  # here first: a folder that hangs must not hold up the window
            return path

        self.following.ask(OPEN, look)

    def close_tab(self) -> None:
        """Stop looking; a training goes on. Safe to call twice."""
        self._is_closed = True
        self.following.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.recent = QComboBox()
        self.recent.setObjectName("vqldm-run-recent")
        self.recent.setAccessibleName("Run folder")
        self.recent.setToolTip("The run that is followed, and those that were followed before")
        self.recent.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.recent.setMinimumContentsLength(8)
        self.recent.activated.connect(lambda index: self.follow(self.recent.itemData(index)))
        self.choose = QPushButton("Follow a run…")
        self.choose.setObjectName("vqldm-run-choose")
        self.choose.setToolTip("Choose a run folder, on this computer or mounted; nothing is written into it")
        self.choose.clicked.connect(lambda _checked=False: self._on_choose())
        self.state = HelpLabel(parent=self)
        self.state.setObjectName("vqldm-run-state")
        self.curves = RunCurves()
        self.troubles = HelpLabel(parent=self)
        self.troubles.setObjectName("vqldm-run-troubles")
        self.samples = QPushButton("Show samples")
        self.samples.setObjectName("vqldm-run-samples")
        self.samples.clicked.connect(lambda _checked=False: self.show_samples())
        self.number = QSpinBox()
        self.number.setObjectName("vqldm-run-number")
        self.number.setAccessibleName("Which volume")
        self.number.setPrefix("volume ")
        self.number.setRange(1, MOST_SHOWN)
        self.number.setToolTip("Which of the held-out volumes and samples; the last one where there are fewer")
        self.open_button = QPushButton("Open newest checkpoint")
        self.open_button.setObjectName("vqldm-run-open")
        self.open_button.clicked.connect(lambda _checked=False: self.open_checkpoint())
        self.start_box = StartBox()
        self.start_box.asked_start.connect(self.start)
        self.start_box.asked_stop.connect(self.stop)
        self.start_fold = Fold(
            "Start or stop a training", "vqldm-run-start-fold", self.start_box, "Train a preset in a process of its own"
        )
        shown = QHBoxLayout()
        shown.addWidget(self.samples, 1)
        shown.addWidget(self.number)
        column = QVBoxLayout(self)
        for widget in (self.recent, self.choose, self.state, self.curves, self.troubles):
            column.addWidget(widget)
        column.addLayout(shown)
        column.addWidget(self.open_button)
        column.addWidget(self.start_fold)
        column.addStretch(1)

    def _on_choose(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Follow a run", str(self.following.path or ""))
        if path:
            self.follow(path)

    def _on_looked(self, news: RunNews) -> None:
        self.news = news
        self._is_seen = self._is_seen or news.state.is_here
        if self.history.add(news):
            self.curves.show_curves(self.history.curves)
        if self.started is not None and not self.started.is_alive and not self._is_told:
            self._is_told = True
            self.following.ask(END, self.started.end)
        self._show_news()

    def _on_waiting(self, seconds: float) -> None:
        self.state.setText(f"{self.following.path} has not answered for {seconds:.0f} s: the file system hangs")

    def _on_answered(self, answer: Answer) -> None:
        """Go on after something that was done with the folder."""
        if answer.title == START:
            self._is_starting = False
        if answer.error is not None:
            self.desk.show_error(answer.error)
        elif isinstance(answer.result, StartedTraining):
            self.started, self._is_told, self._is_seen = answer.result, False, False
            self._is_stopped = False
            self.desk.noticed.emit(f"The training runs as process {answer.result.pid}; closing napari does not end it.")
        elif isinstance(answer.result, TrainingEnd):
            self._tell_end(answer.result)
        elif answer.title == STOP:
            self.desk.noticed.emit("The training was asked to stop: it saves first.")
        elif isinstance(answer.result, Path):
            path = answer.result
            if self.desk.guarded(lambda: self.desk.model.open(path)) is not None:
                self.desk.noticed.emit(f"{path.name} of {path.parent.name} is the model of the dock now.")
        self._show_news()

    def _tell_end(self, end: TrainingEnd) -> None:
        """Say how a training that was started here left, when it left with an error."""
        if not end.exit_code or self.started is None:
            return
        if self._is_stopped and not end.last_line:
            self.desk.noticed.emit("The training was stopped before there was anything to save.")
        elif end.last_line:
            self.desk.noticed.emit(
                f"The training left with exit code {end.exit_code}: {end.last_line} ({self.started.log})"
            )
        else:
            self.desk.noticed.emit(f"The training left with exit code {end.exit_code} and without a word.")

    def _waits_for_start(self) -> bool:
        """Say that a training is being started, which needs the folder that is followed now.

        Nobody waits for ever for a folder that has not answered for long.
        """
        if not self._is_starting:
            return False
        if not self.following.hangs:
            self.desk.noticed.emit("A training is being started: follow another run when it runs.")
            self._show_recent()
            return True
        self.desk.noticed.emit(
            f"{self.following.path} does not answer: the training may still start when it does; follow it to see."
        )
        return False

    def _show_recent(self) -> None:
        path = "" if self.following.path is None else str(self.following.path)
        with QSignalBlocker(self.recent):
            self.recent.clear()
            for text in recent_runs():
                self.recent.addItem(Path(text).name, text)
            self.recent.setCurrentIndex(self.recent.findData(path) if path else -1)
        self.recent.setVisible(self.recent.count() > 0)

    def _show_news(self) -> None:
        """Show state, troubles, and what can be done now."""
        news = self.news
        self.state.setText(self._state_text())
        self.troubles.setText("\n".join(f"! {trouble.line}" for trouble in self.history.troubles))
        has_volumes = news is not None and bool(news.volumes)
        self.samples.setEnabled(has_volumes)
        self.samples.setToolTip(
            "Show held-out volumes, their reconstructions and samples; at the right end of the first slider the newest"
            if has_volumes
            else "The run has written no volumes yet."
        )
        checkpoint = None if news is None else news.checkpoint
        self.open_button.setEnabled(checkpoint is not None)
        self.open_button.setToolTip(
            f"Use {checkpoint.name} of this run as the model of the dock"
            if checkpoint is not None
            else "The run has no checkpoint yet: the first one comes after the stage latents."
        )
        may_stop = self._is_ours() or (news is not None and news.state.is_here)
        self.start_box.show_buttons(may_stop=may_stop, is_starting=self._is_starting)

    def _state_text(self) -> str:
        news = self.news
        if self.following.path is None:
            return "No run is followed: choose a run folder, or start a training."
        if news is None:
            return "Looking…"
        if self.started is not None and self._is_ours() and not self._is_seen:
            return f"starting, process {self.started.pid}"
        text = f"{news.name}: {news.state.text}" if news.name else news.state.text
        return f"{text}\n{news.progress.text}" if news.state.name in WITH_PROGRESS else text

    def _is_ours(self) -> bool:
        """Whether the run that is followed was started here and goes on."""
        started = self.started
        return started is not None and started.folder == self.following.path and started.is_alive
