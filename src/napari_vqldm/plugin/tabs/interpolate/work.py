"""What the Interpolate tab asks of the inference thread: generators of steps. No Qt, and torch only when they run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vqldm.errors import VqldmError
from napari_vqldm.pictures import Gray
from napari_vqldm.plugin.inference.engine import Engine, ModelSpec
from napari_vqldm.plugin.inference.estimating import TooLarge, check
from napari_vqldm.plugin.inference.jobs import Note, Progress
from napari_vqldm.plugin.inference.tiles import retrying
from napari_vqldm.plugin.layers.add import Limits, limits_of
from napari_vqldm.plugin.layers.source import LayerSource
from napari_vqldm.plugin.state.interpolate import LIVE_S, Quality, bisection_order, even_ts
from napari_vqldm.plugin.tabs.interpolate.parts import (
    EncodedEnd,
    EncodedWay,
    EndRequest,
    Frame,
    SampledFrame,
    Way,
)
from napari_vqldm.plugin.widgets.thumbnails import thumbnail_of
from napari_vqldm.volume import Volume, hash_voxels

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model
    from napari_vqldm.interpolate import CodeChange
    from napari_vqldm.plugin.inference.estimating import Ask
    from napari_vqldm.recipe import FileInput
    from napari_vqldm.reconstruct import Latent

Work = Callable[[Engine], Generator[Any, None, Any]]


def encode_work(spec: ModelSpec, a: EndRequest, b: EndRequest, path: Way, *, ask: Ask | None = None) -> Work:
    """Return the work that samples what is a seed, encodes both ends and decodes them once.

    Its result is an `EncodedWay`, or `TooLarge` when nothing was computed.

    Parameters
    ----------
    spec : ModelSpec
        Which model.
    a, b : EndRequest
        The ends.
    path : Way
        Which way the frames at both ends are recorded for; their voxels do not depend on it.
    ask : Ask, optional
        Estimates the job before anything is computed; see `napari_vqldm.plugin.inference.estimating.check`.
    """

    def work(engine: Engine) -> Generator[Any, None, EncodedWay | TooLarge]:
        model = yield from engine.use(spec)
        refusal = yield from check(engine, model, ask)
        if refusal is not None:
            return refusal
        stages = 6  # read, encode and decode both
        steps = _Count(stages + sum(_num_steps(model, end) for end in (a, b)))
        ends = []
        for end in (a, b):
            volume = yield from _volume_of(engine, model, end, steps)
            yield steps.next()
            latent = yield from _latent_of(model, volume, steps)
            yield steps.next()
            sha256 = hash_voxels(volume)
            file = _file_of(end.source, volume)
            ends.append(EncodedEnd(latent, sha256, file, thumbnail_of(volume.data)))
        first, last = ends
        frames: list[Frame] = []
        most: int | None = None
        for t in (0.0, 1.0):
            frame = yield from _full_frame(model, first.latent, last.latent, t, path, most)
            most = frame.max_voxels
            frames.append(frame)
            yield steps.next()
        full_s = min(frame.seconds for frame in frames)  # the first decode of a model is slower
        if full_s > LIVE_S:
            yield Note("Preparing the preview...")
            engine.preview_decoder(model)
        limits = _union(*(limits_of(frame.volume.data) for frame in frames))
        family = model.config.family
        pair = (frames[0], frames[1])
        return EncodedWay(spec, model.weights_sha256, family, first, last, pair, limits, full_s, most)

    return work


def frame_work(way: EncodedWay, t: float, path: Way, quality: Quality) -> Work:
    """Return the work that makes one frame between encoded ends; its result is a `Frame`.

    A full frame has the bits and the record of ``interpolate(model, a, b, t, kind, snap)``, with ``max_voxels`` where
    memory ran out: it comes from there.
    """

    def work(engine: Engine) -> Generator[Any, None, Frame]:
        model = yield from engine.use(way.spec)
        if quality == "full":
            return (yield from _full_frame(model, way.a.latent, way.b.latent, t, path, way.max_voxels))
        return _preview_frame(engine, model, way, t, path)

    return work


def fill_work(way: EncodedWay, ts: Sequence[float], path: Way) -> Work:
    """Return the work that decodes several frames in full; it yields each as a `SampledFrame` and returns None."""

    def work(engine: Engine) -> Generator[Any, None, None]:
        model = yield from engine.use(way.spec)
        most = way.max_voxels
        for index, t in enumerate(ts):
            frame = yield from _full_frame(model, way.a.latent, way.b.latent, t, path, most)
            most = frame.max_voxels
            yield SampledFrame(index, len(ts), frame, way.limits)

    return work


def previews_work(way: EncodedWay, ts: Sequence[float], path: Way) -> Work:
    """Return the work that makes the previews of several frames; its result is a list of arrays (Z, Y, X)."""

    def work(engine: Engine) -> Generator[Any, None, list[Any]]:
        model = yield from engine.use(way.spec)
        previews = []
        for index, t in enumerate(ts):
            previews.append(_preview_frame(engine, model, way, t, path).volume.data)
            yield Progress(index, len(ts))
        return previews

    return work


def sample_work(spec: ModelSpec, request: Mapping[str, Any], num: int, *, ask: Ask | None = None) -> Work:
    """Return the work that samples frames between two seeds, ends first, then the middle, then the quarters.

    Parameters
    ----------
    spec : ModelSpec
        Which model.
    request : mapping
        Keyword arguments of `napari_vqldm.interpolate`; ``t`` is left out.
    num : int
        Frames, both ends included.
    ask : Ask, optional
        As in `encode_work`.

    Returns
    -------
    callable
        A generator function that yields `Progress` and one `SampledFrame` each, and returns None, or `TooLarge` when
        nothing was computed.
    """
    chosen = {key: value for key, value in request.items() if key != "t"}

    def work(engine: Engine) -> Generator[Any, None, TooLarge | None]:
        from napari_vqldm.interpolate import interpolate_steps

        model = yield from engine.use(spec)
        refusal = yield from check(engine, model, ask)
        if refusal is not None:
            return refusal
        ts = [even_ts(num)[place] for place in bisection_order(num)]
        began = perf_counter()
        for step in interpolate_steps(model, t=ts, **chosen, precision=engine.precision):
            if step.volume is None:
                yield Progress(step.index, step.total)
                continue
            frame = Frame(step.t, step.volume, "full", perf_counter() - began)
            picture = thumbnail_of(step.volume.data) if step.t in (0.0, 1.0) else None
            yield SampledFrame(step.index, step.total, frame, limits_of(step.volume.data), picture)
            began = perf_counter()
        return None

    return work


def write_work(folder: Path, stem: str, num: int, frame_of: Callable[[Engine, int], Iterator[Any]]) -> Work:
    """Return the work that writes one OME-TIFF per frame into a new folder: all of them or, when it fails, no folder.

    Parameters
    ----------
    folder : Path
        To be made; its parent exists.
    stem : str
        Files are called ``STEM-000.ome.tif`` and so on.
    num : int
        Frames.
    frame_of : callable
        Generator function of engine and index that returns the `Volume`.

    Returns
    -------
    callable
        A generator function that returns the folder.
    """

    def work(engine: Engine) -> Generator[Any, None, Path]:
        from napari_vqldm.files import atomic_path, write_volume

        with atomic_path(folder) as temporary:
            temporary.mkdir()
            for index in range(num):
                volume = yield from _generator(frame_of(engine, index))
                write_volume(temporary / f"{stem}-{index:03d}.ome.tif", volume)
                yield Progress(index, num)
        return folder

    return work


def picture_work(source: LayerSource) -> Work:
    """Return the work that draws the thumbnail of a layer, uint8 (H, W); None where it holds nothing to show."""

    def work(_engine: Engine) -> Generator[Any, None, Gray | None]:
        yield from ()
        try:
            return thumbnail_of(source.read().data)
        except VqldmError:  # told when the layer is used
            return None

    return work


class _Count:
    """Numbers the steps of a job whose stages have steps of their own."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._done = 0

    def here(self) -> Progress:
        """The step that is under way, again: tiles of one stage."""
        return Progress(min(self._done, self.total - 1), self.total)

    def next(self) -> Progress:
        """One step is done."""
        step = self.here()
        self._done += 1
        return step


