"""`import napari_vqldm` is light; verbs are verbs whatever was imported before; names become checkpoints."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import napari_vqldm as nv
from napari_vqldm import zoo
from napari_vqldm.checkpoint import Model
from napari_vqldm.errors import CheckpointError


def test_importing_the_package_brings_no_torch() -> None:
    code = (
        "import sys, napari_vqldm as nv; dir(nv); nv.Volume; nv.__version__\n"
        "assert not {'torch', 'monai', 'safetensors', 'qtpy', 'napari'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_verb_is_a_function_even_if_its_module_came_first() -> None:
    for module in ("generate", "interpolate", "reconstruct", "simulate"):
        import_module(f"napari_vqldm.{module}")
    for name in nv.__all__:
        assert callable(getattr(nv, name)) or name == "__version__", name
    assert set(nv.__all__) <= set(dir(nv))
    assert nv.generate.__module__ == "napari_vqldm.generate" and nv.simulate.__module__ == "napari_vqldm.simulation"
    with pytest.raises(AttributeError, match="magic"):
        nv.magic  # noqa: B018


def test_a_path_loads_as_it_is(model: Model) -> None:
    assert nv.load(model.path).weights_sha256 == nv.load(str(model.path)).weights_sha256 == model.weights_sha256


def test_names_resolve_to_bundled_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    monkeypatch.setattr(zoo, "_WEIGHTS", tmp_path)
    assert zoo.available() == {}
    with pytest.raises(CheckpointError, match="not part of this installation"):
        zoo.resolve("ldm")
    (tmp_path / "ldm.safetensors").write_bytes(checkpoints["ldm"].read_bytes())
    assert zoo.resolve("ldm") == tmp_path / "ldm.safetensors"
    assert nv.load("ldm").config.family == "ldm"
    with pytest.raises(CheckpointError, match=r"expected a bundled name \(ldm\)"):
        zoo.resolve("gan")
    with pytest.raises(CheckpointError, match="folder"):
        nv.load(tmp_path)


def test_bundled_models_are_what_their_names_say() -> None:
    from napari_vqldm.card import read_header

    for name, path in zoo.available().items():
        header = read_header(path)
        assert header.card.family == name and header.card.fully_gated
        assert path.stat().st_size <= 32 * 2**20 and sum(header.card.parameters.values()) <= 16e6
