"""What happens to layers after they were made: saved, copied, reproduced, whatever became of files and models."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import napari_vqldm as nv
from napari_vqldm.config import SimulationConfig
from napari_vqldm.errors import VolumeError, VqldmError
from napari_vqldm.estimate import jobs
from napari_vqldm.plugin.layers import provenance_of

SIZE = (0.2, 0.1, 0.1)


@pytest.fixture
def pixels(viewer):
    """A layer without units, as napari opens a plain TIFF."""
    data = np.random.default_rng(0).normal(100, 5, (8, 16, 16)).astype(np.float32)
    return viewer.add_image(data, name="pixels")


@pytest.fixture
def notices(dock):
    seen = []
    dock.desk.noticed.connect(seen.append)
    return seen


@pytest.fixture
def errors(dock):
    seen = []
    dock.desk.failed.connect(lambda failure: seen.append(str(failure)))
    return seen


@pytest.fixture
def open_model(dock, tiny_checkpoints):
    def use(path=tiny_checkpoints["ldm"]):
        dock.desk.model.device, dock.desk.model.threads = "cpu", 1
        dock.open_model(path)

    return use


@pytest.fixture
def reconstruct(dock, viewer, wait_until):
    """Reconstruct a layer, with a voxel size that is typed; returns the new layer."""

    def run(layer, size=SIZE):
        tab = dock.reconstruct_tab
        tab.input.choose(layer)
        if size is not None:
            tab.state.uses_typed, tab.state.typed_voxel_size_um = True, size
        before = list(viewer.layers)
        tab.start()
        wait_until(lambda: not dock.desk.runner.is_busy)
        (made,) = [entry for entry in viewer.layers if entry not in before]
        return made

    return run


def test_a_typed_voxel_size_reaches_layer_file_and_reproduction(
    dock, pixels, open_model, reconstruct, notices, errors, wait_until, tmp_path
):
    open_model()
    made = reconstruct(pixels)
    for layer in (pixels, made):
        np.testing.assert_allclose(layer.scale, SIZE)
        assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    dock.tools.save(made, tmp_path / "made.ome.tif")
    wait_until(lambda: not dock.desk.runner.is_busy)
    np.testing.assert_allclose(nv.read_volume(tmp_path / "made.ome.tif").voxel_size_um, SIZE, rtol=1e-6)
    dock.tools.reproduce(made)
    wait_until(lambda: not dock.desk.runner.is_busy)
    assert any("identical to the last bit" in line for line in notices), (notices, errors)


def test_a_drawn_region_stays_on_its_voxels_when_the_size_is_written(dock, viewer, pixels, open_model, reconstruct):
    open_model()
    viewer.add_shapes([np.array([[0, 2, 4], [0, 2, 12], [0, 14, 12], [0, 14, 4]], float)], name="box")
    dock.reconstruct_tab.state.region = "shapes"
    made, again = reconstruct(pixels), reconstruct(pixels, None)
    assert made.data.shape == again.data.shape == (8, 13, 9)
    np.testing.assert_array_equal(made.data, again.data)


def test_an_input_that_is_saved_can_be_copied(dock, pixels, open_model, reconstruct, wait_until, tmp_path):
    open_model()
    made = reconstruct(pixels)
    with pytest.raises(VqldmError, match="no file"):
        dock.desk.python_of(made)
    dock.tools.save(pixels, tmp_path / "pixels.ome.tif")
    wait_until(lambda: not dock.desk.runner.is_busy)
    assert "pixels.ome.tif" in dock.desk.python_of(made)


@pytest.mark.parametrize("change", ["moved", "altered"])
def test_a_layer_stands_in_for_a_file_that_is_gone(
    dock, pixels, open_model, reconstruct, notices, errors, wait_until, tmp_path, change
):
    open_model()
    made = reconstruct(pixels)
    file = tmp_path / "pixels.ome.tif"
    dock.tools.save(pixels, file)
    wait_until(lambda: not dock.desk.runner.is_busy)
    if change == "moved":
        file.rename(tmp_path / "elsewhere.ome.tif")
    else:
        volume = nv.read_volume(file)
        nv.write_volume(file, volume.with_data(volume.data + 1), force=True)
    dock.tools.reproduce(made)
    wait_until(lambda: not dock.desk.runner.is_busy)
    assert any("identical to the last bit" in line for line in notices), (notices, errors)


def test_the_loaded_model_is_used_to_reproduce(
    dock, pixels, open_model, reconstruct, notices, errors, wait_until, monkeypatch
):
    import napari_vqldm.recompute

    open_model()
    made = reconstruct(pixels)
    monkeypatch.setattr(napari_vqldm.recompute, "load_checkpoint", lambda *_: pytest.fail("a second copy is loaded"))
    dock.tools.reproduce(made)
    wait_until(lambda: not dock.desk.runner.is_busy)
    assert any("identical to the last bit" in line for line in notices), (notices, errors)
    monkeypatch.undo()
    dock.desk.free_memory()  # without it, one is loaded for this alone
    dock.tools.reproduce(made)
    wait_until(lambda: not dock.desk.runner.is_busy)
    assert len([line for line in notices if "identical to the last bit" in line]) == 2, (notices, errors)


def test_reproducing_what_does_not_fit_is_refused_and_runs_anyway(
    dock, viewer, pixels, open_model, reconstruct, notices, errors, wait_until, monkeypatch
):
    open_model()
    made = reconstruct(pixels)
    monkeypatch.setattr(jobs, "available_bytes", lambda *_: 1)
    before = len(notices)
    dock.tools.reproduce(made)
    wait_until(lambda: not dock.desk.runner.is_busy)
    box = dock.tools.estimate
    assert box.text.startswith(f"Reproduce {made.name}: Nothing was started.") and "does not fit" in box.text
    assert notices[before:] == [] and not box.anyway_button.isHidden()
    box.anyway_button.click()
    wait_until(lambda: not dock.desk.runner.is_busy)
    assert "Reproduce: identical to the last bit" in notices and box.anyway_button.isHidden()
    dock.tools.reproduce(made)
    wait_until(lambda: not dock.desk.runner.is_busy)
    viewer.layers.remove(made)
    del made
    assert box.text == "" and box.anyway_button.isHidden()
    box.anyway_button.click()
    assert not dock.desk.runner.is_busy and errors == []


def test_layers_of_an_earlier_checkpoint_are_copied_and_reproduced(
    dock, pixels, open_model, reconstruct, tiny_checkpoints, notices, errors, wait_until
):
    open_model()
    made = reconstruct(pixels)
    open_model(tiny_checkpoints["vq-ldm"])
    dock.desk.inputs = {}
    dock.tools.reproduce(made)
    wait_until(lambda: not dock.desk.runner.is_busy)
    assert any("identical to the last bit" in line for line in notices), (notices, errors)
    assert str(tiny_checkpoints["ldm"]) in dock.desk.models().values()


def test_a_deleted_checkpoint_disturbs_nothing_that_does_not_need_it(
    dock, viewer, open_model, tiny_checkpoints, notices, errors, wait_until, tmp_path
):
    path = tmp_path / "gone.safetensors"
    shutil.copy(tiny_checkpoints["ldm"], path)
    open_model(path)
    path.unlink()
    dock.desk.model.precision = "bf16"  # shows the header again
    dock.desk.model.precision = "fp32"
    assert dock.desk.model.path == path
    truth = nv.simulate(1, seed=1, config=SimulationConfig(shape=(8, 16, 16)))[0].clean
    layer = viewer.add_image(truth.data, scale=truth.voxel_size_um, units=("um",) * 3)
    layer.metadata = {"napari_vqldm": dict(truth.provenance)}
    assert provenance_of(layer)
    assert "simulate" in dock.desk.python_of(layer)
    dock.tools.reproduce(layer)
    wait_until(lambda: not dock.desk.runner.is_busy)
    assert any("identical" in line for line in notices), (notices, errors)


def test_an_error_stays_while_the_next_job_runs(dock, wait_until):
    def fails(_engine):
        yield from ()
        raise VolumeError("this went wrong")

    def works(_engine):
        yield from ()

    dock.desk.run("first", fails)
    dock.desk.run("second", works)
    wait_until(lambda: not dock.desk.runner.is_busy)
    assert not dock.errors.isHidden()
    dock.desk.run("third", works)
    assert dock.errors.isHidden()


def test_a_typed_seed_is_used(dock, open_model):
    open_model()
    box = dock.sample_tab.seed_box
    assert not box.is_kept
    box.edit.setText("77")
    box.edit.editingFinished.emit()
    assert box.next_seed() == 77