def _num_steps(model: Model, end: EndRequest) -> int:
    """Denoising steps and decode of a seed; 0 for a layer."""
    if end.seed is None:
        return 0
    steps = end.seed.get("steps") or model.config.diffusion.steps
    return int(steps) + 1


def _volume_of(engine: Engine, model: Model, end: EndRequest, steps: _Count) -> Generator[Any, None, Volume]:
    """Read the layer, or sample the seed."""
    if end.source is not None:
        return end.source.read()
    if end.seed is None:
        raise VqldmError("expected a layer or a seed as an end, got neither: choose one")
    from napari_vqldm.generate import generate_steps

    yield Note(f"Sampling seed {end.seed['seed']} first...")
    volume = None
    for step in generate_steps(model, **end.seed, precision=engine.precision):
        volume = step.volumes[0] if step.volumes else volume
        yield steps.next()
    if volume is None:
        raise VqldmError("expected a sampled volume, got none: try again")
    return volume


def _latent_of(model: Model, volume: Volume, steps: _Count) -> Generator[Any, None, Latent]:
    """Encode a volume; with smaller tiles where memory runs out."""
    from napari_vqldm.reconstruct import encode_steps

    latent: Latent | None = None
    for step in retrying(lambda n: encode_steps(model, volume, max_voxels=n)):
        if isinstance(step, Note):
            yield step
            continue
        latent = step.latent if step.latent is not None else latent
        yield steps.here()
    if latent is None:
        raise VqldmError("expected a latent, got none: encode again")
    return latent


