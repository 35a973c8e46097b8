"""What it takes to run a recipe: the parts that are computed again, each on the grid that its record tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from napari_vqldm.card import read_header
from napari_vqldm.checkpoint import Model
from napari_vqldm.config import Int3
from napari_vqldm.errors import VqldmError
from napari_vqldm.estimate import (
    Estimate,
    Outline,
    estimate_encoding,
    estimate_generation,
    estimate_interpolation,
    estimate_sequence,
    estimate_uncertainty,
)
from napari_vqldm.estimate.outline import outline_of
from napari_vqldm.recipe import Node, call_of
from napari_vqldm.recompute import Recomputation
from napari_vqldm.self_test import SelfTest
from napari_vqldm.volume import Float3

_SAMPLED_BY = ("steps", "sampler", "guidance_scale", "precision")


@dataclass(frozen=True)
class _Grid:
    """Voxels (Z, Y, X) of what a record describes, and its voxel size (z, y, x), um, where that is known."""

    shape: Int3
    voxel_size_um: Float3 | None


def estimate_recipe(runner: Recomputation, root: Node, self_test: SelfTest | None = None) -> Estimate | None:
    """Estimate what `Recomputation.evaluate` takes, one part after the other.

    Parameters
    ----------
    runner : Recomputation
        Its models, inputs and devices.
    root : Node
        The recipe; checked.
    self_test : SelfTest, optional
        Counts for the parts that it was made for: the same weights, device and number of threads.

    Returns
    -------
    Estimate or None
        None where no part has a model: simulations and arithmetic on volumes are not estimated.
    """
    found: list[tuple[Outline, Estimate]] = []
    for node in runner.nodes(root):
        if call_of(node).has_model:
            outline = _outline(runner, node)
            estimate = _of_node(runner, node, outline, _fitting(self_test, node, outline))
            if estimate is not None:
                found.append((outline, estimate))
    return estimate_sequence(found[0][0], [estimate for _, estimate in found]) if found else None


def _of_node(runner: Recomputation, node: Node, outline: Outline, test: SelfTest | None) -> Estimate | None:
    """Estimate one record; None where it does not tell enough."""
    call = call_of(node)
    options = dict(call.options)
    tiles, sampling = _picked(options, ("max_voxels",)), _picked(options, _SAMPLED_BY)
    try:
        if call.function == "generate":
            how_many = _picked(options, ("count", "shape", "camera", "batch"))
            return estimate_generation(outline, **how_many, **sampling, self_test=test)
        if call.positional:  # between two seeds
            return estimate_interpolation(outline, 1, **sampling, self_test=test)
        grid = _grid(runner, node)
        if grid is None or grid.voxel_size_um is None:
            return None
        if call.function in ("decode", "interpolate"):
            return estimate_interpolation(outline, 1, grid.shape, grid.voxel_size_um, **tiles, self_test=test)
        is_given = "intensity" in options
        if call.function == "encode":
            return estimate_encoding(
                outline, grid.shape, grid.voxel_size_um, **tiles, is_intensity_given=is_given, self_test=test
            )
        if call.function == "uncertainty":
            draws = _picked(options, ("draws", "kind"))
            return estimate_uncertainty(outline, grid.shape, grid.voxel_size_um, **draws, **tiles, self_test=test)
    except VqldmError:  # what cannot be asked for is refused when it is computed
        return None
    return None


def _grid(runner: Recomputation, node: Node) -> _Grid | None:
    """Return the grid of what a record describes; None where it does not tell."""
    try:
        if node.verb == "generate":
            z, y, x = (int(n) for n in node.request["shape"])
            return _Grid((z, y, x), None)
        if node.verb == "simulate":
            z, y, x = (int(n) for n in node.request["config"]["shape"])
            return _Grid((z, y, x), None)
        if not node.inputs:
            return None
        taken = node.inputs[0]
        given = runner.find(taken)
        below = _grid(runner, taken.node) if given is None else _Grid(given.shape, given.voxel_size_um)
        if node.verb == "crop":
            z, y, x = (int(stop) - int(start) for start, stop in node.request["box"])
            below = _Grid((z, y, x), None if below is None else below.voxel_size_um)
    except (KeyError, TypeError, ValueError):
        return None
    if below is None or taken.voxel_size_um is None:
        return below
    return replace(below, voxel_size_um=taken.voxel_size_um)


def _outline(runner: Recomputation, node: Node) -> Outline:
    """Return the model of a record where it is going to be computed: loaded, or still to be loaded."""
    place, threads = runner.place(node), runner.count(node) or torch.get_num_threads()
    loaded = runner.loaded_model(node)
    if loaded is not None:
        return replace(outline_of(loaded), threads=threads)
    found = runner.find_model(node)
    header = found.header if isinstance(found, Model) else read_header(found)
    return Outline.of_header(header, place, threads)


def _fitting(test: SelfTest | None, node: Node, outline: Outline) -> SelfTest | None:
    """Return the self-test if it was made for this model as it is going to compute."""
    if test is None or (test.device, test.threads) != (outline.device, outline.threads):
        return None
    return test if test.weights_sha256 == node.request.get("weights_sha256") else None


def _picked(options: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}
