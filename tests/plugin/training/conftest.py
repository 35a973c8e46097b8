"""A Training tab that looks often, a run folder under way, and no thread left behind."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.plugin.training.helpers import make_run

# Imports of the plugin are inside the fixtures: without napari this file is read all the same.


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory, monkeypatch):
    """Folders that a test follows are not remembered for the user."""
    from qtpy.QtCore import QSettings

    from napari_vqldm.plugin.tabs.training import recent

    path = str(tmp_path_factory.mktemp("settings") / "runs.ini")
    monkeypatch.setattr(recent, "_settings", lambda: QSettings(path, QSettings.Format.IniFormat))


@pytest.fixture(autouse=True)
def no_looker_is_left():
    """No test leaves a thread that looks at a folder."""
    from napari_vqldm.plugin.tabs.training.looker import NAME

    yield
    for thread in [thread for thread in threading.enumerate() if thread.name == NAME]:
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def desk(viewer):
    from napari_vqldm.plugin.desk import Desk

    desk = Desk(viewer)
    desk.failures, desk.notices = [], []
    desk.failed.connect(desk.failures.append)
    desk.noticed.connect(desk.notices.append)
    yield desk
    desk.close()


@pytest.fixture
def tab(desk, qtbot):
    from napari_vqldm.plugin.tabs.training.tab import TrainingTab

    tab = TrainingTab(desk)
    tab.following.every_s = 0.05
    qtbot.addWidget(tab)
    tab.show()
    yield tab
    tab.close_tab()


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "my-run"
    make_run(folder)
    return folder
