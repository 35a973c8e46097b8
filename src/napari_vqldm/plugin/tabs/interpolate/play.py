"""The slider from A to B, and a player that moves it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

from napari_vqldm.plugin.state.interpolate import NEIGHBOR, InterpolateState, next_place
from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.plugin.widgets.forms import make_form


class PlayRow(QWidget):
    """Slider, Play, speed, and a line that says what is shown.

    Parameters
    ----------
    state : InterpolateState
        Holds t, speed and direction.
    parent : QWidget, optional
        Of the row.
    """

    moved = Signal(float)  # t, while the slider moves
    settled = Signal()  # the slider was released
    playing_changed = Signal(bool)

    def __init__(self, state: InterpolateState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self._places: Callable[[], list[float]] = list
        self._is_busy: Callable[[], bool] = bool
        self._direction = 1
        self.slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.slider.setObjectName("vqldm-interpolate-slider")
        self.slider.setRange(0.0, 1.0)
        self.slider.setDecimals(3)
        self.slider.setSingleStep(NEIGHBOR)  # type: ignore[arg-type]  # typed as for a slider of integers
        self.slider.setPageStep(5 * NEIGHBOR)  # type: ignore[arg-type]
        self.slider.setToolTip("0 is A, 1 is B. Arrow keys move by a hundredth.")
        self.slider.setAccessibleName("Where on the way")
        self.play_button = QPushButton("Play")
        self.play_button.setObjectName("vqldm-interpolate-play")
        self.play_button.setCheckable(True)
        self.play_button.setToolTip("Walk from A to B; frames that are not decoded yet come as previews")
        self.form = make_form(state, ["fps", "is_ping_pong"])
        self.shown = HelpLabel()
        self.shown.setObjectName("vqldm-interpolate-shown")
        self.codes = HelpLabel()
        self.codes.setObjectName("vqldm-interpolate-codes")
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._tick)
        first = QHBoxLayout()
        first.addWidget(self.slider, 1)
        first.addWidget(self.play_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(first)
        for widget in (self.shown, self.codes, self.form):
            column.addWidget(widget)
        self.slider.valueChanged.connect(self._on_value)
        self.slider.sliderReleased.connect(self.settled)
        self.play_button.toggled.connect(self._on_play)
        state.events.fps.connect(self._on_fps)
        state.events.t.connect(self._on_state)

    @property
    def is_playing(self) -> bool:
        """Whether the player moves the slider."""
        return self._timer.isActive()

    def set_source(self, places: Callable[[], list[float]], is_busy: Callable[[], bool]) -> None:
        """Say where the player may go, and whether the frame before is still awaited."""
        self._places, self._is_busy = places, is_busy

    def stop(self) -> None:
        """Stop playing."""
        self.play_button.setChecked(False)

    def close_row(self) -> None:
        """Stop and let go of the state."""
        self.stop()
        self.state.events.fps.disconnect(self._on_fps)
        self.state.events.t.disconnect(self._on_state)
        self.form.disconnect_state()

    def _on_value(self, t: float) -> None:
        if self.slider.isSliderDown():  # the hand wins over the player
            self.stop()
        self.state.t = float(t)
        self.moved.emit(float(t))

    def _on_state(self, t: float) -> None:
        with QSignalBlocker(self.slider):
            self.slider.setValue(t)

    def _on_play(self, is_on: bool) -> None:
        self.play_button.setText("Stop" if is_on else "Play")
        if is_on:
            self._timer.start(round(1000 / self.state.fps))
        else:
            self._timer.stop()
        self.playing_changed.emit(is_on)

    def _on_fps(self, fps: float) -> None:
        if self._timer.isActive():
            self._timer.start(round(1000 / fps))

    def _tick(self) -> None:
        """Go to the next place, unless the last frame has not come yet: slow machines play slowly, and all frames."""
        places = self._places()
        if len(places) < 2 or self._is_busy():
            return
        here = int(np.argmin(np.abs(np.array(places) - self.state.t)))
        place, self._direction = next_place(here, self._direction, len(places), self.state.is_ping_pong)
        self.slider.setValue(places[place])
