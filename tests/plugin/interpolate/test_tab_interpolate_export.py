"""What leaves the Interpolate tab: lazy layers, files, scripts and commands."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.plugin.interpolate.helpers import SHAPE, SIZE, add, choose, latents, seeds, shown_t, stack

import napari_vqldm as nv
from napari_vqldm.estimate import jobs
from napari_vqldm.files import write_volume
from napari_vqldm.plugin import writers
from napari_vqldm.plugin.layer_tools import LayerTools
from napari_vqldm.plugin.layers import KEY
from napari_vqldm.plugin.tabs.interpolate import export
from napari_vqldm.volume import Volume, hash_voxels


@pytest.fixture
def tools(desk, qtbot):
    tools = LayerTools(desk)
    qtbot.addWidget(tools)
    yield tools
    tools.close_tools()


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.both_bindings
def test_export_as_a_lazy_layer_holds_the_frames_of_the_verb(viewer, encoded, model, wait_until):
    tab = encoded()
    tab.state.export_frames = 3
    tab.output.add_layer()
    wait_until(lambda: "a to b (3 frames)" in viewer.layers)
    layer = viewer.layers["a to b (3 frames)"]
    assert layer.data.shape == (3, *SHAPE)
    np.testing.assert_allclose(layer.scale, (0.5, *SIZE))
    a, b = latents(model("ldm"), viewer)
    expected = nv.interpolate(model("ldm"), a, b, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(np.asarray(layer.data), np.stack([volume.data for volume in expected]))
    record = layer.metadata[KEY]
    assert [frame["request"]["t"] for frame in record["frames"]] == [0.0, 0.5, 1.0]
    tab.desk.undo.undo()
    assert "a to b (3 frames)" not in viewer.layers


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_frame_of_the_lazy_layer_is_read_in_full_by_other_jobs(viewer, encoded, model, wait_until):
    from napari_vqldm.plugin.layers import snapshot

    tab = encoded()
    tab.state.export_frames = 3
    tab.output.add_layer()
    wait_until(lambda: "a to b (3 frames)" in viewer.layers)
    layer, found = viewer.layers["a to b (3 frames)"], []
    wait_until(lambda: layer.data.num_ready > 0)
    source = snapshot(layer, time=1)

    def work(_engine):
        yield from ()
        return source.read()

    tab.desk.run("Read", work, on_done=found.append)
    wait_until(lambda: found)
    a, b = latents(model("ldm"), viewer)
    np.testing.assert_array_equal(found[0].data, nv.interpolate(model("ldm"), a, b, 0.5).data)
    assert found[0].provenance["request"]["t"] == 0.5


@pytest.mark.slow
@pytest.mark.both_bindings
@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_a_lazy_layer_is_saved_with_all_frames_in_full(
    tmp_path, viewer, encoded, model, wait_until, tools, monkeypatch, suffix
):
    tab, notices = encoded(), []
    tab.desk.noticed.connect(notices.append)
    tab.state.export_frames = 3
    tab.output.add_layer()
    wait_until(lambda: "a to b (3 frames)" in viewer.layers)
    layer, path = viewer.layers["a to b (3 frames)"], tmp_path / f"way{suffix}"
    monkeypatch.setattr(writers, "available_bytes", lambda *_: 1)
    tools.save(layer, path)
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert "all 3 frames take" in tab.desk.failures[0].cause and list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    tools.save(layer, path)
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert notices[-1] == f"Saved {path} (3 frames)"
    a, b = latents(model("ldm"), viewer)
    for time, expected in enumerate(nv.interpolate(model("ldm"), a, b, [0.0, 0.5, 1.0])):
        back = nv.read_volume(path, time=time)
        np.testing.assert_array_equal(back.data, expected.data)
        assert back.provenance["request"]["t"] == expected.provenance["request"]["t"]
        assert tab.desk.inputs[hash_voxels(back)].time == time
    (opened,) = viewer.open(str(path), plugin="napari-vqldm")
    viewer.dims.set_point(0, 0.5)
    assert tab.desk.record_of(opened)["request"]["t"] == 0.5
    assert layer.scale[0] == 0.5 and np.allclose(opened.scale, layer.scale) and opened.units == layer.units


def test_of_a_series_of_the_user_the_frame_in_view_is_saved(tmp_path, viewer, desk, tools, wait_until):
    notices = []
    desk.noticed.connect(notices.append)
    movie = np.stack([stack(seed) for seed in range(3)])
    layer = viewer.add_image(movie, name="movie", scale=(1, *SIZE), units=("s", "um", "um", "um"))
    viewer.dims.set_point(0, 2)
    tools.save(layer, tmp_path / "movie.ome.tif")
    wait_until(lambda: not desk.runner.is_busy)
    assert notices == [f"Saved {tmp_path / 'movie.ome.tif'} (frame 2 of the series alone)"]
    np.testing.assert_array_equal(nv.read_volume(tmp_path / "movie.ome.tif").data, movie[2])


def test_export_of_sampled_frames(viewer, make_tab, wait_until):
    tab = make_tab()
    seeds(tab)
    tab.start()
    wait_until(lambda: tab._job is None)
    tab.output.add_layer()
    layer = viewer.layers["seed 3 to seed 5 (5 frames)"]
    np.testing.assert_array_equal(layer.data[2], tab.way.frames[0.5].volume.data)


@pytest.mark.parametrize("is_seeds", [False, True])
def test_export_to_files_writes_every_frame_with_its_record(tmp_path, viewer, encoded, make_tab, wait_until, is_seeds):
    if is_seeds:
        tab = make_tab()
        seeds(tab)
        tab.start()
        wait_until(lambda: tab._job is None)
    else:
        tab = encoded()
    notices = []
    tab.desk.noticed.connect(notices.append)
    tab.state.export_frames = 5
    for _ in range(2):  # the second time beside the first
        tab.output.write_to(tmp_path)
        wait_until(lambda: not tab.desk.runner.is_busy)
    stem = "seed-3-to-seed-5" if is_seeds else "a-to-b"
    assert sorted(path.name for path in tmp_path.iterdir()) == [stem, f"{stem}-2"]
    volumes = [nv.read_volume(path) for path in sorted((tmp_path / stem).iterdir())]
    assert [volume.provenance["request"]["t"] for volume in volumes] == [0.0, 0.25, 0.5, 0.75, 1.0]
    tab.play.slider.setValue(0.25)
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.25)
    np.testing.assert_array_equal(volumes[1].data, tab.view.layer.data)
    assert notices == [f"Saved {tmp_path / stem}", f"Saved {tmp_path / f'{stem}-2'}"]


@pytest.mark.parametrize("kind", ["layer", "files"])
def test_an_export_that_does_not_fit_is_refused_and_runs_anyway(
    tmp_path, viewer, encoded, wait_until, monkeypatch, kind
):
    tab = encoded()
    tab.state.export_frames = 3
    box, before = tab.output.estimate, len(viewer.layers)
    monkeypatch.setattr(jobs, "available_bytes", lambda *_: 1)
    tab.output.add_layer() if kind == "layer" else tab.output.write_to(tmp_path)
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert "Nothing was started." in box.text and "does not fit" in box.text and not box.anyway_button.isHidden()
    assert len(viewer.layers) == before and list(tmp_path.iterdir()) == []
    box.anyway_button.click()
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert box.anyway_button.isHidden() and tab.desk.failures == []
    if kind == "layer":
        assert len(viewer.layers) == before + 1
    else:
        assert len(list((tmp_path / "a-to-b").iterdir())) == 3


@pytest.mark.slow
@pytest.mark.both_bindings
def test_the_estimate_of_an_export_is_that_of_its_frames(encoded, shown_of, wait_until, monkeypatch, model):
    ask_of = export.writing_ask

    def counted(num, *grid):
        return lambda *asked: dataclasses.replace(ask_of(num, *grid)(*asked), lines=(f"about {num} frames",))

    monkeypatch.setattr(export, "writing_ask", counted)
    monkeypatch.setattr(jobs, "available_bytes", lambda *_: 2**34)
    tab = shown_of(encoded())
    tab.state.export_frames = 3
    wait_until(lambda: tab.output.estimate.text == "To files: about 3 frames")
    few = tab.output._ask()(model("ldm"), "fp32", None)
    tab.state.export_frames = 101
    wait_until(lambda: tab.output.estimate.text == "To files: about 101 frames")
    many = tab.output._ask()(model("ldm"), "fp32", None)
    assert many.seconds == pytest.approx(few.seconds * 101 / 3) and many.memory_bytes == few.memory_bytes
    tab._drop_way()
    wait_until(lambda: tab.output.estimate.text == "")


def test_sampled_frames_that_do_not_fit_twice_become_no_layer(viewer, make_tab, wait_until, monkeypatch):
    tab = make_tab()
    seeds(tab)
    tab.start()
    wait_until(lambda: tab._job is None)
    before = len(viewer.layers)
    monkeypatch.setattr(export, "available_bytes", lambda *_: 1)
    tab.output.add_layer()
    assert len(viewer.layers) == before and "xport to files" in tab.desk.failures[0].remedy


def test_a_cancelled_export_leaves_nothing(tmp_path, encoded, wait_until):
    tab = encoded()
    tab.state.export_frames = 101
    tab.output.write_to(tmp_path)
    wait_until(lambda: any(tmp_path.iterdir()))
    tab.desk.runner.cancel_all()
    wait_until(lambda: not tab.desk.runner.is_busy)
    assert list(tmp_path.iterdir()) == []


def test_lazy_layers_survive_the_dock(viewer, encoded, wait_until):
    tab = encoded()
    tab.output.add_layer()
    wait_until(lambda: "a to b (9 frames)" in viewer.layers)
    layer = viewer.layers["a to b (9 frames)"]
    wait_until(lambda: layer.data.num_ready > 0)
    tab.close_tab()
    tab.desk.close()
    viewer.dims.set_point(0, 1.0)  # frames that are not there stay previews
    assert "some frames are previews" in layer.name


# --- copy -------------------------------------------------------------------------------------------------------------


def run_script(text: str, folder: Path) -> None:
    result = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_copied_python_gives_the_same_bits_in_a_new_process(tmp_path, viewer, make_tab, wait_until):
    for name, seed in (("a", 1), ("b", 2)):
        write_volume(tmp_path / f"{name}.ome.tif", Volume(stack(seed), SIZE, {}, name))
        viewer.open(tmp_path / f"{name}.ome.tif", plugin="napari", name=name, scale=SIZE, units=("um",) * 3)
    tab = make_tab("vq-ldm")
    choose(tab, viewer, "a", "b")
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    tab.play.slider.setValue(0.5)
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.5)
    tab.state.export_frames = 3
    save = "\nnv.write_volume('frame.ome.tif', volume)\n"
    run_script(tab.output._frame_python() + save + tab.output._export_python(), tmp_path)
    for name in ("frame.ome.tif", "a-to-b-001.ome.tif"):
        np.testing.assert_array_equal(nv.read_volume(tmp_path / name).data, tab.view.layer.data)


@pytest.mark.parametrize("part", ["frame", "export"])
def test_copied_commands_give_the_same_bits(tmp_path, monkeypatch, make_tab, wait_until, part):
    import shlex

    from napari_vqldm.cli import run

    tab = make_tab()
    seeds(tab)
    tab.state.steps = 2
    before = tab.output._frame_command() if part == "frame" else tab.output._export_command()
    tab.start()
    wait_until(lambda: tab._job is None)
    tab.play.slider.setValue(0.5 if part == "export" else 0.0)
    monkeypatch.chdir(tmp_path)
    for line in before.splitlines():
        assert run(shlex.split(line)[1:]) == 0
    written = sorted(path for path in tmp_path.rglob("*.ome.tif"))
    name = written[len(written) // 2]
    np.testing.assert_array_equal(nv.read_volume(name).data, tab.view.layer.data)


@pytest.mark.parametrize("is_windows", [False, True])
def test_copied_commands_quote_names_for_the_shell(viewer, make_tab, monkeypatch, wait_until, is_windows):
    from napari_vqldm.recipe import FileInput, shell

    monkeypatch.setattr(shell, "_IS_WINDOWS", is_windows)
    add(viewer, "é", 1)
    add(viewer, "b", 2)
    tab = make_tab()
    choose(tab, viewer, "é", "b")
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    for end in (tab.way.way.a, tab.way.way.b):
        tab.desk.remember_input(end.voxels_sha256, FileInput("my end.ome.tif"))
    *_, last = tab.output._export_command().splitlines()
    assert " --frames 9 " in last
    assert last.endswith('--out "é-to-b"' if is_windows else "--out 'é-to-b'")
    assert ('"my end.ome.tif"' if is_windows else "'my end.ome.tif'") in tab.output._frame_command()


def test_copy_before_anything_was_encoded_says_what_to_do(viewer, make_tab):
    add(viewer, "a", 1)
    add(viewer, "b", 2)
    tab = make_tab()
    tab.output.copy_frame.python_action.trigger()
    assert "not encoded yet" in tab.desk.failures[0].cause
