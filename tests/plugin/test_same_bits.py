"""Every layer that the dock makes equals, bit for bit, what its script computes in a new process; nothing is faked."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_vqldm as nv
from napari_vqldm.card import read_header
from napari_vqldm.files import read_volume, write_volume
from napari_vqldm.plugin.layers import KEY
from napari_vqldm.plugin.settings import PLUGIN
from napari_vqldm.plugin.tabs.interpolate.end import SEED
from napari_vqldm.volume import Volume

pytestmark = [pytest.mark.slow, pytest.mark.both_bindings]  # each tab has a quick test of its own script

SHAPE = (8, 16, 16)
SIZE = (0.22, 0.2, 0.2)
FAMILIES = ("ldm", "vq-ldm")

Array = npt.NDArray[np.float32]
Wait = Callable[..., None]


@dataclass
class Made:
    """One layer of the dock: its voxels and what it says about itself."""

    data: Array
    record: dict[str, Any]
    script: str
    command: str
    files: tuple[Path, Path]  # OME-TIFF and OME-Zarr, written by napari's Save


@dataclass
class Session:
    """What one pass through the dock made of one checkpoint, by what it is."""

    checkpoint: Path
    inputs: tuple[Path, Path]
    made: dict[str, Made]


# --- models and inputs ------------------------------------------------------------------------------------------------


def changed_model(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
    """Write a checkpoint again with other weights, the codebook included."""
    import torch

    from napari_vqldm.checkpoint import save_checkpoint

    model = nv.load(source)
    with torch.no_grad():
        for parameter in [*model.space.autoencoder.parameters(), *model.denoiser.parameters()]:
            change(parameter)
    return save_checkpoint(target, config=model.config, space=model.space, denoiser=model.denoiser)


@pytest.fixture(scope="module")
def checkpoints(tiny_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Denoisers that begin at zero leave the noise as it is: give all weights a push."""
    import torch

    folder = tmp_path_factory.mktemp("pushed")
    generator = torch.Generator().manual_seed(1)

    def push(parameter: Any) -> None:
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)

    return {family: changed_model(path, folder / path.name, push) for family, path in tiny_checkpoints.items()}


def stack(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 5, SHAPE).astype(np.float32)
    for _ in range(3):
        data[rng.integers(SHAPE[0]), rng.integers(SHAPE[1]), :] += 200
    return data


# --- the hands of a user ----------------------------------------------------------------------------------------------


