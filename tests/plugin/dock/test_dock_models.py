"""Models that the dock opens: good, bad, dropped on it, deleted or changed in the middle of a run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication
from tests.plugin.dock.helpers import SHAPE, SIZE, Wait, generate, names, notices_of, use

from napari_vqldm.card import METADATA_KEY
from napari_vqldm.plugin.dock import dock_of
from napari_vqldm.plugin.settings import PLUGIN

if TYPE_CHECKING:
    import napari

    from napari_vqldm.plugin.dock import Dock


def failures_of(dock: Dock) -> list[Any]:
    heard: list[Any] = []
    dock.desk.failed.connect(heard.append)
    return heard


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_model_whose_file_is_deleted_goes_on_and_says_so(
    shown_dock: Dock, tiny_checkpoints: dict[str, Path], tmp_path: Path, wait_until: Wait
) -> None:
    copy = Path(shutil.copy(tiny_checkpoints["ldm"], tmp_path / "mine.safetensors"))
    dock, viewer = use(shown_dock, copy), shown_dock.desk.viewer
    heard, failures = notices_of(dock), failures_of(dock)
    generate(dock, wait_until)
    copy.unlink()
    dock.sample_tab.state.seed = 7
    dock.sample_tab.seed_box.keep_box.setChecked(True)
    generate(dock, wait_until)
    generate(dock, wait_until)
    assert failures == [] and len(viewer.layers) == 3
    assert [note for note in heard if "is gone from its folder" in note] == [
        "mine.safetensors is gone from its folder: the loaded model stays in use"
    ]
    np.testing.assert_array_equal(viewer.layers[1].data, viewer.layers[2].data)
    dock.tools.free_button.click()
    wait_until(lambda: not dock.desk.runner.is_busy)
    generate(dock, wait_until)
    assert len(viewer.layers) == 3  # now it cannot be loaded again
    assert dock.errors.isVisible() and "mine.safetensors" in dock.errors.cause.text()


def newer(folder: Path, source: Path) -> Path:
    data = source.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    content = json.loads(header["__metadata__"][METADATA_KEY])
    header["__metadata__"][METADATA_KEY] = json.dumps({**content, "format_version": 99})
    text = json.dumps(header).encode()
    path = folder / "newer.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


class _Bomb:
    """A pickle that leaves a file behind when somebody loads it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def pickled(folder: Path, _source: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(pickle.dumps(_Bomb(folder / "loaded")))
    return path


def torch_file(folder: Path, _source: Path) -> Path:
    path = folder / "model.pt"
    path.write_bytes(pickle.dumps(_Bomb(folder / "loaded")))
    return path


def truncated(folder: Path, source: Path) -> Path:
    path = folder / "half.safetensors"
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    return path


def a_stack(folder: Path, _source: Path) -> Path:
    from napari_vqldm.files import write_volume
    from napari_vqldm.volume import Volume

    return write_volume(folder / "stack.ome.tif", Volume(np.random.default_rng(0).normal(size=SHAPE), SIZE, {}, "s"))


def missing(folder: Path, _source: Path) -> Path:
    return folder / "nowhere.safetensors"


def a_folder(folder: Path, _source: Path) -> Path:
    path = folder / "folder.safetensors"
    path.mkdir()
    return path


BAD_MODELS = {
    "newer format": (newer, "upgrade"),
    "pickle": (pickled, "model.safetensors"),
    "torch file": (torch_file, "model.pt"),
    "truncated": (truncated, "half.safetensors"),
    "wrong suffix": (a_stack, "stack.ome.tif"),
    "missing": (missing, "nowhere.safetensors"),
    "folder": (a_folder, "folder.safetensors"),
}


def test_a_bad_model_is_one_message_and_the_earlier_one_stays(
    dock: Dock, tiny_checkpoints: dict[str, Path], tmp_path: Path, wait_until: Wait
) -> None:
    use(dock, tiny_checkpoints["ldm"])
    before, heard = dock.header.text(), failures_of(dock)
    for case, (make, words) in BAD_MODELS.items():
        dock.open_model(make(tmp_path, tiny_checkpoints["vq-ldm"]))
        (failure,) = heard
        shown = f"{failure.cause} {failure.remedy}"
        assert words in shown.lower() and "\n" not in shown and failure.remedy, case
        assert "Traceback" not in shown and "Unexpected" not in shown
        assert not (tmp_path / "loaded").exists()
        assert (dock.errors.cause.text(), dock.errors.remedy.text()) == (failure.cause, failure.remedy)
        assert dock.header.text() == before and dock.desk.model.path == tiny_checkpoints["ldm"]
        heard.clear()
        generate(dock, wait_until)
        assert len(dock.desk.viewer.layers) == 1 and not dock.errors.cause.text()
        dock.desk.viewer.layers.clear()


@pytest.mark.parametrize("case", ["newer format", "truncated"])
def test_a_bad_model_that_is_dropped_on_the_viewer_is_explained_in_the_dock(
    dock: Dock, tiny_checkpoints: dict[str, Path], tmp_path: Path, case: str
) -> None:
    heard = failures_of(dock)
    path = BAD_MODELS[case][0](tmp_path, tiny_checkpoints["ldm"])
    assert dock.desk.viewer.open(str(path), plugin=PLUGIN) == []
    (failure,) = heard
    assert BAD_MODELS[case][1] in f"{failure.cause} {failure.remedy}".lower()
    assert dock.desk.model.name == "ldm"


def test_a_checkpoint_can_be_opened_through_the_viewer_without_a_dock(
    viewer: napari.Viewer, tiny_checkpoints: dict[str, Path]
) -> None:
    assert viewer.open(str(tiny_checkpoints["ldm"]), plugin=PLUGIN) == []
    dock = dock_of(viewer)
    assert dock is not None and dock.desk.model.path == tiny_checkpoints["ldm"]
    assert dock.header.text().startswith("tiny-ldm · ldm") and len(viewer.layers) == 0


def drop(dock: Dock, path: Path) -> bool:
    """Drag a file over the dock and drop it; return whether the dock wants it."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    keys = (Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    entering = QDragEnterEvent(QPoint(5, 5), *keys)
    entering.ignore()  # as Qt sends it
    QApplication.sendEvent(dock, entering)
    if not entering.isAccepted():
        return False
    dropping = QDropEvent(QPointF(5, 5), *keys)
    QApplication.sendEvent(dock, dropping)
    return dropping.isAccepted()


def test_a_checkpoint_dropped_on_the_dock_is_opened(
    dock: Dock, tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    dock.show_tab("Sample")
    assert drop(dock, tiny_checkpoints["vq-ldm"])
    assert dock.header.text().startswith("tiny-vq-ldm") and dock.tabs.currentIndex() == 0
    assert not drop(dock, tmp_path / "stack.tif")  # left to the viewer
    assert dock.header.text().startswith("tiny-vq-ldm")


@pytest.mark.slow
def test_another_model_in_the_middle_of_a_run_is_for_the_next_run(
    ready: Dock, tiny_checkpoints: dict[str, Path], wait_until: Wait
) -> None:
    ready.sample_tab.state.count, ready.sample_tab.state.steps = 2, 40
    ready.sample_tab.button.click()
    ready.open_model(tiny_checkpoints["vq-ldm"])
    wait_until(lambda: not ready.desk.runner.is_busy)
    generate(ready, wait_until)
    assert [name.rsplit("-seed", 1)[0] for name in names(ready.desk.viewer)] == ["tiny-ldm"] * 2 + ["tiny-vq-ldm"]
