"""A Codebook tab whose model has known codes and atoms, and layers made of known codes."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from tests.planted_model import CODES, planted_model, planted_volume

SIZE = (0.2, 0.1, 0.1)
FACTOR = (2, 4, 4)  # voxels of a cell

# Imports of the plugin are inside the fixtures: without napari this file is read all the same.


def some_codes(shape=(3, 6, 5), seed=0, least=0.6):
    """Codes (d, h, w), most of them background, some of them used nowhere."""
    random = np.random.default_rng(seed)
    codes = random.choice([2, 4, 5, 7], shape)
    codes[random.random(shape) < least] = 0
    codes[0, 0, :2] = 0, 1
    return codes


@pytest.fixture
def planted(monkeypatch):
    """Whatever vq-ldm the engine loads is the planted model, and stacks are in filament units."""
    from napari_vqldm import checkpoint
    from napari_vqldm.intensity import IntensityScale

    load = checkpoint.load_checkpoint

    def load_planted(path, device="cpu"):
        model = load(path, device)
        return planted_model(model) if model.config.family == "vq-ldm" else model

    monkeypatch.setattr(checkpoint, "load_checkpoint", load_planted)
    reconstruct = import_module("napari_vqldm.reconstruct")  # the name in the package is that of the verb
    monkeypatch.setattr(reconstruct, "estimate_intensity", lambda _data: IntensityScale(0.0, 1.0))


@pytest.fixture
def planted_of(planted, tiny_checkpoints):
    """The planted model itself, to compute what is expected."""
    from napari_vqldm.checkpoint import load_checkpoint

    return load_checkpoint(tiny_checkpoints["vq-ldm"])


@pytest.fixture
def desk(viewer, tiny_checkpoints):
    from napari_vqldm.plugin.desk import Desk

    desk = Desk(viewer)
    desk.model.open(tiny_checkpoints["vq-ldm"])
    desk.failures, desk.notices = [], []
    desk.failed.connect(desk.failures.append)
    desk.noticed.connect(desk.notices.append)
    yield desk
    desk.close()


@pytest.fixture
def tab(desk, planted, qtbot):
    from napari_vqldm.plugin.tabs.codebook.tab import CodebookTab

    tab = CodebookTab(desk)
    qtbot.addWidget(tab)
    tab.resize(340, 1400)
    tab.show()
    yield tab
    tab.close_tab()
    tab.close_tab()


@pytest.fixture
def idle(desk, wait_until):
    return lambda: wait_until(lambda: not desk.runner.is_busy)


@pytest.fixture
def add_codes(viewer):
    """Add the layer whose cells have these codes: ``add_codes(codes, name, **arguments)``."""

    def add(codes, name="planted", **arguments):
        volume = planted_volume(codes, FACTOR, name)
        viewer.add_image(volume.data, name=name, **{"scale": SIZE, "units": ("um",) * 3, **arguments})
        return viewer.layers[-1]

    return add


def counts_of(codes):
    """Cells of every code."""
    return np.bincount(codes.ravel(), minlength=CODES)
