"""The small widgets: each tells what it should, at any width, and lets go of what it watched."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QWidget

from napari_vqldm.errors import VolumeError
from napari_vqldm.plugin.inference.failures import Failure
from napari_vqldm.plugin.widgets import CopyButton, ErrorPanel, HelpLabel, LayerPicker, ProgressRow, SeedBox
from napari_vqldm.plugin.widgets.progress_row import format_seconds

NARROW = 320
LONG = "the stack has 512 x 2048 x 2048 voxels and takes about 128 GiB of memory, of which 12.3 GiB are free " * 2


@pytest.fixture
def model() -> Any:
    from napari.components import ViewerModel

    return ViewerModel()


def add(model: Any, name: str, *shape: int) -> Any:
    return model.add_image(np.zeros(shape or (3, 4, 4), np.float32), name=name, contrast_limits=(0, 1))


def shown(qtbot: Any, widget: Any, width: int = NARROW) -> Any:
    qtbot.addWidget(widget)
    widget.resize(width, 200)
    widget.show()
    return widget


# --- errors -----------------------------------------------------------------------------------------------------------


def test_the_error_panel_shows_cause_remedy_and_report(qtbot: Any) -> None:
    panel = ErrorPanel()
    qtbot.addWidget(panel)
    assert panel.isHidden()
    panel.show_failure(Failure("Memory ran out", "Choose a smaller region", "napari 0.9\nTraceback"))
    assert not panel.isHidden() and (panel.cause.text(), panel.remedy.text()) == (
        "Memory ran out",
        "Choose a smaller region",
    )
    qtbot.mouseClick(panel.copy_button, Qt.MouseButton.LeftButton)
    assert QApplication.clipboard().text() == "napari 0.9\nTraceback"
    qtbot.mouseClick(panel.dismiss_button, Qt.MouseButton.LeftButton)
    assert panel.isHidden() and panel.report == ""


def test_the_error_panel_shows_exceptions_and_no_cancelled_jobs(qtbot: Any) -> None:
    panel = ErrorPanel()
    qtbot.addWidget(panel)
    panel.show_failure(Failure("Cancelled", "", "", is_cancelled=True))
    assert panel.isHidden()
    panel.show_error(VolumeError("'cell' states no voxel size: give it in micrometres"))
    assert "no voxel size" in panel.cause.text() and "ive it" in panel.remedy.text()
    assert "VolumeError" in panel.report
    panel.show_text("another")
    assert panel.remedy.isHidden() and panel.report == "another"


@pytest.mark.parametrize("zoom", [1.0, 2.0])
def test_long_errors_wrap_in_a_narrow_dock(qtbot: Any, zoom: float) -> None:
    panel = shown(qtbot, ErrorPanel(), round(NARROW * zoom))
    font = panel.font()
    font.setPointSizeF(font.pointSizeF() * zoom)
    panel.setFont(font)
    panel.show_text(LONG, LONG)
    assert panel.minimumSizeHint().width() <= NARROW * zoom
    assert panel.cause.heightForWidth(300) > 2 * panel.cause.fontMetrics().height()
    assert panel.cause.font().bold() and not panel.remedy.font().bold()


def test_text_of_others_is_never_markup(qtbot: Any) -> None:
    panel = shown(qtbot, ErrorPanel())
    panel.show_text("<b>layer</b> & <img src=x>")
    assert panel.cause.textFormat() == Qt.TextFormat.PlainText


def test_help_takes_no_room_while_it_is_empty(qtbot: Any) -> None:
    parent = shown(qtbot, QWidget())
    label = HelpLabel(parent=parent)
    assert label.isHidden()
    label.setText(LONG)
    assert not label.isHidden() and label.wordWrap()
    label.setText("")
    assert label.isHidden()


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_is_indeterminate_then_counts(qtbot: Any) -> None:
    row = ProgressRow()
    qtbot.addWidget(row)
    assert row.isHidden()
    row.start("Sample 2 volumes")
    assert not row.isHidden() and (row.bar.minimum(), row.bar.maximum()) == (0, 0)
    row.update_progress(3, 40, "Denoising", 65.0)
    assert (row.bar.value(), row.bar.maximum()) == (3, 40)
    assert "Sample 2 volumes" in row.text and "Denoising" in row.text and "1:05 min left" in row.text
    row.update_progress(5, 0)
    assert (row.bar.minimum(), row.bar.maximum()) == (0, 0) and "left" not in row.text
    row.stop()
    assert row.isHidden()


def test_cancel_is_told_once_and_works_again_for_the_next_job(qtbot: Any) -> None:
    row = shown(qtbot, ProgressRow())
    heard: list[int] = []
    row.cancelled.connect(lambda: heard.append(1))
    for expected in (1, 2):
        row.start("Sample")
        qtbot.mouseClick(row.cancel_button, Qt.MouseButton.LeftButton)
        qtbot.mouseClick(row.cancel_button, Qt.MouseButton.LeftButton)
        assert len(heard) == expected and not row.cancel_button.isEnabled() and not row.isHidden()
        row.stop()


def test_progress_fits_a_narrow_dock(qtbot: Any) -> None:
    row = shown(qtbot, ProgressRow())
    row.start(LONG)
    assert row.minimumSizeHint().width() <= NARROW
    assert row.text.startswith(LONG[:50])


@pytest.mark.parametrize(
    "seconds, text", [(-3, "0 s"), (8.4, "8 s"), (59.6, "1:00 min"), (65, "1:05 min"), (7800, "2:10 h")]
)
def test_times_are_told_as_people_say_them(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


# --- copy -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.both_bindings
def test_copy_puts_the_text_on_the_clipboard_and_says_so(qtbot: Any) -> None:
    button = shown(qtbot, CopyButton(lambda: "import napari_vqldm as nv", lambda: "napari-vqldm generate"))
    button.python_action.trigger()
    assert QApplication.clipboard().text() == "import napari_vqldm as nv" and button.text() == "Copied"
    button.command_action.trigger()
    assert QApplication.clipboard().text() == "napari-vqldm generate"
    qtbot.waitUntil(lambda: button.text() == "Copy", timeout=5000)


def test_copy_tells_why_it_cannot_and_leaves_the_clipboard(qtbot: Any) -> None:
    def refuse() -> str:
        raise VolumeError("the input lies in no file: save it first")

    button, panel = shown(qtbot, CopyButton(refuse)), shown(qtbot, ErrorPanel())
    button.failed.connect(panel.show_error)
    QApplication.clipboard().setText("before")
    button.python_action.trigger()
    assert QApplication.clipboard().text() == "before" and button.text() == "Copy"
    assert "lies in no file" in panel.cause.text() and "ave it first" in panel.remedy.text()


# --- seed -------------------------------------------------------------------------------------------------------------


def test_seeds_of_64_bits_can_be_typed(qtbot: Any) -> None:
    box = shown(qtbot, SeedBox(3))
    heard: list[int] = []
    box.seed_changed.connect(heard.append)
    box.edit.selectAll()
    qtbot.keyClicks(box.edit, "9223372036854775807")
    qtbot.keyClick(box.edit, Qt.Key.Key_Return)
    assert box.seed == 2**63 - 1 and heard == [2**63 - 1]
    box.edit.selectAll()
    qtbot.keyClicks(box.edit, "9223372036854775808")  # the last digit is refused
    assert box.edit.text() == "922337203685477580"
    box.edit.selectAll()
    qtbot.keyClicks(box.edit, "-1x2")
    assert box.edit.text() == "12"


def test_an_empty_seed_goes_back_to_the_last_one(qtbot: Any) -> None:
    box = shown(qtbot, SeedBox(3))
    box.edit.clear()
    qtbot.keyClick(box.edit, Qt.Key.Key_Return)
    box.keep_box.setFocus()
    QApplication.processEvents()
    box._on_edited()  # what leaving the field does; without a window manager the focus may not move
    assert box.edit.text() == "3" and box.seed == 3


def test_rolling_always_gives_another_seed_and_keep_holds_it(qtbot: Any) -> None:
    box = shown(qtbot, SeedBox(3))
    seeds = [box.seed]
    for _ in range(50):
        qtbot.mouseClick(box.roll_button, Qt.MouseButton.LeftButton)
        seeds.append(box.seed)
        assert box.edit.text() == str(box.seed)
    assert all(a != b for a, b in itertools.pairwise(seeds))
    assert box.next_seed() == seeds[-1]  # what is shown, once
    used = [seeds[-1], *(box.next_seed() for _ in range(5))]
    assert all(a != b for a, b in itertools.pairwise(used)) and box.seed == used[-1]
    box.keep_box.setChecked(True)
    kept = box.seed
    assert box.next_seed() == box.next_seed() == kept
    box.keep_box.setChecked(False)
    assert box.next_seed() != kept  # used while it was kept
    with pytest.raises(ValueError, match="expected a seed"):
        box.seed = -1
    assert box.minimumSizeHint().width() <= NARROW


# --- layers -----------------------------------------------------------------------------------------------------------


def texts(picker: LayerPicker) -> list[str]:
    return [picker.itemText(i) for i in range(picker.count())]


def test_the_picker_follows_the_layer_list(qtbot: Any, model: Any) -> None:
    picker = shown(qtbot, LayerPicker(model))
    heard: list[Any] = []
    picker.layer_changed.connect(heard.append)
    assert picker.layer is None and texts(picker) == ["no image layer"]
    a, b = add(model, "a"), add(model, "b")
    model.add_labels(np.zeros((3, 4, 4), int), name="labels")
    assert texts(picker) == ["b", "a"] and picker.layer is a and heard == [a]  # the choice is not taken away
    picker.setCurrentIndex(0)
    assert picker.layer is b and heard == [a, b]
    b.name = "renamed"
    assert texts(picker) == ["renamed", "a"] and picker.layer is b and heard == [a, b]
    model.layers.remove(b)
    assert picker.layer is a and heard == [a, b, a]
    model.layers.clear()
    assert picker.layer is None and heard == [a, b, a, None]


def test_unusable_layers_are_listed_with_the_reason_and_cannot_be_chosen(qtbot: Any, model: Any) -> None:
    picker = shown(qtbot, LayerPicker(model))
    flat = add(model, "flat", 8, 8)
    assert texts(picker) == ["flat"] and picker.layer is None
    assert "2D" in picker.itemData(0, Qt.ItemDataRole.ToolTipRole)
    good = add(model, "good")
    assert picker.layer is good
    picker.choose(flat)
    assert picker.layer is good
    flat.data = np.zeros((5, 8, 8), np.float32)  # now it is a stack
    picker.choose(flat)
    assert picker.layer is flat


def test_the_picker_keeps_nothing_alive_and_lets_go(qtbot: Any, model: Any) -> None:
    picker = shown(qtbot, LayerPicker(model))
    layer = add(model, "a")
    watched = weakref.ref(layer)
    model.layers.clear()
    model.layers.selection.clear()
    del layer
    gc.collect()
    assert watched() is None and picker.layer is None
    picker.disconnect_viewer()
    add(model, "b")
    assert texts(picker) == ["no image layer"]


def test_a_deleted_picker_does_not_disturb_the_viewer(qtbot: Any, model: Any) -> None:
    picker = LayerPicker(model)
    add(model, "a")
    picker.deleteLater()
    qtbot.wait(10)
    add(model, "b").name = "c"
    del picker
    gc.collect()
    add(model, "d")
    assert [layer.name for layer in model.layers] == ["a", "c", "d"]


def test_long_names_do_not_widen_the_dock(qtbot: Any, model: Any) -> None:
    picker = shown(qtbot, LayerPicker(model))
    add(model, LONG)
    assert picker.minimumSizeHint().width() <= NARROW
