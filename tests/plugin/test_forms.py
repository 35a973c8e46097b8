"""A form and its state stay equal, whichever of them changes, and wrong values do not get in."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from psygnal import SignalGroupDescriptor
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_vqldm.plugin.widgets.forms import Form, knob, knob_of, make_form

FIELDS = ("count", "guidance", "sampler", "is_fast", "steps", "blur")


@dataclass
class State:
    count: int = knob(2, label="Volumes", tooltip="How many volumes", min=1, max=8)
    guidance: float = knob(1.5, label="Guidance", tooltip="How strongly", min=0, max=10, step=0.05)
    sampler: str = knob("ddim", label="Sampler", tooltip="How noise is removed", choices=("ddim", "heun"))
    is_fast: bool = knob(False, label="Fast", tooltip="Fewer steps")
    steps: int | None = knob(
        None, label="Steps", tooltip="Denoising steps", min=2, max=100, nullable="model's default: 40"
    )
    blur: typing.Optional[float] = knob(0.125, label="Blur", tooltip="Extra blur", min=0, max=1, step=0.01, unit="um")  # noqa: UP045

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def form(state: State, qtbot: Any) -> Form:
    form = make_form(state, FIELDS)
    qtbot.addWidget(form)
    return form


def shown(form: Form, name: str) -> Any:
    row = form.rows[name]
    return None if row.switch is not None and not row.switch.isChecked() else row.widget.value


def test_the_form_starts_as_the_state_is(form: Form, state: State) -> None:
    assert [shown(form, name) for name in FIELDS[:-1]] == [2, 1.5, "ddim", False, None]
    assert shown(form, "blur") == pytest.approx(0.125, abs=0.006)
    assert state == State()  # showing rounds nothing in the state


CHANGES = [("count", 5), ("guidance", 2.25), ("sampler", "heun"), ("is_fast", True), ("steps", 17), ("blur", None)]


@pytest.mark.parametrize("name, value", CHANGES)
def test_changes_of_the_state_are_shown(form: Form, state: State, name: str, value: Any) -> None:
    setattr(state, name, value)
    assert shown(form, name) == value and getattr(state, name) == value


@pytest.mark.parametrize("name, value", [change for change in CHANGES if change[1] is not None])
def test_changes_of_the_user_reach_the_state_once(form: Form, state: State, name: str, value: Any) -> None:
    row = form.rows[name]
    if row.switch is not None:
        row.switch.setChecked(True)
    heard: list[Any] = []
    getattr(state.events, name).connect(lambda new: heard.append(new))
    row.widget.value = value
    assert getattr(state, name) == value and heard == [value]


def test_a_field_that_may_be_none_has_a_switch(form: Form, state: State) -> None:
    row = form.rows["steps"]
    assert row.switch.text() == "model's default: 40" and row.widget.native.isHidden()
    row.switch.setChecked(True)
    assert state.steps == row.widget.value >= 2 and not row.widget.native.isHidden()
    row.switch.setChecked(False)
    assert state.steps is None
    form.set_default_text("steps", "model's default: 25")
    assert row.switch.text() == "model's default: 25"


@pytest.mark.parametrize("name, value", [("count", 9), ("count", 0), ("guidance", 10.5), ("sampler", "euler")])
def test_the_widget_refuses_what_is_out_of_range(form: Form, state: State, name: str, value: Any) -> None:
    before = getattr(state, name)
    with pytest.raises(ValueError):
        form.rows[name].widget.value = value
    assert getattr(state, name) == before == shown(form, name)


def test_typed_numbers_cannot_leave_the_range(form: Form, state: State, qtbot: Any) -> None:
    native = form.rows["count"].widget.native
    native.selectAll()
    qtbot.keyClicks(native, "95")
    qtbot.keyClick(native, Qt.Key.Key_Return)
    assert 1 <= state.count <= 8 and state.count == shown(form, "count")


def test_a_state_out_of_range_is_moved_inside(form: Form, state: State) -> None:
    state.count = 99
    assert state.count == shown(form, "count") == 8
    state.guidance = float("nan")
    assert state.guidance == shown(form, "guidance") == 0


def test_ranges_and_choices_can_follow_the_model(form: Form, state: State) -> None:
    form.set_range("count", 10, 20)
    assert state.count == shown(form, "count") == 10
    form.set_range("count", 1, 3)
    assert state.count == shown(form, "count") == 3
    form.set_choices("sampler", ("euler", "heun"))
    assert state.sampler == shown(form, "sampler") == "euler"
    form.set_choices("sampler", ("heun", "euler"))
    assert state.sampler == shown(form, "sampler") == "euler"


def test_values_finer_than_the_step_stay_as_they_are(form: Form, state: State) -> None:
    state.guidance = 1.2345678
    form.rows["count"].widget.value = 3
    assert state.guidance == 1.2345678


def test_a_disabled_row_says_why(form: Form) -> None:
    row = form.rows["blur"]
    form.set_enabled("blur", False, "This model returns noisy volumes")
    assert not row.view.isEnabled() and not row.widget.native.isEnabled()
    widgets = (row.label, row.view, row.widget.native)  # one may lie on the other
    assert {widget.toolTip() for widget in widgets} == {"This model returns noisy volumes"}
    form.set_enabled("blur", True)
    assert row.view.isEnabled() and {widget.toolTip() for widget in widgets} == {"Extra blur"}


def test_every_row_has_help_and_fits_320_pixels(form: Form, qtbot: Any) -> None:
    for name in FIELDS:
        assert form.rows[name].widget.native.toolTip() == knob_of(form.state, name).tooltip
    assert form.rows["blur"].label.text() == "Blur (um)"
    font = form.font()
    font.setPointSizeF(font.pointSizeF() * 1.5)
    form.setFont(font)
    form.resize(300, 400)
    assert form.minimumSizeHint().width() <= 300


def test_two_forms_of_one_state_agree(form: Form, state: State, qtbot: Any) -> None:
    other = make_form(state, ("count",))
    qtbot.addWidget(other)
    form.rows["count"].widget.value = 7
    assert shown(other, "count") == 7
    other.disconnect_state()
    state.count = 4
    assert shown(form, "count") == 4 and shown(other, "count") == 7
    other.rows["count"].widget.value = 6
    assert state.count == 4


def test_scrolling_over_a_number_does_not_change_it(form: Form, state: State, qtbot: Any) -> None:
    native = form.rows["count"].widget.native
    wheel = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(), QPoint(0, 120), Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(native, wheel)
    assert state.count == 2 == shown(form, "count")


# --- values that start as None ----------------------------------------------------------------------------------------


@dataclass
class Free:
    offset: float | None = knob(None, label="Offset", tooltip="Any number", step=1.0, nullable="measured")
    gain: float | None = knob(None, label="Gain", tooltip="Above 0", min=1e-5, decimals=3, nullable="measured")
    tile: int | None = knob(None, label="Tile", tooltip="Voxels", min=8, max=64, nullable="automatic", start=32)
    below: int | None = knob(None, label="Below", tooltip="Below 0", max=-2, nullable="none")

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()


def test_a_value_that_is_switched_on_starts_where_it_makes_sense(qtbot: Any) -> None:
    state = Free()
    form = make_form(state, ("offset", "gain", "tile", "below"))
    qtbot.addWidget(form)
    for row in form.rows.values():
        row.switch.setChecked(True)
    assert (state.offset, state.gain, state.tile, state.below) == (0.0, 1e-5, 32, -2)
    assert form.rows["gain"].widget.native.minimum() == 1e-5  # not rounded to 0


def states() -> list[Any]:
    from napari_vqldm.plugin.state.interpolate import InterpolateState
    from napari_vqldm.plugin.state.reconstruct import ReconstructState
    from napari_vqldm.plugin.state.sample import SampleState

    return [ReconstructState, SampleState, InterpolateState]


@pytest.mark.parametrize("kind", states())
def test_numbers_of_the_dock_start_within_what_they_mean(kind: Any, qtbot: Any) -> None:
    state = kind()
    names = [field.name for field in dataclasses.fields(state) if field.metadata and getattr(state, field.name) is None]
    form = make_form(state, names)
    qtbot.addWidget(form)
    assert names
    for name, row in form.rows.items():
        row.switch.setChecked(True)
        value = getattr(state, name)
        if not isinstance(value, str):
            assert row.knob.min is None or value >= row.knob.min
            assert -1e6 < value < 1e7


def test_intensities_of_an_image_between_0_and_1_can_be_typed(qtbot: Any) -> None:
    from napari_vqldm.plugin.state.reconstruct import ReconstructState
    from napari_vqldm.tiles import MAX_VOXELS

    state = ReconstructState()
    form = make_form(state, ("background", "scale", "max_voxels"))
    qtbot.addWidget(form)
    for row in form.rows.values():
        row.switch.setChecked(True)
    assert (state.background, state.scale, state.max_voxels) == (0.0, 1.0, MAX_VOXELS)
    for name, text in (("background", "0.0341"), ("scale", "0.0025")):
        native = form.rows[name].widget.native
        native.selectAll()
        qtbot.keyClicks(native, text)
        qtbot.keyClick(native, Qt.Key.Key_Return)
    assert (state.background, state.scale) == (0.0341, 0.0025)
    assert state.to_request()["intensity"].scale == 0.0025
