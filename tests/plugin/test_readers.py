"""Readers claim only what is ours; what is written comes back bit for bit with its record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import zarr
from safetensors.numpy import save_file

from napari_vqldm.card import METADATA_KEY
from napari_vqldm.files import read_volume, write_volume
from napari_vqldm.files.latents import LatentFile, save_latent
from napari_vqldm.files.provenance import make_provenance
from napari_vqldm.plugin.layers import add_series, snapshot
from napari_vqldm.plugin.readers import get_checkpoint_reader, get_volume_reader
from napari_vqldm.plugin.settings import PLUGIN
from napari_vqldm.volume import Volume
from napari_vqldm.zoo import available

if TYPE_CHECKING:
    import napari

RECORD = make_provenance("generate", seed=7, steps=4)
SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".ome.zarr", ".zarr")
CLAIMED = (".ome.tif", ".ome.tiff", ".ome.zarr", ".zarr")


def noise(provenance: dict[str, object] | None = None) -> Volume:
    data = np.random.default_rng(3).normal(size=(5, 7, 6))
    return Volume(data, (0.3, 0.1, 0.2), RECORD if provenance is None else provenance, "noise")


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_checkpoints_are_claimed(tiny_checkpoints: dict[str, Path]) -> None:
    for path in (*tiny_checkpoints.values(), *available().values()):
        assert get_checkpoint_reader(str(path)) is not None
        assert get_checkpoint_reader([str(path)]) is not None
    assert get_checkpoint_reader([str(path) for path in tiny_checkpoints.values()]) is None


def test_a_checkpoint_of_a_newer_format_is_claimed(tmp_path: Path) -> None:
    """The dock explains it; a reader that refuses it would leave the user without a word."""
    path = tmp_path / "newer.safetensors"
    save_file({"a": np.zeros(2, np.float32)}, path, {METADATA_KEY: json.dumps({"format_version": 99})})
    assert get_checkpoint_reader(str(path)) is not None


def foreign_safetensors(folder: Path) -> dict[str, Path]:
    paths = {name: folder / f"{name}.safetensors" for name in ("other", "empty", "short", "lying", "text", "folder")}
    save_file({"weight": np.zeros(3, np.float32)}, paths["other"], {"format": "pt", "about": 'not "napari_vqldm"'})
    paths["empty"].write_bytes(b"")
    paths["short"].write_bytes(b"\x10\x00")
    paths["lying"].write_bytes((2**62).to_bytes(8, "little") + b'{"__metadata__": {"napari_vqldm": ""}}')
    paths["text"].write_text('"napari_vqldm" ' * 20)
    paths["folder"].mkdir()
    latent = LatentFile("ldm", "0" * 64, "m", latent=np.zeros((3, 2, 2, 2), np.float32))
    paths["latent"] = save_latent(folder / "latent.safetensors", latent)
    paths["missing"] = folder / "missing.safetensors"
    return paths


@pytest.mark.parametrize("name", ("other", "empty", "short", "lying", "text", "folder", "latent", "missing"))
def test_other_safetensors_are_left_to_others(tmp_path: Path, name: str) -> None:
    assert get_checkpoint_reader(str(foreign_safetensors(tmp_path)[name])) is None


def test_a_checkpoint_under_another_name_is_not_claimed(tiny_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copy(tiny_checkpoints["ldm"], tmp_path / "model.bin")
    assert get_checkpoint_reader(str(copy)) is None


# --- volumes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", CLAIMED)
def test_written_layer_comes_back_bit_for_bit(viewer: napari.Viewer, tmp_path: Path, suffix: str) -> None:
    volume = noise()
    layer = viewer.add_image(
        volume.data, scale=(300, 100, 200), units=("nm",) * 3, metadata={"napari_vqldm": RECORD}, name="noise"
    )
    path = tmp_path / f"saved{suffix}"
    assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
    (back,) = viewer.open(str(path), plugin=PLUGIN)
    assert np.array_equal(back.data, volume.data) and back.data.dtype == np.float32
    assert np.allclose(back.scale, (0.3, 0.1, 0.2), rtol=1e-12)
    assert [str(unit) for unit in back.units] == ["micrometer"] * 3
    assert back.metadata["napari_vqldm"] == RECORD
    assert read_volume(path).provenance == RECORD


@pytest.mark.parametrize("suffix", CLAIMED)
def test_a_series_comes_back_with_the_record_of_each_frame(viewer: napari.Viewer, tmp_path: Path, suffix: str) -> None:
    records = [make_provenance("interpolate", t=t) for t in (0.0, 0.5, 1.0)]
    frames = np.random.default_rng(4).normal(size=(3, 5, 7, 6)).astype(np.float32)
    layer = add_series(viewer, frames, (0.3, 0.1, 0.2), name="way", step=0.5, start=2, provenances=records)
    path = tmp_path / f"way{suffix}"
    assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
    (back,) = viewer.open(str(path), plugin=PLUGIN)
    assert np.array_equal(back.data, frames)
    assert np.allclose(back.scale, (0.5, 0.3, 0.1, 0.2), rtol=1e-12) and back.translate[0] == 2
    assert [str(unit) for unit in back.units] == ["pixel", *["micrometer"] * 3] and back.axis_labels[0] == "t"
    assert back.metadata["napari_vqldm"]["frames"] == records
    shown = snapshot(back, time=1)
    assert shown.provenance == records[1] and np.array_equal(shown.read().data, frames[1])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_volumes_of_the_command_line_are_claimed(tmp_path: Path, suffix: str) -> None:
    assert get_volume_reader(str(write_volume(tmp_path / f"v{suffix}", noise()))) is not None


def foreign_stacks(folder: Path) -> dict[str, Path]:
    data = noise().data
    paths = {name: folder / f"{name}.ome.tif" for name in ("plain", "ome", "imagej", "empty", "text", "truncated")}
    tifffile.imwrite(paths["plain"], data, description='Namespace="elsewhere"')
    tifffile.imwrite(paths["ome"], data, ome=True, metadata={"axes": "ZYX", "Description": "napari-vqldm"})
    tifffile.imwrite(paths["imagej"], data, imagej=True)
    paths["empty"].write_bytes(b"")
    paths["text"].write_text('Namespace="napari-vqldm" K="provenance"')
    whole = write_volume(folder / "whole.ome.tif", noise()).read_bytes()
    paths["truncated"].write_bytes(whole[: len(whole) // 2])
    paths["missing"] = folder / "missing.ome.tif"
    paths["folder"] = folder / "stacks"
    paths["folder"].mkdir()
    shutil.copy(folder / "whole.ome.tif", paths["folder"])
    paths["zarr"] = folder / "other.ome.zarr"
    zarr.open_group(str(paths["zarr"]), mode="w", zarr_format=3).attrs["ome"] = {"version": "0.5"}
    paths["damaged zarr"] = folder / "damaged.zarr"
    paths["damaged zarr"].mkdir()
    (paths["damaged zarr"] / "zarr.json").write_text('{"attributes": [')
    return paths


FOREIGN = ("plain", "ome", "imagej", "empty", "text", "truncated", "missing", "folder", "zarr", "damaged zarr")


@pytest.mark.parametrize("name", FOREIGN)
def test_other_stacks_are_left_to_others(tmp_path: Path, name: str) -> None:
    assert get_volume_reader(str(foreign_stacks(tmp_path)[name])) is None


def test_files_to_be_stacked_are_left_to_others(tmp_path: Path) -> None:
    paths = [str(write_volume(tmp_path / f"{i}.ome.tif", noise())) for i in range(2)]
    assert get_volume_reader(paths) is None


def test_napari_opens_a_plain_stack_without_asking(viewer: napari.Viewer, tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, noise().data)
    (layer,) = viewer.open(str(path), plugin=None)
    assert layer.source.reader_plugin == "napari"


# --- what cannot be written -------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], np.ndarray], dict[str, object], str]] = {
    "2D": (lambda: np.zeros((6, 5)), {}, "2D image"),
    "RGB": (lambda: np.zeros((4, 6, 5, 3), np.uint8), {"rgb": True}, "RGB"),
    "series": (lambda: np.ones((2, 4, 6, 5)), {"scale": (1, 0.2, 0.1, 0.1)}, "4 axes"),
    "no voxel size": (lambda: np.ones((4, 6, 5)), {}, "states no voxel size"),
    "NaN": (lambda: np.full((4, 6, 5), np.nan), {"scale": (0.2, 0.1, 0.1)}, "NaN"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("suffix", (".ome.tif", ".ome.zarr"))
def test_refusal_is_one_line_and_leaves_the_old_file(
    viewer: napari.Viewer, tmp_path: Path, case: str, suffix: str
) -> None:
    make, attributes, words = REFUSED[case]
    path = write_volume(tmp_path / f"old{suffix}", noise())
    layer = viewer.add_image(make(), contrast_limits=(0, 1), name="picture", **attributes)
    with pytest.raises(Exception, match=words) as caught:
        layer.save(str(path), plugin=PLUGIN)
    assert "\n" not in str(caught.value) and "picture" in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert np.array_equal(read_volume(path).data, noise().data)


def test_missing_folder_is_explained(viewer: napari.Viewer, tmp_path: Path) -> None:
    layer = viewer.add_image(noise().data, scale=(0.3, 0.1, 0.2), units=("um",) * 3)
    with pytest.raises(Exception, match="create it first"):
        layer.save(str(tmp_path / "no" / "folder.ome.tif"), plugin=PLUGIN)
