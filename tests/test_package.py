"""What a user installs: the built wheel, its requirements, its size."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email.message import Message
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

import napari_vqldm
from napari_vqldm.card import read_header
from napari_vqldm.zoo import NAMES, available

ROOT = Path(__file__).parents[1]
MIB = 1024**2
QT_BINDINGS = {"pyqt5", "pyqt6", "pyside2", "pyside6"}
EXTRAS = {"napari", "train", "zarr", "metrics", "inside", "formats", "test", "docs", "all"}
BASE = {
    *("torch", "monai", "einops", "numpy", "scipy", "scikit-image", "tifffile", "pydantic", "safetensors"),
    *("psutil", "typer", "rich", "qtpy", "magicgui", "superqt", "pyqtgraph"),
}


def build(target: str, folder: Path) -> Path:
    """Run the build backend itself: no isolation, no network."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build("wheel", tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return HeaderParser().parsestr(wheel.read(name).decode())


def bare_name(requirement: str) -> str:
    """``Name[extra]>=1; marker`` as ``name``."""
    return re.split(r"[\s\[<>=!~;(]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def requirements(metadata: Message, *, extra: str | None) -> set[str]:
    """Names required always (None) or by one extra, in lower case."""
    lines = metadata.get_all("Requires-Dist", [])
    return {
        bare_name(line)
        for line in lines
        if (extra is None and "extra ==" not in line) or (extra is not None and f"extra == '{extra}'" in line)
    }


FEATURES = ("mtfeat64-v2.safetensors", "mtfeat64-v2-unit.safetensors")


def expect_both_models(found: set[str], place: str) -> None:
    """Fail with one line when a bundled model is missing."""
    if missing := sorted(set(NAMES) - found):
        pytest.fail(f"{place} lacks the bundled weights of {', '.join(missing)}", pytrace=False)


def test_base_requires_no_napari_and_no_qt_binding(metadata: Message) -> None:
    base = requirements(metadata, extra=None)
    assert base == BASE
    assert not base & (QT_BINDINGS | {"napari", "pyqt5-qt5", "pyside6-essentials"})


def test_no_base_requirement_brings_a_qt_binding() -> None:
    """Nor do the requirements of the requirements, as installed here."""
    seen: set[str] = set()
    waiting = set(BASE)
    while waiting:
        name = waiting.pop()
        seen.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for another platform
            continue
        waiting |= {bare_name(line) for line in lines if "extra ==" not in line} - seen
    assert len(seen) > len(BASE)
    assert not seen & (QT_BINDINGS | {"napari"})


def test_extras_are_complete(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS
    assert requirements(metadata, extra="napari") == {"napari", "pyside6"}
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Version"] == napari_vqldm.__version__


def test_wheel_holds_the_bundled_weights(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if name.endswith(".safetensors")}
    models = {name for name in packed if name.startswith("napari_vqldm/zoo/")}
    expect_both_models({Path(name).stem for name in models}, "the wheel")
    assert models == {f"napari_vqldm/zoo/weights/{name}.safetensors" for name in NAMES}
    features = {f"napari_vqldm/metrics/data/{name}" for name in FEATURES}
    assert packed - models == features
    assert sum(wheel.getinfo(name).file_size for name in features) <= 3_000_000
    assert sum(wheel.getinfo(name).file_size for name in packed) <= 99 * MIB


def test_wheel_holds_samples_presets_and_types(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    presets = {f"napari_vqldm/training/presets/{name}.toml" for name in ("smoke-ldm", "smoke-vq-ldm", "ldm", "vq-ldm")}
    assert presets | {"napari_vqldm/py.typed"} <= names
    stacks = ("spindle3d_multidna2.tif", "spindle_morph_volume00.tif", "generated_ldm.ome.tif")
    assert {f"napari_vqldm/files/samples/{name}" for name in stacks} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_wheel_announces_its_manifest_to_napari(wheel: zipfile.ZipFile, metadata: Message) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    entries = ConfigParser()
    entries.read_string(wheel.read(name).decode())
    assert dict(entries["napari.manifest"]) == {"napari-vqldm": "napari_vqldm:napari.yaml"}
    assert wheel.read("napari_vqldm/napari.yaml") == (ROOT / "src/napari_vqldm/napari.yaml").read_bytes()
    assert "Framework :: napari" in metadata.get_all("Classifier", [])


@pytest.mark.slow
def test_sdist_holds_the_project_and_no_working_folder(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {"training/configs/ldm.toml", "docs/index.md", "tests/test_package.py", "Makefile", "LICENSE"} <= names
    assert {"src/napari_vqldm/py.typed", "benchmarks/bundled.py", "tools/setup_venv.sh", "mkdocs.yml"} <= names
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"src", "tests", "training", "benchmarks", "docs", "tools"}
    assert not [name for name in names if "__pycache__" in name]


def test_bundled_weights_are_small() -> None:
    paths = available()
    expect_both_models(set(paths), "this installation")
    for name, path in paths.items():
        assert path.stat().st_size <= 32 * MIB, name
        assert sum(read_header(path).card.parameters.values()) <= 16_000_000, name
    assert sum(path.stat().st_size for path in paths.values()) <= 99 * MIB


def test_documentation_media_are_small() -> None:
    media = [path for path in (ROOT / "docs").rglob("*") if path.suffix in {".png", ".jpg", ".svg", ".gif", ".mp4"}]
    assert sum(path.stat().st_size for path in media) <= 6 * MIB


def test_training_configs_are_the_presets() -> None:
    presets = {path.name: path for path in (ROOT / "src/napari_vqldm/training/presets").glob("*.toml")}
    configs = {path.name: path for path in (ROOT / "training/configs").glob("*.toml")}
    assert configs.keys() == presets.keys()
    for name, path in configs.items():
        assert path.is_symlink(), name
        assert path.resolve() == presets[name].resolve()
