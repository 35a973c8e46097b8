"""Where the inputs and the models of a recipe are: files that the user has, models that come with the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from napari_vqldm.card import read_header
from napari_vqldm.errors import RecipeError
from napari_vqldm.recipe.tree import Input
from napari_vqldm.volume import Float3
from napari_vqldm.zoo import available

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class FileInput:
    """A volume in a file.

    Attributes
    ----------
    path : str
        As `read_volume` takes it.
    channel, time : optional
        Choice in a file with several.
    voxel_size_um : tuple of float, optional
        (z, y, x), where the file has none or a wrong one.
    box : tuple of three (start, stop), optional
        Voxels along z, y and x: the part that was taken. None: the whole.
    """

    path: str
    channel: int | str | None = None
    time: int | None = None
    voxel_size_um: Float3 | None = None
    box: Box | None = None


def find_file(taken: Input, files: Mapping[str, FileInput]) -> FileInput | None:
    """Return the file of an input, or None for one that is to be computed again.

    Parameters
    ----------
    taken : Input
        What a verb took.
    files : mapping
        By the fingerprint of the voxels; for records that have none, by the name of the file that was read.

    Raises
    ------
    RecipeError
        If it is in no file and cannot be computed again.
    """
    if taken.sha256 is not None and taken.sha256 in files:
        return files[taken.sha256]
    node = taken.node
    if taken.sha256 is None and node.file_name in files:
        return files[node.file_name]
    if not node.is_computed:
        raise RecipeError(f"the input, {node.title}, is not known as a file here: save it to a file first")
    if taken.is_changed:
        raise RecipeError(f"the input, {node.title}, was changed after it was computed: save it to a file first")
    return None


def find_model(request: Mapping[str, Any], models: Mapping[str, str]) -> str:
    """Return the name of a bundled model, or the path of a checkpoint, with the weights of a request.

    Raises
    ------
    RecipeError
        If neither has them.
    """
    sha256, name = str(request.get("weights_sha256", "")), request.get("model", "unknown")
    if sha256 in (bundled := bundled_models()):
        return bundled[sha256]
    if sha256 in models:
        return models[sha256]
    raise RecipeError(
        f"the model {name!r} (weights {sha256[:12] or 'unknown'}) is not bundled with this version of napari-vqldm: "
        "give the checkpoint file"
    )


def bundled_models() -> dict[str, str]:
    """Return the names of the bundled models by the fingerprint of their weights; reads their headers alone."""
    return {_fingerprint(path, path.stat().st_mtime_ns): name for name, path in available().items()}


@cache
def _fingerprint(path: Path, changed: int) -> str:
    return read_header(path).card.weights_sha256
