"""The Interpolate tab where memory runs out: smaller tiles, said and recorded, and the same bits where it fits."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tests.plugin.interpolate.helpers import SHAPE, add, choose, latents, lose_memory, shown_t

import napari_vqldm as nv
from napari_vqldm.plugin.layers import KEY, provenance_of, snapshot
from napari_vqldm.tiles import MAX_VOXELS

WHOLE = SHAPE[0] * SHAPE[1] * SHAPE[2]
FEW = 2**10  # fewer than a stack has: it is decoded in two tiles or more


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch) -> None:
    """Stacks of tests are small, and so are the smallest tiles."""
    from napari_vqldm import memory

    assert FEW < WHOLE
    monkeypatch.setattr(memory.with_smaller_tiles, "__defaults__", (FEW,))
    monkeypatch.setattr(memory, "free_memory", lambda: None)  # collects garbage, half a second each time


@pytest.fixture
def notes(desk) -> list[str]:
    found: list[str] = []
    desk.runner.noted.connect(lambda _job, text: found.append(text))
    return found


def told(notes: list[str]) -> list[str]:
    return [note for note in notes if "Memory ran out" in note]


@pytest.mark.slow
@pytest.mark.both_bindings
def test_ends_are_decoded_in_smaller_tiles_and_frames_start_with_these(
    viewer, make_tab, model, monkeypatch, wait_until, notes
):
    tried = lose_memory(monkeypatch, FEW)
    add(viewer, "a", 1)
    add(viewer, "b", 2)
    tab = make_tab()
    choose(tab, viewer, "a", "b")
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    halves = [MAX_VOXELS >> n for n in range((MAX_VOXELS // FEW).bit_length())]
    assert tried == [*halves, FEW]  # the end at t = 1 need not find out again
    assert len(told(notes)) == len(halves) - 1 and f"{FEW:,} voxels" in told(notes)[-1]
    tab.play.slider.setValue(0.5)
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.5)
    assert set(tried[len(halves) :]) == {FEW}
    assert tab.desk.failures == []
    request = provenance_of(tab.view.layer)["request"]
    assert request["max_voxels"] == FEW
    monkeypatch.undo()
    expected = nv.interpolate(model("ldm"), *latents(model("ldm"), viewer), 0.5, max_voxels=FEW)
    np.testing.assert_array_equal(tab.view.layer.data, expected.data)


def test_what_fits_is_decoded_in_one_piece(encoded, notes):
    tab = encoded()
    assert provenance_of(tab.view.layer)["request"]["max_voxels"] == MAX_VOXELS
    assert told(notes) == []


def test_ends_are_encoded_in_smaller_tiles(viewer, make_tab, monkeypatch, wait_until, notes):
    import napari_vqldm.reconstruct as _  # noqa: F401  # its name in the package is the verb

    module = sys.modules["napari_vqldm.reconstruct"]
    steps = module.encode_steps

    def short_of_memory(*given, max_voxels: int):
        if max_voxels > FEW:
            raise MemoryError
        yield from steps(*given, max_voxels=max_voxels)

    monkeypatch.setattr(module, "encode_steps", short_of_memory)
    add(viewer, "a", 1)
    add(viewer, "b", 2)
    tab = make_tab()
    choose(tab, viewer, "a", "b")
    tab.start()
    wait_until(lambda: shown_t(tab) == 0.0)
    ends = provenance_of(tab.view.layer)["request"]["ends"]
    assert [end["request"]["max_voxels"] for end in ends] == [FEW, FEW]
    assert told(notes)


def test_memory_that_runs_out_later_is_in_the_record_and_in_what_is_copied(viewer, encoded, monkeypatch, wait_until):
    tab = encoded()
    first = provenance_of(tab.view.layer)["request"]["max_voxels"]
    lose_memory(monkeypatch, FEW)
    tab.play.slider.setValue(0.5)
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.5)
    request = provenance_of(tab.view.layer)["request"]
    assert (first, request["max_voxels"]) == (MAX_VOXELS, FEW)
    assert tab.way.way.max_voxels == FEW
    _name_inputs(tab)
    assert f"max_voxels={FEW}" in tab.output._frame_python()
    assert f"max_voxels={FEW}" in tab.output._export_python()
    assert f"--max-voxels {FEW}" in tab.output._frame_command()
    tab.play.slider.setValue(0.0)  # from the cache, as it was decoded
    tab.play.settled.emit()
    wait_until(lambda: shown_t(tab) == 0.0)
    assert "max_voxels" not in tab.output._frame_python()


@pytest.mark.slow
def test_frames_of_an_exported_layer_carry_the_tiles_that_they_were_decoded_in(
    viewer, encoded, model, monkeypatch, wait_until
):
    tab = encoded()
    tab.state.export_frames = 3
    tab.output.add_layer()
    wait_until(lambda: "a to b (3 frames)" in viewer.layers)
    layer, found = viewer.layers["a to b (3 frames)"], []
    wait_until(lambda: not tab.desk.runner.is_busy)
    tried = lose_memory(monkeypatch, FEW)
    sources = [snapshot(layer, time=time) for time in (1, 2)]

    def work(_engine):
        for source in sources:
            found.append(source.read())
            yield len(tried)

    counts = []
    tab.desk.run("Read", work, on_step=counts.append)
    wait_until(lambda: len(counts) == 2)
    sizes = [frame["request"]["max_voxels"] for frame in layer.metadata[KEY]["frames"]]
    assert (
        sizes[1] == FEW == found[0].provenance["request"]["max_voxels"] == found[1].provenance["request"]["max_voxels"]
    )
    assert counts[0] > 1 and tried[counts[0] :] == [FEW]  # the next frame need not find out again
    monkeypatch.undo()
    expected = nv.interpolate(model("ldm"), *latents(model("ldm"), viewer), 0.5, max_voxels=FEW)
    np.testing.assert_array_equal(found[0].data, expected.data)


@pytest.mark.slow
def test_exported_files_carry_the_tiles_that_they_were_decoded_in(tmp_path, viewer, encoded, monkeypatch, wait_until):
    tab = encoded()
    tried = lose_memory(monkeypatch, FEW, after=1)
    tab.state.export_frames = 5
    tab.output.write_to(tmp_path)
    wait_until(lambda: not tab.desk.runner.is_busy)
    volumes = [nv.read_volume(path) for path in sorted((tmp_path / "a-to-b").iterdir())]
    sizes = [volume.provenance["request"]["max_voxels"] for volume in volumes]
    assert sizes[0] == MAX_VOXELS and sizes[2] == FEW
    assert tried.count(MAX_VOXELS) == 2 and tried[-2:] == [FEW, FEW]  # the last frame need not find out again
    assert [volume.provenance["request"]["t"] for volume in volumes] == [0.0, 0.25, 0.5, 0.75, 1.0]


def _name_inputs(tab) -> None:
    """As if both ends were files."""
    from napari_vqldm.recipe import FileInput

    for end in (tab.way.way.a, tab.way.way.b):
        tab.desk.remember_input(end.voxels_sha256, FileInput("end.ome.tif"))
