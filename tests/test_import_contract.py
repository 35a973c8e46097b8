"""What may be imported where, proved in fresh interpreters (the static half is `lint-imports`)."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import napari_vqldm

ROOT = Path(__file__).parents[1]
GUI = ("napari", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "magicgui", "superqt", "psygnal", "pyqtgraph")
TORCH_FREE = (
    "condition_ranges", "errors", "memory", "volume", "config", "config_base", "config_diffusion", "config_networks",
    "config_simulation", "card", "intensity", "tiles", "resample", "pictures", "files", "sampling_plan", "estimate",
    "training.follow", "training.start", "training.volumes",
)  # fmt: skip
EVERY_MODULE = sorted(
    info.name
    for info in pkgutil.walk_packages(napari_vqldm.__path__, "napari_vqldm.")
    if ".plugin" not in info.name and not info.name.endswith("__main__")
)

# Run in a fresh interpreter: import modules one by one while some packages cannot be found; report what got loaded.
PROBE = """
import importlib, json, sys

modules, blocked, watched = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked by this test", name=name)

sys.meta_path.insert(0, Blocker())
failed = {}
for module in modules:
    try:
        importlib.import_module(module)
    except Exception as error:
        failed[module] = repr(error)
print(json.dumps({"failed": failed, "loaded": [name for name in watched if name in sys.modules]}))
"""


def probe(modules: list[str], blocked: tuple[str, ...] = (), watched: tuple[str, ...] = ()) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps([modules, blocked, watched])],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_probe_sees_blocked_and_loaded_modules() -> None:
    result = probe(["json.tool", "colorsys", "wave"], blocked=("colorsys",), watched=("wave", "colorsys"))
    assert list(result["failed"]) == ["colorsys"]
    assert result["loaded"] == ["wave"]


@pytest.mark.slow
def test_every_module_imports_without_napari_and_qt() -> None:
    assert len(EVERY_MODULE) > 20
    assert probe(EVERY_MODULE, blocked=GUI)["failed"] == {}


def test_package_and_torch_free_modules_load_no_torch() -> None:
    modules = ["napari_vqldm"] + [name for name in EVERY_MODULE if name.split(".", 1)[1].startswith(TORCH_FREE)]
    assert len(modules) > len(TORCH_FREE)
    heavy = ("torch", "monai", "lightning_fabric", "skan", "zarr")
    assert probe(modules, blocked=("torch", "monai"), watched=heavy) == {"failed": {}, "loaded": []}


def test_command_line_answers_help_without_torch() -> None:
    code = "import sys; from napari_vqldm.cli import main; sys.argv = ['napari-vqldm', '--help']; main()"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "napari_vqldm" in imported
    assert not imported & {"torch", "monai", "napari"}


@pytest.mark.slow
def test_only_training_needs_its_extra() -> None:
    modules = [name for name in EVERY_MODULE if not name.startswith("napari_vqldm.training")]
    optional = ("lightning_fabric", "tensorboard", "zarr", "ome_zarr", "skan", "bioio")
    assert probe(modules, blocked=optional)["failed"] == {}


def test_training_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['lightning_fabric'] = None; from napari_vqldm.training.__main__ import main; "
        f"sys.exit(main(['smoke-ldm', '--out', {str(tmp_path / 'run')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: training needs lightning-fabric: pip install 'napari-vqldm[train]'"]
    assert not (tmp_path / "run").exists()


def test_public_names_are_lazy_and_exist() -> None:
    wanted = ("load", "generate", "reconstruct", "encode", "decode", "interpolate", "simulate", "Volume")
    assert set(wanted) <= set(dir(napari_vqldm))
    for name in wanted:
        assert callable(getattr(napari_vqldm, name)), name
    with pytest.raises(AttributeError, match="no_such_name"):
        napari_vqldm.no_such_name  # noqa: B018


def test_contracts_name_every_module() -> None:
    """A new top-level module has to be given a layer; a torch-free one has to be in the contract that says so."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract["type"] == "layers")
    listed = {name.strip(" ()") for layer in layers["layers"] for name in layer.split("|")}
    assert {name.split(".")[1] for name in EVERY_MODULE} <= listed
    torch_free = next(contract for contract in contracts if "torch" in contract.get("forbidden_modules", ()))
    assert set(torch_free["source_modules"]) == {f"napari_vqldm.{name}" for name in TORCH_FREE}
