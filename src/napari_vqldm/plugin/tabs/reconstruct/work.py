"""What the Reconstruct tab asks of the inference thread: generators of steps. No Qt, and torch only when they run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_vqldm.plugin.inference.engine import Engine, ModelSpec
from napari_vqldm.plugin.inference.estimating import check
from napari_vqldm.plugin.inference.jobs import Note, Progress
from napari_vqldm.plugin.inference.tiles import retrying
from napari_vqldm.plugin.layers.add import Limits, limits_of
from napari_vqldm.plugin.layers.source import LayerSource
from napari_vqldm.volume import Volume, hash_voxels

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model
    from napari_vqldm.compare import Comparison
    from napari_vqldm.plugin.inference.estimating import Ask
    from napari_vqldm.recipe import FileInput

Work = Callable[[Engine], Iterator[Any]]


@dataclass(frozen=True, eq=False)
class FrameDone:
    """A reconstructed frame: a step of its job.

    Attributes
    ----------
    index, total : int
        Progress, as of every step.
    frame : int
        Which source it belongs to.
    volume : Volume
        The reconstruction.
    comparison : Comparison
        With the input; `napari_vqldm.compare.not_compared` where memory ran out.
    source_sha256 : str
        Fingerprint of the voxels that were read.
    file : FileInput or None
        Where these voxels lie in a file, when they do.
    """

    index: int
    total: int
    frame: int
    volume: Volume
    comparison: Comparison
    source_sha256: str
    file: FileInput | None


@dataclass(frozen=True, eq=False)
class Derived:
    """A volume that was computed from a pair, with its contrast and the inputs that lie in files."""

    volume: Volume
    limits: Limits
    inputs: Mapping[str, FileInput]


def reconstruct_work(
    spec: ModelSpec, sources: Sequence[LayerSource], request: Mapping[str, Any], *, ask: Ask | None = None
) -> Work:
    """Return the work that reconstructs volumes one after the other.

    Parameters
    ----------
    spec : ModelSpec
        Which model.
    sources : sequence of LayerSource
        Volumes of one shape; each is read when its turn comes.
    request : mapping
        From `ReconstructState.to_request`.
    ask : Ask, optional
        Estimates the job before anything is computed; see `napari_vqldm.plugin.inference.estimating.check`.

    Returns
    -------
    callable
        A generator function. It yields notes, `Progress` and one `FrameDone` for each source, and returns None, or
        `TooLarge` when nothing was computed.
    """

    def work(engine: Engine) -> Generator[Any, None, Any]:
        model = yield from engine.use(spec)
        refusal = yield from check(engine, model, ask)
        if refusal is not None:
            return refusal
        for frame, source in enumerate(sources):
            yield from _frame_steps(model, source, request, frame, len(sources))
        return None

    return work


def residual_work(source: LayerSource, reconstruction: LayerSource) -> Work:
    """Return the work that subtracts a reconstruction from its input; its result is a `Derived`."""

    def work(_engine: Engine) -> Generator[Any, None, Any]:
        from napari_vqldm.compare import residual

        yield Progress(0, 3)
        volume, other = source.read(), reconstruction.read()
        yield Progress(1, 3)
        result = residual(volume, other)
        yield Progress(2, 3)
        return Derived(result, limits_of(result.data, "residual"), _inputs(source, volume))

    return work


def uncertainty_work(
    spec: ModelSpec,
    source: LayerSource,
    request: Mapping[str, Any],
    tiles: Mapping[str, Any],
    *,
    ask: Ask | None = None,
) -> Work:
    """Return the work that maps how much the reconstruction varies; its result is a `Derived` or `TooLarge`.

    Parameters
    ----------
    spec : ModelSpec
        Which model.
    source : LayerSource
        The input.
    request, tiles : mapping
        From `ReconstructState.to_uncertainty_request` and `ReconstructState.to_request`.
    ask : Ask, optional
        As in `reconstruct_work`.
    """

    def work(engine: Engine) -> Generator[Any, None, Any]:
        from napari_vqldm.uncertainty import uncertainty_steps

        model = yield from engine.use(spec)
        refusal = yield from check(engine, model, ask)
        if refusal is not None:
            return refusal
        volume = source.read()
        result = None
        chosen = {**request, **{key: value for key, value in tiles.items() if key != "max_voxels"}}
        for step in retrying(
            lambda n: uncertainty_steps(model, volume, **chosen, max_voxels=n), tiles.get("max_voxels")
        ):
            if isinstance(step, Note):
                yield step
                continue
            if step.result is not None:
                result = step.result.standard_deviation
            yield Progress(step.index, step.total)  # the step holds volumes that are not shown
        if result is None:  # uncertainty_steps ends with a result or raises
            return None
        return Derived(result, limits_of(result.data, "uncertainty"), _inputs(source, volume))

    return work


def read_work(*sources: LayerSource) -> Work:
    """Return the work that reads volumes; its result is a list of `Volume`."""

    def work(_engine: Engine) -> Generator[Any, None, Any]:
        volumes = []
        for index, source in enumerate(sources):
            volumes.append(source.read())
            yield Progress(index, len(sources))
        return volumes

    return work


def _frame_steps(
    model: Model, source: LayerSource, request: Mapping[str, Any], frame: int, num_frames: int
) -> Iterator[Any]:
    """Steps of one frame: those of its tiles, and those of its comparison, the last of which is the `FrameDone`."""
    from napari_vqldm.compare import num_comparison_steps
    from napari_vqldm.reconstruct import reconstruct_steps

    volume = source.read()
    chosen = {key: value for key, value in request.items() if key != "max_voxels"}
    result, compared = None, num_comparison_steps(volume.shape)
    count = compared + 1
    for step in retrying(lambda n: reconstruct_steps(model, volume, **chosen, max_voxels=n), request.get("max_voxels")):
        if isinstance(step, Note):
            yield step
            continue
        count = step.total + compared
        result = step.volume if step.volume is not None else result
        yield Progress(frame * count + step.index, num_frames * count)
    if result is None:  # reconstruct_steps ends with a volume or raises
        return
    comparison = yield from _compared(volume, result, frame * count + count - compared, num_frames * count)
    inputs = _inputs(source, volume)
    fingerprint = hash_voxels(volume)
    total = num_frames * count
    yield FrameDone((frame + 1) * count - 1, total, frame, result, comparison, fingerprint, inputs.get(fingerprint))


def _compared(volume: Volume, result: Volume, first: int, total: int) -> Generator[Any, None, Comparison]:
    """Compare, from progress ``first`` of ``total`` on; where memory runs out the result stays without numbers."""
    from napari_vqldm.compare import compare_steps, not_compared
    from napari_vqldm.memory import free_memory, is_out_of_memory

    try:
        for step in compare_steps(volume, result):
            if step.result is not None:
                return step.result
            yield Progress(first + step.index, total)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler: the arrays that the error's frames hold are gone by now.
    free_memory()
    yield Note("The reconstruction is done, but not compared with its input: too little memory is free.")
    return not_compared("too little memory was free")


def _inputs(source: LayerSource, volume: Volume) -> dict[str, FileInput]:
    """The file behind a volume by its fingerprint; empty when the volume lies in no file as it is."""
    file = source.file_input
    return {hash_voxels(volume): file} if file is not None and source.is_in_file(volume) else {}
