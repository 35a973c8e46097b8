"""The Measure tab in a viewer: numbers, centre lines on their image, groups, files."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication
from scipy import ndimage

from napari_vqldm.plugin.compat import camera_of

if TYPE_CHECKING:
    from napari_vqldm.plugin.tabs.measure.tab import MeasureTab

SIZE = (0.2, 0.1, 0.1)


def rows_of(*rows: int, seed: int = 0) -> np.ndarray:
    """Noise with filaments along x in these rows of plane 6, each 4 voxels shorter than the one before."""
    data = np.zeros((12, 64, 64), np.float32)
    for k, row in enumerate(rows):
        data[6, row, 8 : 56 - 4 * k] = 1.0
    data = ndimage.gaussian_filter(data, (1.0, 0.9, 0.9))
    return 100.0 + 100.0 * data / data.max() + np.random.default_rng(seed).normal(0.0, 2.0, data.shape)


def add(viewer: Any, *rows: int, name: str = "cell", seed: int = 0, **arguments: Any) -> Any:
    placed = {"scale": SIZE, "units": ("um",) * 3, **arguments}
    viewer.add_image(rows_of(*rows, seed=seed).astype(np.float32), name=name, **placed)
    return viewer.layers[-1]


@pytest.fixture
def failures() -> list[Any]:
    return []


@pytest.fixture
def tab(viewer: Any, failures: list[Any], qtbot: Any) -> Iterator[MeasureTab]:
    from napari_vqldm.plugin.desk import Desk
    from napari_vqldm.plugin.tabs.measure.tab import MeasureTab

    desk = Desk(viewer)
    desk.failed.connect(failures.append)
    widget = MeasureTab(desk)
    qtbot.addWidget(widget)
    yield widget
    widget.close_tab()
    widget.close_tab()
    desk.close()


@pytest.fixture
def idle(tab: MeasureTab, wait_until: Callable[..., None]) -> Callable[[], None]:
    return lambda: wait_until(lambda: not tab.desk.runner.is_busy)


def test_a_layer_is_measured_as_in_python(
    viewer: Any, tab: MeasureTab, idle: Callable[[], None], failures: list[Any]
) -> None:
    from napari_vqldm.measure import measure
    from napari_vqldm.volume import Volume

    assert not tab.button.isEnabled() and "Open" in tab.reason.text()
    layer = add(viewer, 12, 24, 36)
    assert tab.button.isEnabled() and tab.reason.text() == ""
    tab.button.click()
    assert not tab.button.isEnabled()
    idle()
    assert failures == [] and tab.button.isEnabled()
    expected = measure(Volume(layer.data, SIZE, {}, "cell"))
    (result,) = tab.volumes_box.results
    assert result.found.numbers() == pytest.approx(expected.numbers(), nan_ok=True)
    assert tab.table.sorted_model.rowCount() == len(expected.filaments) == 3
    assert tab.volumes_box.volumes.item(0, 2).text() == "3"
    assert int(tab.histogram.counts.sum()) == 3 and "3 filaments" in tab.histogram.text.text()


@pytest.mark.parametrize("place", [{}, {"translate": (5.0, 2.0, 1.0)}, {"scale": (200.0, 100.0, 100.0)}])
def test_centre_lines_lie_on_the_image(
    viewer: Any, tab: MeasureTab, idle: Callable[[], None], place: dict[str, Any]
) -> None:
    units = ("nm",) * 3 if "scale" in place else ("um",) * 3
    layer = add(viewer, 20, 40, units=units, **place)
    tab.measure()
    idle()
    lines = viewer.layers[-1]
    assert lines.name == "cell (centre lines)"
    starts = np.array([layer.world_to_data(lines.data_to_world(start)) for start in lines.data[:, 0]])
    smooth = ndimage.gaussian_filter(layer.data, 0.5)
    assert ndimage.map_coordinates(smooth, starts.T, order=1).mean() > 140.0
    assert set(np.rint(starts[:, 1]).astype(int)) <= {19, 20, 21, 39, 40, 41}
    assert [str(unit) for unit in lines.units] == [str(unit) for unit in layer.units]
    numbers = lines.features.groupby("filament")["length_um"].first()
    assert np.allclose(numbers, tab.volumes_box.results[0].found.column("length_um"))


def test_every_plane_shows_the_pieces_that_lie_in_it(tab: MeasureTab) -> None:
    """No piece of a steep line is longer than half a voxel, and together they are the whole line."""
    from types import SimpleNamespace

    from napari_vqldm.plugin.tabs.measure.work import segments_of

    line = np.array([(1.0, 2.0, 3.0), (7.3, 4.0, 3.5), (7.3, 4.0, 9.0)])
    segments, owner = segments_of(SimpleNamespace(lines_in_voxels=lambda: [line, line + 1.0]))  # type: ignore[arg-type]
    assert np.abs(segments[:, 1]).max() <= 0.5 + 1e-6
    mine = segments[owner == 0]
    assert np.allclose(mine[0, 0], line[0]) and np.allclose(mine[-1].sum(axis=0), line[-1], atol=1e-5)
    assert np.allclose(mine[1:, 0], mine[:-1].sum(axis=1), atol=1e-5)
    assert set(np.rint(mine[:, 0, 0])) == set(range(1, 8))


def test_a_row_centres_the_view_on_its_filament(viewer: Any, tab: MeasureTab, idle: Callable[[], None]) -> None:
    add(viewer, 12, 24, 48, translate=(1.0, 0.0, 0.0))
    tab.measure()
    idle()
    found, lines = tab.volumes_box.results[0].found, viewer.layers[-1]
    tab.table.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    model = tab.table.sorted_model
    shown = [model.data(model.index(row, 1), Qt.ItemDataRole.UserRole) for row in range(3)]
    assert shown == sorted(found.column("length_um"), reverse=True)
    for ndisplay in (2, 3):
        viewer.dims.ndisplay = ndisplay
        tab.table.setCurrentIndex(model.index(2 if ndisplay == 2 else 0, 0))
        longest = ndisplay == 3
        row = int(np.argmax(found.column("length_um")) if longest else np.argmin(found.column("length_um")))
        middle_y = float(np.mean(found.lines_in_world()[row][:, 1]))
        assert camera_of(viewer).center[1] == pytest.approx(middle_y, abs=0.15)
        assert viewer.dims.point[0] == pytest.approx(1.0 + 6 * 0.2, abs=0.25)
        colours = np.unique(np.asarray(lines.edge_color)[lines.features["filament"] == row + 1], axis=0)
        assert len(colours) == 1 and len(np.unique(np.asarray(lines.edge_color), axis=0)) == 2
    tab.measure()  # another result is shown: nothing of this one is chosen any more
    idle()
    assert len(np.unique(np.asarray(lines.edge_color), axis=0)) == 1


def test_groups_are_compared(viewer: Any, tab: MeasureTab, idle: Callable[[], None]) -> None:
    for seed, rows in enumerate([(12, 24, 36, 48), (10, 22, 34, 46), (20, 40), (22, 42)]):
        add(viewer, *rows, name=f"cell {seed}", seed=seed)
    tab.measure_all()
    idle()
    box = tab.volumes_box
    assert [result.found.name for result in box.results] == [f"cell {k}" for k in range(4)]
    assert "group A and group B" in box.hint.text() and not box.compared.rowCount()
    for row, index in enumerate((1, 1, 2, 2)):
        box.volumes.cellWidget(row, 1).setCurrentIndex(index)
    assert box.comparison is not None and (box.comparison.num_a, box.comparison.num_b) == (2, 2)
    density = box.comparison.row("length_density_um_per_um3")
    assert density.ratio == pytest.approx(2.0, rel=0.15)
    row = box.comparison.rows.index(density)
    box.compared.setCurrentCell(row, 0)
    assert box.sentence.text() == density.sentence and box.hint.text() == ""
    assert box.compared.item(row, 3).text() == f"{density.ratio:.3g}"
    plot = tab.histogram
    plot.by_group.setChecked(True)
    columns = [np.concatenate([one.column("length_um") for one in box.members(group)]) for group in "AB"]
    for group, column in zip("AB", columns, strict=True):
        expected = 100.0 * np.histogram(column, plot.edges)[0] / len(column)
        assert np.array_equal(plot.group_shares[group], expected) and expected.sum() == pytest.approx(100.0)
        assert f"Group {group}" in plot.text.text() and f"{len(column)} filaments" in plot.text.text()
        assert np.array_equal(plot._steps[group].getOriginalDataset()[1], expected)
    assert not plot.bars.isVisible() and len(columns[0]) == 2 * len(columns[1])
    for row, index in ((2, 0), (3, 0)):
        box.volumes.cellWidget(row, 1).setCurrentIndex(index)
    assert plot.group_shares == {} and plot._steps == {} and plot.bars.isVisible()  # the chosen volume again
    box.volumes.cellWidget(2, 1).setCurrentIndex(2)
    assert "do not speak of a population" in box.notes.text()


def test_tables_are_saved(viewer: Any, tab: MeasureTab, idle: Callable[[], None], tmp_path: Path) -> None:
    from napari_vqldm.errors import FileError
    from napari_vqldm.files import read_centre_lines

    add(viewer, 20, 40, name="cell")
    tab.measure()
    idle()
    tab.save(tmp_path)
    back = read_centre_lines(tmp_path / "01-cell.swc").lines
    assert [len(line) for line in back] == [len(line) for line in tab.volumes_box.results[0].found.lines]
    with (tmp_path / "filaments.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["length_um"]) for row in rows] == tab.volumes_box.results[0].found.column("length_um").tolist()
    assert {row["volume"] for row in rows} == {"cell"} and not (tmp_path / "comparison.csv").exists()
    with pytest.raises(FileError, match=r"filaments\.csv and 3 more: exists already: choose another folder$"):
        tab.save(tmp_path)
    with pytest.raises(FileError, match="expected a folder that is there"):
        tab.save(tmp_path / "nowhere")


def test_tables_are_replaced_when_asked_and_never_half(
    viewer: Any, tab: MeasureTab, idle: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtWidgets import QFileDialog, QMessageBox

    from napari_vqldm.errors import FileError

    add(viewer, 20, 40, name="cell")
    tab.measure()
    idle()
    (tmp_path / "remarks.txt").write_text("mine")
    with pytest.raises(FileError, match=r"remarks\.txt"):
        tab.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["remarks.txt"]  # not a part of the tables
    asked: list[str] = []

    def answer(reply: Any) -> None:
        monkeypatch.setattr(QMessageBox, "question", lambda _parent, _title, text: (asked.append(text), reply)[1])

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    answer(QMessageBox.StandardButton.No)
    tab.save_button.click()
    assert len(asked) == 1 and "remarks.txt" in asked[0] and (tmp_path / "remarks.txt").read_text() == "mine"
    answer(QMessageBox.StandardButton.Yes)
    tab.save_button.click()
    assert (tmp_path / "remarks.txt").read_text() != "mine" and (tmp_path / "filaments.csv").exists()
    for name in ("comparison.csv", "07-gone.swc", "mine.swc"):
        (tmp_path / name).write_text("of an earlier save, or mine")
    tab.save_button.click()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "01-cell.swc",
        "filaments.csv",
        "mine.swc",
        "remarks.txt",
        "volumes.csv",
    ]


@pytest.mark.slow
@pytest.mark.both_bindings
def test_measured_again_a_layer_keeps_its_row_and_its_group(
    viewer: Any, tab: MeasureTab, idle: Callable[[], None]
) -> None:
    """Twice in a group, one volume would count as two independent ones."""
    first = add(viewer, 20, 40, name="first")
    add(viewer, 12, 24, 36, name="second", seed=1)
    tab.measure_all()
    idle()
    box = tab.volumes_box
    box.volumes.cellWidget(0, 1).setCurrentIndex(1)
    box.volumes.cellWidget(1, 1).setCurrentIndex(2)
    first.data = rows_of(10, 20, 30, 40, seed=2).astype(np.float32)
    tab.measure(first)
    idle()
    assert [(one.found.name, len(one.found.filaments), one.group) for one in box.results] == [
        ("first", 4, "A"),
        ("second", 3, "B"),
    ]
    assert tab.table.sorted_model.rowCount() == 4 and box.comparison is not None and box.comparison.num_a == 1
    assert box.sentence.text() == box.comparison.rows[0].sentence and not box.notes_fold.is_open
    box.remove_button.click()
    assert [one.found.name for one in box.results] == ["second"] and box.comparison is None
    assert tab.table.sorted_model.rowCount() == 3
    box.remove_button.click()
    assert box.results == [] and not tab.table.isVisibleTo(tab) and len(viewer.layers) == 5
    assert tab.table.sorted_model.rowCount() == 0


def test_the_time_point_and_the_channel_in_view_are_measured(
    viewer: Any, tab: MeasureTab, idle: Callable[[], None]
) -> None:
    data = np.stack([[rows_of(20), rows_of(12, 24, 36)], [rows_of(20, 40), rows_of(10, 20, 30, 40)]])
    labels = ("t", "c", "z", "y", "x")
    viewer.add_image(
        data, name="series", scale=(1, 1, *SIZE), units=(*("pixel",) * 2, *("um",) * 3), axis_labels=labels
    )
    for time, channel in ((0, 1), (1, 0)):
        viewer.dims.set_point(0, time)
        viewer.dims.set_point(1, channel)
        tab.measure()
        idle()
    assert [(one.found.name, len(one.found.filaments)) for one in tab.volumes_box.results] == [
        ("series, channel 1, time 0", 3),
        ("series, channel 0, time 1", 2),
    ]


def test_the_copied_program_and_command_measure_the_same(
    viewer: Any, tab: MeasureTab, idle: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    from typer.testing import CliRunner

    from napari_vqldm.cli.app import app
    from napari_vqldm.files import write_volume
    from napari_vqldm.volume import Volume

    monkeypatch.chdir(tmp_path)
    for number, rows in enumerate([(20, 40), (12, 24, 36)]):
        path = write_volume(tmp_path / f"cell {number}.ome.tif", Volume(rows_of(*rows, seed=number), SIZE, {}, "cell"))
        viewer.open(path, plugin="napari-vqldm")
    tab.measure_all()
    idle()
    box = tab.volumes_box
    for row in (0, 1):
        box.volumes.cellWidget(row, 1).setCurrentIndex(1 + row)
    tab.copy_button.python_action.trigger()
    script = QApplication.clipboard().text()
    made: dict[str, Any] = {}
    exec(compile(script, "copied", "exec"), made)
    for found, result in zip((*made["a"], *made["b"]), box.results, strict=True):
        assert found.numbers() == pytest.approx(result.found.numbers(), nan_ok=True)
    assert "voxel_size_um" not in script  # the files state it
    tab.copy_button.command_action.trigger()
    words = shlex.split(QApplication.clipboard().text())
    assert words[0] == "napari-vqldm" and CliRunner().invoke(app, words[1:]).exit_code == 0
    with (tmp_path / "measured" / "comparison.csv").open(newline="") as stream:
        rows_told = {row["name"]: row["ratio"] for row in csv.DictReader(stream)}
    assert float(rows_told["length_density_um_per_um3"]) == box.comparison.row("length_density_um_per_um3").ratio


def test_a_layer_without_a_file_has_no_program(
    viewer: Any, tab: MeasureTab, idle: Callable[[], None], failures: list[Any]
) -> None:
    add(viewer, 20, 40)
    tab.measure()
    idle()
    tab.copy_button.python_action.trigger()
    assert len(failures) == 1 and "'cell' lies in no file" in failures[0].cause


def test_what_does_not_fit_is_refused_before_it_is_read(
    viewer: Any, tab: MeasureTab, idle: Callable[[], None], failures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_vqldm.plugin.layers import LayerSource
    from napari_vqldm.plugin.tabs.measure import work

    read: list[str] = []
    monkeypatch.setattr(LayerSource, "read", lambda source: read.append(source.name))
    monkeypatch.setattr(work, "available_bytes", lambda: 4 * work.MIB)
    add(viewer, 20, 40)  # 49152 voxels
    assert tab.memory.text() == "About 4 MiB of memory (4 MiB free)"
    tab.measure()
    idle()
    assert read == [] and tab.volumes_box.results == [] and len(viewer.layers) == 1
    assert "takes about 4 MiB of memory" in failures[0].cause


def test_undo_takes_the_lines_away_and_the_table_says_so(
    viewer: Any, tab: MeasureTab, idle: Callable[[], None]
) -> None:
    said: list[str] = []
    tab.desk.noticed.connect(said.append)
    add(viewer, 20, 40)
    tab.measure()
    idle()
    tab.desk.undo.undo()
    assert [layer.name for layer in viewer.layers] == ["cell"]
    tab.table.setCurrentIndex(tab.table.sorted_model.index(1, 0))
    assert "centre lines is gone" in said[-1]


def test_what_cannot_be_measured_is_said(
    viewer: Any, tab: MeasureTab, idle: Callable[[], None], failures: list[Any]
) -> None:
    viewer.add_image(rows_of(20, 40), name="bare")
    assert not tab.button.isEnabled() and "no voxel size" in tab.reason.text()
    add(viewer, 20, 40)
    tab.measure(viewer.layers["bare"])  # not the one that could be measured in its place
    assert not tab.desk.runner.is_busy and "no voxel size" in failures.pop().cause
    viewer.add_image(np.zeros((8, 16, 16)), scale=SIZE, units=("um",) * 3, name="empty")
    tab.measure_all()
    idle()
    assert [result.found.name for result in tab.volumes_box.results] == ["cell"]
    assert len(failures) == 1 and "'empty'" in failures[0].cause


def test_a_cancelled_job_leaves_nothing(viewer: Any, tab: MeasureTab, idle: Callable[[], None]) -> None:
    gate = threading.Event()

    def hold(_engine: object) -> Iterator[object]:
        gate.wait(60)
        yield from ()

    add(viewer, 20, 40)
    tab.desk.run("Hold", hold)
    tab.measure()
    assert not tab.button.isEnabled()
    tab.desk.runner.waiting[-1].cancel()
    gate.set()
    idle()
    assert len(viewer.layers) == 1 and tab.volumes_box.results == [] and tab.button.isEnabled()
