"""Compute a layer again from its record: the work for the inference thread, and where its inputs are. No Qt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.inference.engine import Engine
from napari_vqldm.plugin.inference.estimating import self_test_of, weigh
from napari_vqldm.plugin.inference.jobs import Note
from napari_vqldm.plugin.layers import LayerSource
from napari_vqldm.recipe import FileInput, read_recipe, walk
from napari_vqldm.volume import Volume, hash_voxels

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model

Work = Callable[[Engine], Generator[Any, None, Any]]


def reproduce_work(
    source: LayerSource,
    *,
    models: Sequence[Path],
    asked: set[str],
    files: Mapping[str, FileInput],
    others: Sequence[LayerSource],
    is_forced: bool = False,
) -> Work:
    """Return the work that computes a layer again and compares; its result is a `Reproduction` or `TooLarge`.

    Parameters
    ----------
    source : LayerSource
        The layer, with its record.
    models : sequence of Path
        Checkpoints that were opened. A model that is loaded where the record was computed is used as it is.
    asked : set of str
        Fingerprints of all inputs, from `needed_inputs`.
    files, others : mapping, sequence
        Where inputs may be, see `find_inputs`.
    is_forced : bool
        Compute also what does not fit in the free memory.
    """

    def work(engine: Engine) -> Generator[Any, None, Any]:
        if "torch" not in sys.modules:
            yield Note("Loading PyTorch...")
        from napari_vqldm.reproduce import estimate_reproduction, reproduce_steps

        volume, inputs, loaded = source.read(), list(find_inputs(asked, files, others)), engine.loaded
        known: list[str | Path | Model] = [*models, *([] if loaded is None else [loaded])]
        test = None if loaded is None else self_test_of(engine, loaded)
        estimate = None if is_forced else estimate_reproduction(volume, models=known, inputs=inputs, self_test=test)
        refusal = None if estimate is None else (yield from weigh(estimate))
        if refusal is not None:
            return refusal
        result = None
        for step in reproduce_steps(volume, models=known, inputs=inputs):
            result = step.result if step.result is not None else result
            yield step
        return result

    return work


def needed_inputs(record: Mapping[str, Any]) -> set[str]:
    """Return the fingerprints of all volumes that went into a layer."""
    return {taken.sha256 for node in walk(read_recipe(record)) for taken in node.inputs if taken.sha256}


def find_inputs(asked: set[str], files: Mapping[str, FileInput], sources: Sequence[LayerSource]) -> Iterator[Volume]:
    """Read the inputs that lie in files, then look among layers for those that are left; on the inference thread."""
    from napari_vqldm.crop import crop
    from napari_vqldm.files import read_volume

    missing = set(asked)
    for sha, file in files.items():
        with suppress(VqldmError):  # gone or changed meanwhile: a layer may still hold it
            volume = read_volume(file.path, channel=file.channel, time=file.time, voxel_size_um=file.voxel_size_um)
            volume = volume if file.box is None else crop(volume, file.box)
            if hash_voxels(volume) == sha:
                missing.discard(sha)
                yield volume
    for source in sources:
        if not missing:
            return
        with suppress(VqldmError):  # a layer that cannot be read is no input
            volume = source.read()
            sha = hash_voxels(volume)
            if sha in missing:
                missing.discard(sha)
                yield volume
