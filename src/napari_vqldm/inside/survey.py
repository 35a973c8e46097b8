"""A `vq-ldm` over a whole set of volumes: how its codes are used, and code maps to show them in, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from napari_vqldm.checkpoint import Model
from napari_vqldm.codebook import CodebookUsage, need_codebook, no_usage
from napari_vqldm.files import read_volume
from napari_vqldm.files.streaming import Read, Source, Worked, each_volume
from napari_vqldm.inside.codes import CodeMap, code_map

# Code maps that are kept for atoms: thousands of windows of 32 x 128 x 128 voxels, or some tens of large stacks.
CONTEXT_BYTES = 2**26


@dataclass(frozen=True, eq=False)
class SurveyStep:
    """One volume is counted, or cannot be.

    Attributes
    ----------
    index, total, usage, name, problem
        As in `napari_vqldm.codebook.CodebookStep`.
    contexts : tuple of CodeMap
        Of the first volumes, as many as fit.
    """

    index: int
    total: int
    usage: CodebookUsage
    name: str
    problem: str
    contexts: tuple[CodeMap, ...]


def survey_steps(
    model: Model, volumes: Iterable[Source], *, read: Read = read_volume, context_bytes: int = CONTEXT_BYTES
) -> Iterator[SurveyStep]:
    """Count the codes of a set of volumes and keep code maps, one step per volume; close it to cancel.

    Parameters
    ----------
    model, volumes, read
        As in `napari_vqldm.codebook.codebook_usage`, which counts the same.
    context_bytes : int
        Memory for the code maps that are kept. The first one is kept whatever its size.

    Returns
    -------
    iterator of SurveyStep

    Raises
    ------
    CheckpointError, ConfigError, FileError
        As in `napari_vqldm.codebook.codebook_usage`.
    """
    need_codebook(model)
    maps = each_volume(volumes, lambda _, volume: code_map(model, volume), read)
    return _sum(no_usage(model), maps, context_bytes)


def _sum(usage: CodebookUsage, maps: Iterator[Worked[CodeMap]], left: int) -> Iterator[SurveyStep]:
    contexts: tuple[CodeMap, ...] = ()
    for one in maps:
        if one.result is not None:
            usage = usage + one.result.usage
            left -= one.result.codes.nbytes + one.result.is_filament.nbytes + one.result.is_padded.nbytes
            if left >= 0 or not contexts:
                contexts = (*contexts, one.result)
        yield SurveyStep(one.index, one.total, usage, one.name, one.problem, contexts)
