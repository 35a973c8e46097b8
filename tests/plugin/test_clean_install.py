"""What a user does: an environment with napari, then ``pip install napari-vqldm``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BINDINGS = ("PyQt5", "PyQt6", "PySide2", "PySide6")

INSTALLED = """
import json
from importlib.metadata import distributions
print(json.dumps(sorted(d.metadata["Name"] for d in distributions())))
"""
DOCK = """
import json, sys
from importlib.resources import files

from npe2 import PluginManager, PluginManifest

PluginManager.instance().discover()
manifest = PluginManifest.from_distribution("napari-vqldm")
import napari_vqldm
from napari_vqldm.plugin.dock import Dock
after_import = "torch" in sys.modules

import napari
viewer = napari.Viewer(show=False)
_, widget = viewer.window.add_plugin_dock_widget("napari-vqldm", "VQ-LDM Microtubules")
report = {
    "found": "napari-vqldm" in PluginManager.instance(),
    "packaged": files("napari_vqldm").joinpath("napari.yaml").is_file(),
    "place": napari_vqldm.__file__,
    "commands": len(manifest.contributions.commands),
    "is_dock": isinstance(widget, Dock),
    "torch_after_import": after_import,
    "torch_after_opening": "torch" in sys.modules,
}
viewer.close()
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Interpreter of an empty environment; it holds gigabytes in the end, so it goes away with the tests."""
    folder = tmp_path_factory.mktemp("clean") / "env"
    venv.create(folder, with_pip=True)
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if pip(interpreter, "--dry-run", "--no-deps", "qtpy").returncode != 0:
        pytest.skip("no package index is reachable")
    yield interpreter
    shutil.rmtree(folder, ignore_errors=True)


def pip(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--constraint", str(ROOT / "constraints.txt"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500, env=clean_environment())


def clean_environment() -> dict[str, str]:
    """The variables of this process, less those that lead to this checkout or to another binding."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "QT_API", "PYTEST_QT_API")}


def run(python: Path, code: str, folder: Path) -> Any:
    done = subprocess.run(
        [str(python), "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=folder,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_installing_into_an_existing_napari_gives_the_dock(python: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")

    existing = pip(python, "napari", "PySide6")
    assert existing.returncode == 0, existing.stderr
    before = set(run(python, INSTALLED, tmp_path))
    ours = pip(python, str(wheel))
    assert ours.returncode == 0, ours.stderr
    after = set(run(python, INSTALLED, tmp_path))

    assert "torch" in after - before
    assert before <= after
    assert not (after - before) & set(BINDINGS)
    report = run(python, DOCK, tmp_path)
    assert str(python.parents[1]) in report.pop("place")
    assert report.pop("commands") >= 15
    assert report == {
        "found": True,
        "packaged": True,
        "is_dock": True,
        "torch_after_import": False,
        "torch_after_opening": False,
    }