class Hands:
    """Presses the buttons of the dock and waits."""

    def __init__(self, viewer: Any, wait_until: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
        self.viewer, self.wait_until, self.monkeypatch = viewer, wait_until, monkeypatch
        self.dock = viewer.window.add_plugin_dock_widget(PLUGIN, "VQ-LDM Microtubules")[1]
        self.failures: list[Any] = []
        self.notices: list[str] = []
        self.dock.desk.failed.connect(self.failures.append)
        self.dock.desk.noticed.connect(self.notices.append)
        self.dock.desk.model.device, self.dock.desk.model.threads = "cpu", 1

    def click(self, button: Any) -> Any:
        """Press a button, wait until nothing runs, and return the newest layer, None when none came."""
        before = list(self.viewer.layers)
        assert button.isEnabled(), button.toolTip()
        button.click()
        self.idle()
        added = [layer for layer in self.viewer.layers if layer not in before]
        return added[-1] if added else None

    def idle(self) -> None:
        self.wait_until(lambda: not self.dock.desk.runner.is_busy)

    def open(self, path: Path) -> Any:
        name = "napari_vqldm.plugin.opening.dialog.QFileDialog.getOpenFileName"
        self.monkeypatch.setattr(name, lambda *_, **__: (str(path), ""))
        tab = self.dock.reconstruct_tab
        before = len(self.viewer.layers)
        tab.open_volume.button.click()
        self.wait_until(lambda: len(self.viewer.layers) > before and not self.dock.desk.runner.is_busy)
        return self.viewer.layers[-1]

    def sample(self) -> Any:
        tab = self.dock.sample_tab
        tab.state.size_z, tab.state.size_y, tab.state.size_x = SHAPE
        tab.state.steps = 2
        tab.seed_box.keep_box.setChecked(True)
        tab.state.seed = 5
        return self.click(tab.button)

    def record(self, sample: Any) -> Any:
        tab = self.dock.sample_tab
        self.viewer.layers.selection.active = sample
        layer = self.click(tab.camera.switch)
        tab.camera.sliders["photons"].slider.setValue(20)
        tab.camera.sliders["blur_um"].slider.setValue(0.1)
        self.idle()
        tab.camera.switch.click()
        return layer

    def reconstruct(self, layer: Any) -> Any:
        self.dock.reconstruct_tab.input.choose(layer)
        return self.click(self.dock.reconstruct_tab.button)

    def residual(self) -> Any:
        return self.click(self.dock.reconstruct_tab.compare_panel.controls.residual_button)

    def uncertainty(self, kind: str) -> Any:
        tab = self.dock.reconstruct_tab
        tab.state.kind, tab.state.draws = kind, 3
        return self.click(tab.compare_panel.controls.uncertainty_button)

    def interpolate(self, a: Any, b: Any, t: float) -> Any:
        """Between two layers, or two seeds."""
        tab = self.dock.interpolate_tab
        for box, end in ((tab.ends.a, a), (tab.ends.b, b)):
            if isinstance(end, int):
                box.choice.setCurrentIndex(SEED)
                box.seed_box.seed = end
            else:
                box.picker.choose(end)
        tab.state.steps = 2
        layer = self.click(tab.button)
        tab.play.slider.setValue(t)
        tab.play.settled.emit()
        self.wait_until(
            lambda: tab.view.frame is not None and tab.view.frame.t == t and tab.view.frame.quality == "full"
        )
        self.idle()
        return layer


def walk_through(hands: Hands, checkpoint: Path, inputs: tuple[Path, Path]) -> dict[str, Any]:
    """Make one layer of every kind; return them by what they are. Kinds that were refused are missing."""
    is_ldm = read_header(checkpoint).config.family == "ldm"
    hands.dock.open_model(checkpoint)
    first, second = (hands.open(path) for path in inputs)
    layers = {"reconstruction of a file": hands.reconstruct(first), "residual of a file": hands.residual()}
    layers["uncertainty, noise"] = hands.uncertainty("noise")
    if is_ldm:
        layers["uncertainty, posterior"] = hands.uncertainty("posterior")
    layers["frame between layers"] = hands.interpolate(first, second, 0.5)
    layers["frame between seeds"] = hands.interpolate(3, 4, 0.5)
    layers["sample"] = sample = hands.sample()
    layers["recording"] = hands.record(sample)
    layers["reconstruction of a sample"] = hands.reconstruct(sample)
    layers["residual of a sample"] = hands.residual()
    return {name: layer for name, layer in layers.items() if layer is not None}


def made_of(hands: Hands, layer: Any, folder: Path, name: str) -> Made:
    stem = folder / name.replace(" ", "-").replace(",", "")
    files = (stem.with_suffix(".ome.tif"), stem.with_suffix(".ome.zarr"))
    for path in files:
        assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
    desk = hands.dock.desk
    return Made(
        layer.data.copy(),
        dict(layer.metadata[KEY]),
        desk.python_of(layer),
        desk.command_of(layer, out=f"{stem.name}-again.ome.tif"),
        files,
    )


_SESSIONS: dict[str, Session] = {}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def session(
    request: pytest.FixtureRequest, family: str, checkpoints: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory, wait_until: Wait, monkeypatch: pytest.MonkeyPatch,
) -> Session:  # fmt: skip
    """One pass through the dock, made by the first test of a family that wants it."""
    if family not in _SESSIONS:
        folder = tmp_path_factory.mktemp(f"session-{family}")
        names = ("first.ome.tif", "second.ome.tif")
        inputs = [write_volume(folder / name, Volume(stack(i), SIZE, {}, name[:-8])) for i, name in enumerate(names)]
        hands = Hands(request.getfixturevalue("viewer"), wait_until, monkeypatch)
        layers = walk_through(hands, checkpoints[family], (inputs[0], inputs[1]))
        assert hands.failures == []
        made = {name: made_of(hands, layer, folder, name) for name, layer in layers.items()}
        _SESSIONS[family] = Session(checkpoints[family], (inputs[0], inputs[1]), made)
    return _SESSIONS[family]


# --- scripts ----------------------------------------------------------------------------------------------------------

RUN_ALL = """
import json, sys, numpy
for path, text in json.load(sys.stdin).items():
    names = {}
    exec(compile(text, path, "exec"), names)
    numpy.save(path, names["volume"].data)
"""


def test_every_layer_equals_its_script_in_a_new_process(session: Session, family: str, tmp_path: Path) -> None:
    expected = 10 if family == "ldm" else 9
    assert len(session.made) == expected
    scripts = {str(tmp_path / f"{i}.npy"): made.script for i, made in enumerate(session.made.values())}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(scripts),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for path, (name, made) in zip(scripts, session.made.items(), strict=True):
        np.testing.assert_array_equal(np.load(path), made.data, err_msg=name)


def test_layers_differ_from_one_another(session: Session) -> None:
    """Equal bits mean little when everything is the same volume."""
    arrays = [made.data for made in session.made.values()]
    for i, one in enumerate(arrays):
        assert np.isfinite(one).all() and one.std() > 0
        assert not any(np.array_equal(one, other) for other in arrays[:i])


@pytest.mark.parametrize("name", ["sample", "residual of a file"])
def test_commands_give_the_same_bits(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from napari_vqldm.cli import run

    monkeypatch.chdir(tmp_path)
    for line in session.made[name].command.splitlines():
        if line and not line.startswith("#"):
            assert run(shlex.split(line)[1:]) == 0, line
    written = tmp_path / f"{name.replace(' ', '-')}-again.ome.tif"
    np.testing.assert_array_equal(read_volume(written).data, session.made[name].data)


# --- what the numbers are ---------------------------------------------------------------------------------------------


def test_the_frame_half_way_is_decoded_and_not_mixed(session: Session) -> None:
    import torch

    torch.set_num_threads(1)
    a, b = (read_volume(path) for path in session.inputs)
    model = nv.load(session.checkpoint, device="cpu")
    expected = nv.interpolate(model, nv.encode(model, a), nv.encode(model, b), 0.5)
    frame = session.made["frame between layers"].data
    np.testing.assert_array_equal(frame, expected.data)
    ends = [nv.reconstruct(model, end).data for end in (a, b)]
    for mean in ((a.data + b.data) / 2, (ends[0] + ends[1]) / 2):
        assert np.abs(frame - mean).max() > 1e-3 * np.ptp(mean)


def test_without_weights_nothing_stays_the_same(
    session: Session, viewer: Any, tmp_path: Path, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeroed = changed_model(session.checkpoint, tmp_path / "zero.safetensors", lambda parameter: parameter.zero_())
    hands = Hands(viewer, wait_until, monkeypatch)
    layers = walk_through(hands, zeroed, session.inputs)
    for name, made in session.made.items():
        if name not in layers:  # a constant volume holds no structure: refused, with a word
            assert hands.failures, name
            continue
        data = np.asarray(layers[name].data)
        assert data.shape != made.data.shape or not np.allclose(data, made.data, rtol=1e-3), name
    assert {"sample", "reconstruction of a file", "frame between layers", "frame between seeds"} <= layers.keys()


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [0, 1], ids=["OME-TIFF", "OME-Zarr"])
def test_saved_layers_come_back_with_their_record_and_are_reproduced(
    session: Session, viewer: Any, wait_until: Wait, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    hands = Hands(viewer, wait_until, monkeypatch)
    hands.dock.open_model(session.checkpoint)
    for path in session.inputs:
        viewer.open(str(path), plugin="napari", scale=SIZE, units=("um",) * 3)
    for name, made in session.made.items():
        (layer,) = viewer.open(str(made.files[kind]), plugin=PLUGIN)
        np.testing.assert_array_equal(layer.data, made.data, err_msg=name)
        assert layer.metadata[KEY] == made.record
        hands.notices.clear()
        viewer.layers.selection.active = layer
        hands.click(hands.dock.tools.reproduce_button)
        assert hands.failures == [], name
        assert hands.notices == ["Reproduce: identical to the last bit"], name


REPRODUCE = """
import json, sys
import napari, numpy
from qtpy.QtWidgets import QApplication

model, path, *inputs = sys.argv[1:]
viewer = napari.Viewer(show=False)
_, dock = viewer.window.add_plugin_dock_widget("napari-vqldm", "VQ-LDM Microtubules")
dock.desk.model.device, dock.desk.model.threads = "cpu", 1
heard = []
dock.desk.noticed.connect(heard.append)
dock.desk.failed.connect(lambda failure: heard.append(failure.cause))
dock.open_model(model)
for name in inputs:
    viewer.open(name, plugin="napari", scale=(0.22, 0.2, 0.2), units=("um",) * 3)
(layer,) = viewer.open(path, plugin="napari-vqldm")
dock.reproduce(layer)
while dock.desk.runner.is_busy:
    QApplication.processEvents()
viewer.close()
print("\\n" + json.dumps(heard), flush=True)
"""


def reproduced_in_a_new_napari(session: Session, path: Path) -> list[str]:
    arguments = [str(session.checkpoint), str(path), *map(str, session.inputs)]
    done = subprocess.run(
        [sys.executable, "-c", REPRODUCE, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    heard: list[str] = json.loads(done.stdout.splitlines()[-1])
    return heard


def test_a_file_is_reproduced_in_a_new_napari(session: Session) -> None:
    path = session.made["residual of a file"].files[0]
    assert reproduced_in_a_new_napari(session, path) == ["Reproduce: identical to the last bit"]


@pytest.mark.parametrize("family", ["ldm"], indirect=True)
def test_changed_voxels_are_not_called_identical(
    session: Session, viewer: Any, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = Hands(viewer, wait_until, monkeypatch)
    hands.dock.open_model(session.checkpoint)
    (layer,) = viewer.open(str(session.made["sample"].files[0]), plugin=PLUGIN)
    layer.data[0, 0, 0] += 1
    hands.dock.reproduce(layer)
    hands.idle()
    (line,) = hands.notices
    assert "identical" not in line and "changed after they were computed" in line
