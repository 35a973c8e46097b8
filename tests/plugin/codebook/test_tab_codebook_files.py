"""Channels of an ldm in the Codebook tab; tables, pictures and programs that it writes."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import numpy as np
import pytest
from tests.plugin.codebook.conftest import SIZE, counts_of, some_codes

UM = ("um",) * 3


def blob(seed: int = 0, shape: tuple[int, int, int] = (8, 24, 20)) -> np.ndarray:
    z, y, x = np.indices(shape)
    middle = np.exp(-((z - 4) ** 2 + (y - 12) ** 2 + (x - 10) ** 2) / 20)
    return (100 * middle + np.random.default_rng(seed).normal(0, 1, shape)).astype(np.float32)


@pytest.fixture
def ldm_tab(tab, tiny_checkpoints):
    tab.desk.model.open(tiny_checkpoints["ldm"])
    return tab


def test_an_ldm_shows_its_channels(viewer, ldm_tab, idle, tiny_checkpoints, desk) -> None:
    from napari_vqldm import Volume, load
    from napari_vqldm.inside.channels import channel_report

    tab, box = ldm_tab, ldm_tab.channels
    assert box.isVisible() and not tab.codes.isVisible() and "3 channels" in box.lead.text()
    assert not tab.tools.quantization.isVisible() and not tab.tools.picture.isVisible()
    volumes = [Volume(blob(seed), SIZE, {}, f"cell {seed}") for seed in range(2)]
    for volume in volumes:
        viewer.add_image(volume.data, scale=SIZE, units=UM, name="cell")
    viewer.add_image(np.zeros((8, 16, 16)), scale=SIZE, units=UM, name="empty")
    tab.count_all()
    idle()
    expected = channel_report(load(tiny_checkpoints["ldm"]), volumes)
    found = tab.counter.channels
    assert desk.failures == [] and found.what == "2 layers" and "empty" in tab.problems.text()
    for name in ("mean", "sd", "standardised_mean", "standardised_sd", "kl_nats"):
        assert np.allclose(getattr(found.report, name), getattr(expected, name), atol=1e-6), name
    rows = [[box.table.item(row, column).text() for column in range(7)] for row in range(box.table.rowCount())]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert [float(row[2]) for row in rows] == pytest.approx(expected.kl_nats, rel=0.01)
    assert [row[1] == "yes" for row in rows] == expected.is_active.tolist()
    assert box.warning.text() == (f"! {expected.warning}" if expected.warning else "")
    assert tab.state.found is None and len(viewer.layers) == 3


def test_a_silent_channel_is_warned_of() -> None:
    from napari_vqldm.inside.channels import ChannelReport
    from napari_vqldm.plugin.tabs.codebook.channel_work import Channels
    from napari_vqldm.plugin.tabs.codebook.channels_box import ChannelsBox

    zeros, half = np.zeros(2), np.array([False, True])
    report = ChannelReport(zeros, zeros, zeros, zeros, np.array([0.0, 2.5]), half, 10)
    box = ChannelsBox()
    box.show_channels(Channels("kl", "sha", report, "layer cell", 1))
    assert box.warning.text().startswith("! 1 of 2 channels") and "2.5 nats" in box.lead.text()
    assert [box.table.item(row, 1).text() for row in range(2)] == ["no", "yes"]
    box.show_channels(None, 2)
    assert box.warning.text() == "" and box.table.rowCount() == 0


@pytest.mark.slow
@pytest.mark.both_bindings
def test_channels_of_a_folder_and_as_layers(viewer, ldm_tab, idle, tmp_path, desk) -> None:
    from napari_vqldm import Volume, write_volume

    tab = ldm_tab
    for seed in range(3):
        write_volume(tmp_path / f"{seed}.ome.tif", Volume(blob(seed), SIZE, {}, str(seed)))
    (tmp_path / "broken.tif").write_bytes(b"II*\0 and no more")
    tab.count_folder(tmp_path)
    idle()
    assert tab.counter.channels.num_volumes == 3 and "broken.tif" in tab.problems.text() and desk.failures == []
    viewer.add_image(blob(), scale=SIZE, units=UM, name="cell")
    tab.tools.channels.click()
    idle()
    layers = viewer.layers[1:]
    assert [layer.name for layer in layers] == [f"cell (channel {k})" for k in range(3)]
    assert all(layer.data.shape == (4, 6, 5) for layer in layers)
    desk.undo.undo()
    assert len(viewer.layers) == 1


def test_the_table_and_the_picture_are_written_and_never_replaced(tab, add_codes, idle, tmp_path) -> None:
    from PIL import Image

    from napari_vqldm.errors import ConfigError, FileError

    with pytest.raises(ConfigError, match="Count first"):
        tab.save_csv(tmp_path / "codes.csv")
    with pytest.raises(ConfigError, match="Count first"):
        tab.choose(1)
    codes = some_codes()
    add_codes(codes)
    tab.count()
    idle()
    with pytest.raises(ConfigError, match="below 8"):
        tab.choose(8)
    tab.save_csv(tmp_path / "codes.csv")
    rows = list(csv.DictReader((tmp_path / "codes.csv").read_text().splitlines()))
    cells = [int(row["filament_cells"]) + int(row["background_cells"]) for row in rows]
    assert cells == counts_of(codes).tolist()
    tab.save_png(tmp_path / "plain.png")
    tab.codes.gallery_fold.set_open(True)
    idle()
    tab.save_png(tmp_path / "atoms.png")
    plain, whole = (np.asarray(Image.open(tmp_path / name)) for name in ("plain.png", "atoms.png"))
    assert len(whole) > len(plain) and np.array_equal(whole[: len(plain), : plain.shape[1]], plain)
    for save, name in ((tab.save_csv, "codes.csv"), (tab.save_png, "plain.png")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(FileError, match="exists"):
            save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_the_dialog_lets_the_user_replace_a_file(tab, add_codes, idle, tmp_path, monkeypatch, desk) -> None:
    from qtpy.QtWidgets import QFileDialog

    add_codes(some_codes())
    tab.count()
    idle()
    chosen = [str(tmp_path / "codes.csv")]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (chosen[0], ""))
    (tmp_path / "codes.csv").write_text("old")
    tab.tools.table.click()
    assert (tmp_path / "codes.csv").read_text().startswith("code,rank") and desk.failures == []
    (tmp_path / "bare.csv").write_text("old")
    chosen[0] = str(tmp_path / "bare")  # the dialog asked about "bare" alone
    tab.tools.table.click()
    assert (tmp_path / "bare.csv").read_text() == "old" and "exists" in str(desk.failures.pop())
    chosen[0] = ""
    tab.tools.table.click()
    assert desk.failures == []


def test_what_counts_a_file_is_copied_and_counts_the_same(
    viewer, tab, idle, tmp_path, monkeypatch, qtbot, planted_of
) -> None:
    from qtpy.QtWidgets import QApplication
    from tests.planted_model import planted_volume
    from tests.plugin.codebook.conftest import FACTOR

    from napari_vqldm import write_volume

    path, codes = tmp_path / "my stack.ome.tif", some_codes()
    write_volume(path, planted_volume(codes, FACTOR, "stack"))
    viewer.open(path, plugin="napari-vqldm")
    assert not tab.tools.copy.isEnabled()
    tab.count()
    idle()
    tab.tools.copy.command_action.trigger()
    words = shlex.split(QApplication.clipboard().text())
    assert words[:3] == ["napari-vqldm", "codebook", str(path)]
    assert words[words.index("--model") + 1] == str(tab.desk.model.path) and words[-2] == "--report"
    tab.tools.copy.python_action.trigger()
    names: dict[str, object] = {}
    exec(compile(QApplication.clipboard().text(), "copied", "exec"), names)
    assert names["found"].everywhere.counts.tolist() == counts_of(codes).tolist()
    tab.count_folder(tmp_path)
    idle()
    tab.tools.copy.python_action.trigger()
    exec(compile(QApplication.clipboard().text(), "copied", "exec"), names)
    assert "list_volumes" in QApplication.clipboard().text()
    assert names["found"].everywhere.counts.tolist() == counts_of(codes).tolist()


def test_a_layer_in_no_file_cannot_be_copied(tab, add_codes, idle, desk) -> None:
    add_codes(some_codes())
    tab.count()
    idle()
    tab.tools.copy.command_action.trigger()
    assert "lies in no file" in str(desk.failures.pop())


def test_the_command_reads_what_was_read() -> None:
    from napari_vqldm.errors import RecipeError
    from napari_vqldm.plugin.tabs.codebook.export import Counting
    from napari_vqldm.recipe import FileInput

    one = FileInput("a.tif", channel="mt", time=3, voxel_size_um=(0.2, 0.1, 0.1))
    words = shlex.split(Counting("vq-ldm", None, (one,)).command())
    assert words == [
        "napari-vqldm", "codebook", "a.tif", "--model", "vq-ldm", "--channel", "mt", "--time", "3", "--voxel-size",
        "0.2", "0.1", "0.1", "--report", "codebook-report",
    ]  # fmt: skip
    text = Counting("ldm", None, (one,)).python(is_continuous=True)
    assert "channel_report(model, ['a.tif']" in text and "channel='mt', time=3" in text
    folder = Counting("vq-ldm", Path("in put")).command()
    assert shlex.split(folder)[2] == "in put" and "--channel" not in folder
    with pytest.raises(RecipeError, match="one by one"):
        Counting("vq-ldm", None, (one, FileInput("b.tif"))).command()
    with pytest.raises(RecipeError, match="no file"):
        Counting("vq-ldm", None, (one, None)).command()
