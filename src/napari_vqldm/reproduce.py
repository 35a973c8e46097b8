"""Compute a volume again from its record, compare the bits, and say what differs between then and now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_vqldm.checkpoint import Model
from napari_vqldm.environment import Difference
from napari_vqldm.errors import RecipeError
from napari_vqldm.estimate import Estimate
from napari_vqldm.recipe import Node, read_recipe
from napari_vqldm.recompute import Recomputation, models_by_weights
from napari_vqldm.recompute_cost import estimate_recipe
from napari_vqldm.self_test import SelfTest
from napari_vqldm.volume import Volume, hash_voxels

_IDENTICAL = "identical to the last bit"


@dataclass(frozen=True, eq=False)
class Reproduction:
    """Result of `reproduce`.

    Attributes
    ----------
    volume : Volume
        Computed again.
    is_equal : bool
        Whether grid, voxel size and all voxels are the same, bit for bit.
    max_abs_difference : float or None
        Largest difference of a voxel, units of the volume; None where the grids differ.
    differences : tuple of Difference
        In what the computation then and that now differ, of the volume and of all inputs that were computed again.
    is_changed : bool
        Whether the voxels of the given volume were changed after they were computed.
    verdict : str
        One line.
    """

    volume: Volume
    is_equal: bool
    max_abs_difference: float | None
    differences: tuple[Difference, ...]
    is_changed: bool
    verdict: str


@dataclass(frozen=True)
class ReproductionStep:
    """Progress of `reproduce_steps`: one step of what is done; ``result`` is set by the last.

    ``total`` grows as the parts of the recipe become known.
    """

    index: int
    total: int
    doing: str
    result: Reproduction | None = None


def reproduce(
    volume: Volume,
    *,
    models: Sequence[str | Path | Model] = (),
    inputs: Sequence[Volume] = (),
    device: str | None = None,
    threads: int | None = None,
    allow_differences: bool = True,
) -> Reproduction:
    """Compute a volume again and compare.

    Parameters
    ----------
    volume : Volume
        With the record that this package gave it.
    models : sequence of str, Path or Model
        Checkpoints, or loaded models, where the record names weights that are not bundled. Found by their fingerprint.
    inputs : sequence of Volume
        Volumes that were read from files. Found by the fingerprint of their voxels. Inputs that this package computed
        are computed again where they are not given.
    device : str, optional
        Where to compute. None: where each part was computed, or the CPU where this machine has no such device.
    threads : int, optional
        Of PyTorch. None: as many as each part was computed with. Put back afterwards.
    allow_differences : bool
        Whether to compute where the record and this machine differ.

    Returns
    -------
    Reproduction
        The volume, the comparison, and every difference with its own message.

    Raises
    ------
    RecipeError
        If the volume has no record of this package, or the record is damaged; or if ``allow_differences`` is not set
        and there are any.
    CheckpointError
        If no model with the recorded weights is known.
    FileError
        If an input is neither given nor computable.
    """
    request = reproduce_steps(
        volume,
        models=models,
        inputs=inputs,
        device=device,
        threads=threads,
        allow_differences=allow_differences,
    )
    return next(step.result for step in request if step.result is not None)


def reproduce_steps(
    volume: Volume,
    *,
    models: Sequence[str | Path | Model] = (),
    inputs: Sequence[Volume] = (),
    device: str | None = None,
    threads: int | None = None,
    allow_differences: bool = True,
) -> Iterator[ReproductionStep]:
    """Stepwise twin of `reproduce`; close it to cancel. Inputs and models are looked for before the first step."""
    root, runner = _prepared(volume, models, inputs, device, threads)
    if not allow_differences and (found := runner.differences_of(root)):
        others = f" (and {len(found) - 1} more differences)" if len(found) > 1 else ""
        raise RecipeError(f"{found[0].message}{others}: allow differences to compute it nevertheless")
    return _reproduce(runner, root, volume)


def estimate_reproduction(
    volume: Volume,
    *,
    models: Sequence[str | Path | Model] = (),
    inputs: Sequence[Volume] = (),
    device: str | None = None,
    threads: int | None = None,
    self_test: SelfTest | None = None,
) -> Estimate | None:
    """Estimate `reproduce`, without computing or loading anything.

    Parameters
    ----------
    volume, models, inputs, device, threads
        As in `reproduce`, with its errors.
    self_test : SelfTest, optional
        Of a model on this machine: counts where that model computes as it did in the test.

    Returns
    -------
    Estimate or None
        None where no model takes part.
    """
    root, runner = _prepared(volume, models, inputs, device, threads)
    return estimate_recipe(runner, root, self_test)


def _prepared(
    volume: Volume,
    models: Sequence[str | Path | Model],
    inputs: Sequence[Volume],
    device: str | None,
    threads: int | None,
) -> tuple[Node, Recomputation]:
    """Read the recipe of a volume and look for all that it needs."""
    root = _older(read_recipe(volume.provenance), volume)
    runner = Recomputation(models_by_weights(models), inputs, device, threads)
    runner.keep(models)
    runner.check(root)
    return root, runner


def _reproduce(runner: Recomputation, root: Node, volume: Volume) -> Iterator[ReproductionStep]:
    index, evaluation = 0, runner.evaluate(root)
    while True:
        try:
            progress = next(evaluation)
        except StopIteration as done:
            again: Volume = done.value
            break
        yield ReproductionStep(index, index + 2 + progress.left, progress.doing)
        index += 1
    result = _compare(root, volume, again, runner.differences_of(root))
    yield ReproductionStep(index, index + 1, "comparing", result)


def _compare(root: Node, volume: Volume, again: Volume, differences: Sequence[Difference]) -> Reproduction:
    """Compare the volume with the one that was computed again."""
    then, now = hash_voxels(volume), hash_voxels(again)
    recorded = root.voxels_sha256
    is_changed = recorded is not None and recorded != then
    largest = None
    if volume.shape == again.shape:
        largest = float(np.max(np.abs(volume.data.astype(np.float64) - again.data)))
    verdict = _verdict(then == now, is_changed, recorded == now, largest, differences, volume, again)
    return Reproduction(again, then == now, largest, tuple(differences), is_changed, verdict)


def _verdict(
    is_equal: bool,
    is_changed: bool,
    is_recorded: bool,
    largest: float | None,
    differences: Sequence[Difference],
    volume: Volume,
    again: Volume,
) -> str:
    """Say in one line how a volume and its reproduction compare, and why they differ."""
    if is_equal:
        return _IDENTICAL if not differences else f"{_IDENTICAL}, although {_list(differences)}"
    if largest is None:
        how = f"differs in its grid, {volume.shape} and now {again.shape} voxels"
    elif largest == 0.0:
        how = f"differs in its voxel size, {volume.voxel_size_um} and now {again.voxel_size_um} um"
    else:
        how = f"differs by at most {largest:.3g}"
    if is_changed:
        changed = "the voxels were changed after they were computed"
        if is_recorded:
            return f"{how}: {changed}; those that were computed are reproduced to the last bit"
        return f"{how}: {changed}" + (f"; besides, {_list(differences)}" if differences else "")
    if differences:
        return f"{how}: {_list(differences)}"
    return f"{how}, although nothing that is recorded differs: please report this with the file"


def _list(differences: Sequence[Difference]) -> str:
    more = f" (and {len(differences) - 1} more differences)" if len(differences) > 1 else ""
    return f"{differences[0].message}{more}"


def _older(root: Node, volume: Volume) -> Node:
    """Tell the clean from the noisy image of a simulation by its name, where an older record speaks of both alike."""
    if root.verb != "simulate" or "part" in root.request:
        return root
    part = "clean" if volume.name.endswith("-clean") else "noisy"
    return replace(root, request={**root.request, "part": part})
