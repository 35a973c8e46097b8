"""What the Codebook tab asks of the inference thread about codes: generators of steps. torch only when they run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import VolumeError, VqldmError
from napari_vqldm.plugin.inference.engine import Engine, ModelSpec
from napari_vqldm.plugin.inference.jobs import Note, Progress
from napari_vqldm.plugin.inference.tiles import retrying
from napari_vqldm.plugin.layers.source import LayerSource
from napari_vqldm.plugin.tabs.codebook.state import Found

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_vqldm.checkpoint import Model
    from napari_vqldm.codebook import CodebookUsage
    from napari_vqldm.inside.codes import CodeMap
    from napari_vqldm.recipe import FileInput
    from napari_vqldm.volume import Volume

Work = Callable[[Engine], Iterator[Any]]

PAUSE_S = 0.2  # between two pictures of a count that goes on: redrawing must not slow it down


@dataclass(frozen=True, eq=False)
class Counted:
    """Counts so far: a step of a job.

    Attributes
    ----------
    index, total : int
        Progress, as of every step.
    found : Found
        The counts.
    number : int
        Which source was counted last, from 0; -1 for a folder.
    code_map : CodeMap or None
        Its codes; None for a folder.
    file : FileInput or None
        Where the voxels of the source lie in a file, when they do.
    """

    index: int
    total: int
    found: Found
    number: int = -1
    code_map: CodeMap | None = None
    file: FileInput | None = None


def count_layers_work(spec: ModelSpec, sources: Sequence[LayerSource]) -> Work:
    """Return the work that finds and counts the codes of layers, one after the other.

    Parameters
    ----------
    spec : ModelSpec
        A ``vq-ldm``.
    sources : sequence of LayerSource
        Each is read when its turn comes.

    Returns
    -------
    callable
        A generator function. It yields notes, `Progress` and one `Counted` for each source; what goes wrong with one of
        several is among the problems of the next. A single source that cannot be counted raises, as do all of several.
    """

    def work(engine: Engine) -> Generator[Any, None, None]:
        from napari_vqldm.inside.survey import CONTEXT_BYTES

        model = yield from engine.use(spec)
        usage, vectors = _start(model)
        contexts: tuple[CodeMap, ...] = ()
        problems: tuple[str, ...] = ()
        count, many = 0, len(sources)
        last: Counted | None = None
        for number, source in enumerate(sources):
            try:
                volume, code_map = yield from _map_steps(model, source, number, many)
            except VqldmError as error:
                if many == 1:
                    raise
                problems = (*problems, str(error))
                continue
            usage, count = usage + code_map.usage, count + 1
            if not contexts or sum(map(_bytes_of, (*contexts, code_map))) <= CONTEXT_BYTES:
                contexts = (*contexts, code_map)
            is_last = number == many - 1
            what = what_of_layers(sources, count, is_last)
            found = _found(model, vectors, usage, contexts, what, count, problems, is_complete=is_last)
            last = Counted((number + 1) * 2 - 1, many * 2, found, number, code_map, file_behind(source, volume))
            yield last
        if last is None:
            raise VolumeError(f"none of {many} layers can be counted, the first: {problems[0]}")
        if not last.found.is_complete:  # the last layers could not be counted
            what = what_of_layers(sources, count, is_complete=True)
            found = replace(last.found, what=what, problems=problems, is_complete=True)
            yield Counted(many * 2 - 1, many * 2, found)

    return work


def count_folder_work(spec: ModelSpec, folder: Path) -> Work:
    """Return the work that counts the codes of all volumes of a folder, one in memory at a time.

    It yields notes, `Progress` for every file, and a `Counted` a few times a second and at the end. Raises `FileError`
    if not one file can be used.
    """

    def work(engine: Engine) -> Generator[Any, None, None]:
        from napari_vqldm.files import list_volumes
        from napari_vqldm.inside.survey import survey_steps

        files = list_volumes(folder)
        model = yield from engine.use(spec)
        _, vectors = _start(model)
        pause = Pause()
        problems: tuple[str, ...] = ()
        for step in survey_steps(model, files):
            problems = (*problems, step.problem) if step.problem else problems
            count, is_last = step.index + 1 - len(problems), step.index == step.total - 1
            if not count or not (pause.is_over() or is_last):
                yield Progress(step.index, step.total)
                continue
            what = what_of_folder(folder, count, is_last)
            yield Counted(
                step.index,
                step.total,
                _found(model, vectors, step.usage, step.contexts, what, count, problems, is_complete=is_last),
            )

    return work


def quantization_work(spec: ModelSpec, source: LayerSource) -> Work:
    """Return the work that measures what quantization costs in a layer; its result is a `QuantizationError`."""

    def work(engine: Engine) -> Generator[Any, None, Any]:
        from napari_vqldm.inside.quantization import quantization_steps

        model = yield from engine.use(spec)
        volume, result = source.read(), None
        for step in retrying(lambda n: quantization_steps(model, volume, max_voxels=n)):
            if isinstance(step, Note):
                yield step
                continue
            result = step.result
            yield Progress(step.index, step.total)
        return result

    return work


class Pause:
    """Tells whether enough time has passed since it said so last; true at first."""

    def __init__(self) -> None:
        self._last_s = -PAUSE_S

    def is_over(self) -> bool:
        """Whether `PAUSE_S` seconds have passed; then the next pause begins."""
        now = monotonic()
        if now - self._last_s < PAUSE_S:
            return False
        self._last_s = now
        return True


def what_of_layers(sources: Sequence[LayerSource], count: int, is_complete: bool) -> str:
    """Say in plain words what was counted."""
    if len(sources) == 1:
        source = sources[0]
        return f"layer {source.name}" + ("" if source.time is None else f", time point {source.time}")
    return f"{count} layer{'' if count == 1 else 's'}" if is_complete else f"{len(sources)} layers"


def what_of_folder(folder: Path, count: int, is_complete: bool) -> str:
    """Say in plain words what was counted."""
    called = f"folder {folder.name or folder}"
    return f"{count} volume{'' if count == 1 else 's'} of {called}" if is_complete else called


def _map_steps(
    model: Model, source: LayerSource, number: int, many: int
) -> Generator[Any, None, tuple[Volume, CodeMap]]:
    """Steps of one layer; each layer counts as much as another."""
    from napari_vqldm.inside.codes import code_map_steps

    volume = replace(source.read(), name=source.name)
    for step in retrying(lambda n: code_map_steps(model, volume, max_voxels=n)):
        if isinstance(step, Note):
            yield step
            continue
        yield Progress(number * step.total + step.index, many * step.total)
        if step.result is not None:
            return volume, step.result
    raise VolumeError(f"{source.name!r}: no codes were found: choose another layer")


def _start(model: Model) -> tuple[CodebookUsage, npt.NDArray[np.float32]]:
    """Counts of zero, and the code vectors; refuses a model without codebook."""
    from napari_vqldm.codebook import need_codebook, no_usage
    from napari_vqldm.inside.plane import code_vectors

    need_codebook(model)
    return no_usage(model), code_vectors(model)


def _found(
    model: Model,
    vectors: npt.NDArray[np.float32],
    usage: CodebookUsage,
    contexts: tuple[CodeMap, ...],
    what: str,
    num_volumes: int,
    problems: tuple[str, ...],
    is_complete: bool,
) -> Found:
    from napari_vqldm.inside.atoms import commonest_background

    try:
        background = commonest_background(contexts)
    except VolumeError:  # filaments everywhere
        background = None
    return Found(
        model_name=model.name,
        weights_sha256=model.weights_sha256,
        usage=usage,
        contexts=contexts,
        vectors=vectors,
        is_implicit=model.space.quantizer.is_implicit,
        background_code=background,
        what=what,
        num_volumes=num_volumes,
        problems=problems,
        is_complete=is_complete,
    )


def _bytes_of(code_map: CodeMap) -> int:
    return code_map.codes.nbytes + code_map.is_filament.nbytes + code_map.is_padded.nbytes


def file_behind(source: LayerSource, volume: Volume) -> FileInput | None:
    """The file behind a layer, when it holds the voxels that were counted."""
    file = source.file_input
    return file if file is not None and source.is_in_file(volume) else None
