"""The manifest: what napari finds, and that everything it names exists."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import qtpy
from npe2 import PluginManifest

from napari_vqldm.plugin.settings import PLUGIN

if TYPE_CHECKING:
    import napari

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "napari_vqldm"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution(PLUGIN)


def test_installed_manifest_is_the_file_in_the_package(manifest: PluginManifest) -> None:
    assert manifest == PluginManifest.from_file(PACKAGE / "napari.yaml").model_copy(
        update={"package_metadata": manifest.package_metadata}
    )
    assert (ROOT / "napari.yaml").resolve() == PACKAGE / "napari.yaml"


def test_manifest_validates_with_everything_that_it_names(manifest: PluginManifest) -> None:
    manifest.validate_imports()
    assert len(manifest.contributions.commands) >= 15


def test_every_command_is_used_once_or_offered_in_a_menu(manifest: PluginManifest) -> None:
    contributions = manifest.contributions
    used = [
        entry.command
        for group in ("widgets", "readers", "writers", "sample_data")
        for entry in getattr(contributions, group)
    ]
    used += [entry.command for entries in contributions.menus.values() for entry in entries]
    assert sorted(used) == sorted(command.id for command in contributions.commands)


def test_menus_are_those_of_napari(manifest: PluginManifest) -> None:
    from napari._app_model.constants import MenuId

    contributable = {menu.value for menu in MenuId.contributables()}
    assert set(manifest.contributions.menus) == {
        "napari/file/new_layer",
        "napari/layers/measure",
        "napari/layers/visualize",
        "napari/layers/filter",
    }
    assert set(manifest.contributions.menus) <= contributable


def test_menu_entries_reach_the_window(viewer: napari.Viewer) -> None:
    from napari._app_model import get_app_model
    from napari._app_model.constants import MenuId

    def titles(menu: str) -> str:
        return "\n".join(
            item.command.title for item in get_app_model().menus.get_menu(menu) if hasattr(item, "command")
        )

    assert "Generate a volume..." in titles(MenuId.FILE_NEW_LAYER)
    assert "Reconstruct with a model" in titles(MenuId.LAYERS_FILTER)
    assert "Measure filaments" in titles(MenuId.LAYERS_MEASURE)
    for words in ("Compare with its reconstruction", "Copy as Python", "Reproduce"):
        assert words in titles(MenuId.LAYERS_VISUALIZE), words


def test_no_reader_claims_plain_tiff(manifest: PluginManifest) -> None:
    """napari asks which reader to use whenever two claim a name: that question must not come up for every stack."""
    patterns = {pattern for reader in manifest.contributions.readers for pattern in reader.filename_patterns}
    assert patterns == {"*.safetensors", "*.ome.tif", "*.ome.tiff", "*.zarr"}


def test_windows_use_the_binding_that_was_asked_for(qapp: object) -> None:
    """`make test-slow` repeats the tests of the dock on PyQt6, which has to be what napari then takes."""
    wanted = os.environ.get("QT_API", "pyside6")
    assert qtpy.API_NAME.lower() == wanted
    assert type(qapp).__module__.split(".")[0].lower() == wanted


PROBE = """
import importlib, json, pkgutil, sys
import napari_vqldm.plugin as plugin

names = sorted(info.name for info in pkgutil.walk_packages(plugin.__path__, "napari_vqldm.plugin."))
for name in names:
    importlib.import_module(name)
loaded = [name for name in ("torch", "monai") if name in sys.modules]
print(json.dumps({"names": names, "loaded": loaded}))
"""


@pytest.mark.slow
def test_no_module_of_the_plugin_loads_torch() -> None:
    """Torch takes seconds: it comes with the first job, on the thread that runs it."""
    result = run_probe(PROBE)
    assert {"napari_vqldm.plugin.settings", "napari_vqldm.plugin.dock"} <= set(result["names"])
    assert result["loaded"] == []


def run_probe(code: str) -> dict[str, Any]:
    """Run Python in a fresh interpreter and return the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
