"""A viewer with the plugin registered through its installed manifest, tiny checkpoints, waiting."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tiny_model import tiny_model

if TYPE_CHECKING:
    import napari
    from pytestqt.qtbot import QtBot

    from napari_vqldm.plugin.dock import Dock

PLUGIN = "napari-vqldm"
WIDGET = "VQ-LDM Microtubules"
INFERENCE_THREAD = "napari-vqldm inference"

# Before napari is imported: settings of the user stay out of the tests and the tests out of them; touching a viewer
# from another thread is an error.
_SETTINGS = tempfile.mkdtemp(prefix="napari-settings-")
atexit.register(shutil.rmtree, _SETTINGS, ignore_errors=True)
os.environ["NAPARI_CONFIG"] = str(Path(_SETTINGS) / "settings.yaml")
os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"] = "1"


def _missing() -> str | None:
    """What keeps a window from opening here, or None."""
    if absent := [name for name in ("napari", "pytestqt") if find_spec(name) is None]:
        return f"tests of the dock need {' and '.join(absent)}: run make test"
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "tests of the dock need a display: run make test, or prefix the command with tools/with_display.sh"
    return None


MISSING = _missing()


class SkippedModule(pytest.Module):
    """A test file that is not imported, because what it imports is not there."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip(str(MISSING))


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip the whole folder, with one line in the summary, where no window can open."""
    return SkippedModule.from_parent(parent, path=module_path) if MISSING else None


@pytest.fixture(autouse=True)
def _clean_themes() -> Iterator[None]:
    """Back in force for this folder, see tests/conftest.py: themes that a test adds go away."""
    from napari.utils import theme

    before = set(theme.available_themes())
    yield
    for name in set(theme.available_themes()) - before:
        theme.unregister_theme(name)


@pytest.fixture(scope="session", autouse=True)
def _few_objects() -> Iterator[None]:
    """Import what is large, then keep it out of the garbage collector's way.

    napari collects garbage whenever a layer goes and twice for each viewer; with PyTorch and MONAI in memory that is
    half a second each time, more than all that these tests do. Where a layer goes, the young objects do: a fifth of the
    time of these tests was spent there.
    """
    import gc
    from types import SimpleNamespace

    import napari._vispy.canvas as canvas
    import torch._dynamo  # noqa: F401

    import napari_vqldm.generate
    import napari_vqldm.models.build
    import napari_vqldm.reconstruct
    import napari_vqldm.simulate.simulator  # noqa: F401

    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "gc", SimpleNamespace(collect=lambda: gc.collect(1)))
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_viewers() -> Iterator[None]:
    """Leave out what napari repeats for every viewer and no test looks at: half of the time that opening one takes.

    It parses the manifests of all plugins, which stay the same; writes settings to a file that is thrown away; and
    writes each shortcut on a welcome screen, not shown, whenever it binds one.
    """
    import pickle
    from functools import lru_cache

    import npe2.manifest._bases as bases
    from napari._qt.widgets.qt_welcome import QtWelcomeWidget
    from napari.settings import NapariSettings

    parse = bases._load_yaml_no_duplicates

    @lru_cache
    def parsed(text: str) -> bytes:
        return pickle.dumps(parse(text))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "_load_yaml_no_duplicates", lambda stream: pickle.loads(parsed(stream.read())))
        patch.setattr(NapariSettings, "_maybe_save", lambda self: None)
        patch.setattr(QtWelcomeWidget, "refresh", lambda self, _event=None: None)
        yield


@pytest.fixture(autouse=True)
def _own_clipboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a clipboard: tests that run side by side share a screen, and one would find what another copied."""
    from types import SimpleNamespace

    from qtpy.QtWidgets import QApplication

    held = [""]
    own = SimpleNamespace(text=lambda: held[0], setText=lambda text: held.__setitem__(0, text))
    monkeypatch.setattr(QApplication, "clipboard", staticmethod(lambda: own))


@pytest.fixture(autouse=True)
def _same_threads() -> None:
    """Each test starts with one thread for PyTorch, as `make test` asks for: bits depend on their number."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _ended_threads() -> Iterator[None]:
    """No test leaves an inference thread behind: each dock that it opened has let go of the shared one."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name == INFERENCE_THREAD]
    for thread in left:
        thread.join(30)
    assert not [thread for thread in left if thread.is_alive()], "an inference thread outlived its test"


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints with random weights and 4 denoising steps, by family: ``{"ldm": path, "vq-ldm": path}``."""
    folder = tmp_path_factory.mktemp("models")
    return {family: tiny_model(folder / f"tiny-{family}.safetensors", family, steps=4) for family in ("ldm", "vq-ldm")}


# --- viewer -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., napari.Viewer]) -> Iterator[napari.Viewer]:
    """A viewer that is not shown. Plugins are discovered as in the program, so the installed manifest counts."""
    yield make_napari_viewer()
    reset_settings()


@pytest.fixture
def shown_viewer(make_napari_viewer: Callable[..., napari.Viewer]) -> Iterator[napari.Viewer]:
    """A viewer on the screen, for tests that look at pixels."""
    yield make_napari_viewer(show=True)
    reset_settings()


@pytest.fixture
def dock(viewer: napari.Viewer) -> Dock:
    """The dock, opened through the manifest."""
    return open_dock(viewer)


@pytest.fixture
def shown_dock(shown_viewer: napari.Viewer) -> Dock:
    """The dock in a viewer on the screen."""
    return open_dock(shown_viewer)


@pytest.fixture
def wait_until(qtbot: QtBot) -> Callable[..., None]:
    """Run the event loop until a condition holds: ``wait_until(condition, timeout=30_000)``, in ms."""

    def wait(condition: Callable[[], Any], timeout: int = 30_000) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=timeout)

    return wait


def open_dock(viewer: napari.Viewer) -> Dock:
    """Open the dock as the Plugins menu does."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    return widget


def reset_settings() -> None:
    """Give the settings of the plugin their defaults again."""
    from napari.settings import get_plugin_settings

    get_plugin_settings(PLUGIN).reset()
