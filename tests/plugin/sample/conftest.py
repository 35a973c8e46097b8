"""The Sample tab with a viewer that is not shown and a tiny model whose weights count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import napari_vqldm as nv

# Imports of the plugin are inside the fixtures: without napari this file is read all the same.


@pytest.fixture(scope="session")
def checkpoints(tiny_checkpoints, tmp_path_factory) -> dict[str, Path]:
    """Denoisers that begin at zero leave the noise as it is: give all weights a push."""
    import torch
    from tests.plugin.sample.helpers import changed_model

    folder = tmp_path_factory.mktemp("pushed")
    generator = torch.Generator().manual_seed(1)

    def push(parameter: Any) -> None:
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)

    return {family: changed_model(path, folder / path.name, push) for family, path in tiny_checkpoints.items()}


@pytest.fixture
def desk(viewer, checkpoints):
    from napari_vqldm.plugin.desk import Desk

    desk = Desk(viewer)
    desk.model.open(checkpoints["ldm"])
    desk.model.device, desk.model.threads = "cpu", 1
    yield desk
    desk.close()


@pytest.fixture
def tab(desk, qtbot):
    from tests.plugin.sample.helpers import SHAPE

    from napari_vqldm.plugin.tabs.sample.tab import SampleTab

    tab = SampleTab(desk)
    qtbot.addWidget(tab)
    tab.show()
    tab.state.size_z, tab.state.size_y, tab.state.size_x = SHAPE
    tab.seed_box.keep_box.setChecked(True)
    tab.state.seed = 5
    yield tab
    tab.close_tab()


@pytest.fixture
def model(checkpoints):
    return nv.load(checkpoints["ldm"])