def _full_frame(
    model: Model, a: Latent, b: Latent, t: float, path: Way, most: int | None
) -> Generator[Any, None, Frame]:
    """Run `interpolate_steps` for one t, with smaller tiles than ``most`` where memory runs out.

    A tile is no step of the job that asks.
    """
    from napari_vqldm.interpolate import changed_codes, interpolate_steps

    began, volume = perf_counter(), None
    for step in retrying(lambda n: interpolate_steps(model, a, b, t, path.kind, path.snap, max_voxels=n), most):
        if isinstance(step, Note):
            yield step
            began = perf_counter()  # the time of a frame is that of the try that fits
            continue
        volume = step.volume if step.volume is not None else volume
        if volume is None:
            yield None
    if volume is None:
        raise VqldmError("expected a decoded frame, got none: try again")
    seconds = perf_counter() - began
    return Frame(t, volume, "full", seconds, changed_codes(model, a, b, t, path.kind))


def _preview_frame(engine: Engine, model: Model, way: EncodedWay, t: float, path: Way) -> Frame:
    """Decode roughly: what `decode_steps` does, with a linear map for the network."""
    from napari_vqldm.interpolate import blend
    from napari_vqldm.reconstruct import latent_tensor
    from napari_vqldm.resample import resample_to

    began = perf_counter()
    decoder = engine.preview_decoder(model)
    latent = blend(model, way.a.latent, way.b.latent, t, path.kind, path.snap)
    rough = np.ascontiguousarray(latent.padding.crop(decoder.decode(latent_tensor(model, latent)[0])))
    data = latent.intensity.invert(resample_to(rough, latent.shape))
    change = _change(latent, way.a.latent, way.b.latent)
    volume = Volume(np.asarray(data, np.float32), latent.voxel_size_um, {}, latent.name)
    return Frame(t, volume, "preview", perf_counter() - began, change)


def _change(latent: Latent, a: Latent, b: Latent) -> CodeChange | None:
    """What `changed_codes` counts, from codes that are there already: looking them up takes longer than a preview."""
    from napari_vqldm.interpolate import CodeChange

    if latent.codes is None or a.codes is None or b.codes is None:
        return None
    from_a, from_b = (int(np.count_nonzero(latent.codes != end.codes)) for end in (a, b))
    return CodeChange(from_a, from_b, latent.codes.size)


def _file_of(source: LayerSource | None, volume: Volume) -> FileInput | None:
    """The file behind a volume, if it still holds these voxels."""
    if source is None:
        return None
    file = source.file_input
    return file if file is not None and source.is_in_file(volume) else None


def _union(*limits: Limits) -> Limits:
    return min(low for low, _ in limits), max(high for _, high in limits)


def _generator(steps: Iterator[Any]) -> Generator[Any, None, Any]:
    """Delegate to an iterator and return what it returns."""
    return (yield from steps)
