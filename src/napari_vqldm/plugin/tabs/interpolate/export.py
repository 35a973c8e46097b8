"""A way as a 4D layer or as files. Both hold full frames; the layer decodes them when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_vqldm.errors import MemoryLimitError, ShapeError, VqldmError
from napari_vqldm.memory import available_bytes
from napari_vqldm.plugin.inference.estimating import TooLarge, checked_work, previews_ask, writing_ask
from napari_vqldm.plugin.layers import LayerSource, add_series
from napari_vqldm.plugin.layers.lazy_frames import LazyFrames
from napari_vqldm.plugin.state.interpolate import even_ts, rounded_t
from napari_vqldm.plugin.tabs.interpolate.parts import EncodedWay, Frame, Way
from napari_vqldm.plugin.tabs.interpolate.ways import FrameRequest, LiveWay, SampledWay
from napari_vqldm.plugin.tabs.interpolate.work import frame_work, previews_work, write_work
from napari_vqldm.volume import Volume

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_vqldm.plugin.desk import Desk
    from napari_vqldm.plugin.inference.engine import Engine
    from napari_vqldm.plugin.inference.estimating import Ask
    from napari_vqldm.plugin.inference.jobs import Job


def export_ts(way: LiveWay | SampledWay, num: int) -> list[float]:
    """Return the t of exported frames: evenly spaced, or all that were sampled."""
    return way.ts if isinstance(way, SampledWay) else [rounded_t(t) for t in even_ts(num)]


def export_layer(
    desk: Desk,
    way: LiveWay | SampledWay,
    num: int,
    name: str,
    like: LayerSource | None,
    on_added: Callable[[Image, LazyFrames | None], None],
    on_refused: Callable[[TooLarge], None],
    *,
    is_forced: bool = False,
) -> Job | None:
    """Add a way as one 4D layer.

    Parameters
    ----------
    desk : Desk
        Viewer, undo, inference thread.
    way : LiveWay or SampledWay
        Frames between encoded ends are decoded when they are looked at; sampled ones are all there.
    num : int
        Frames between encoded ends, both included.
    name : str
        Of the layer.
    like : LayerSource or None
        Where the frames lie.
    on_added : callable
        Gets the layer and its lazy frames, which must be closed with the dock.
    on_refused : callable
        Gets the refusal when the frames do not fit in the free memory: nothing was added.
    is_forced : bool
        Add the layer anyway.

    Returns
    -------
    Job or None
        What prepares the layer; None when it is there at once.

    Raises
    ------
    VqldmError
        If fewer than two frames are sampled, they differ in voxel size, or do not fit in memory once more.
    """
    ts = export_ts(way, num)
    if isinstance(way, SampledWay):
        frames = [way.frames[t] for t in ts]
        on_added(_add_sampled(desk, frames, way, name), None)
        return None
    encoded, path = way.way, way.path
    records = [way.record_at(t) for t in ts]
    full_frame = _decoder(encoded, path)

    def decode(engine: Engine, index: int) -> Generator[Any, None, Any]:
        frame = yield from full_frame(engine, ts[index])
        records[index]["request"]["max_voxels"] = frame.max_voxels  # the layer's own: memory may have run out since
        return frame.volume.data

    def add(previews: list[Any] | TooLarge) -> None:
        if isinstance(previews, TooLarge):
            on_refused(previews)
            return
        lazy = LazyFrames(
            len(ts),
            encoded.a.latent.shape,
            decode,
            previews.__getitem__,
            desk,
            title=f"Decode a frame of {name}",
        )
        size = encoded.a.latent.voxel_size_um
        layer = add_series(
            desk.viewer, lazy, size, name=name, like=like, limits=way.limits, step=_step(ts), provenances=records
        )
        lazy.attach(layer)
        desk.added(f"Export {name}", [layer])
        on_added(layer, lazy)

    latent = encoded.a.latent
    ask = None if is_forced else previews_ask(len(ts), latent.shape, latent.voxel_size_um)
    work = checked_work(encoded.spec, ask, previews_work(encoded, ts, path))
    return desk.run(f"Preview {len(ts)} frames", work, on_done=add)


def export_ask(way: LiveWay | SampledWay | None, num: int) -> Ask | None:
    """Return the question what it takes to write a way to files; None where nothing has to be computed."""
    if not isinstance(way, LiveWay):
        return None
    latent = way.way.a.latent
    return writing_ask(len(export_ts(way, num)), latent.shape, latent.voxel_size_um, way.way.max_voxels)


def export_files(
    desk: Desk,
    way: LiveWay | SampledWay,
    num: int,
    stem: str,
    parent: Path,
    on_done: Callable[[Path], None],
    on_refused: Callable[[TooLarge], None],
    *,
    is_forced: bool = False,
) -> Job:
    """Write a way as one OME-TIFF per frame into a new folder in ``parent``; all of it, or nothing.

    What does not fit in the free memory is refused, as by `export_layer`.
    """
    ts = export_ts(way, num)
    folder = _free_folder(parent / stem)
    if isinstance(way, SampledWay):
        volumes = [way.frames[t].volume for t in ts]

        def frame_of(engine: Engine, index: int) -> Generator[Any, None, Any]:
            yield from ()
            return volumes[index]

    else:
        path, cached, full_frame = way.path, way.cached, _decoder(way.way, way.path)

        def frame_of(engine: Engine, index: int) -> Generator[Any, None, Any]:
            ready = cached(FrameRequest(ts[index], path, "full"))
            frame = ready if ready is not None else (yield from full_frame(engine, ts[index]))
            return frame.volume

    def done(result: Path | TooLarge) -> None:
        if isinstance(result, TooLarge):
            on_refused(result)
        else:
            on_done(result)

    ask = None if is_forced else export_ask(way, num)
    work = write_work(folder, stem, len(ts), frame_of)
    if isinstance(way, LiveWay):
        work = checked_work(way.way.spec, ask, work)
    return desk.run(f"Write {len(ts)} frames", work, on_done=done)


def stem_of(a: str, b: str) -> str:
    """Return a file name for the way between two ends."""
    words = f"{a}-to-{b}"
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in words)[:80].strip(".-") or "way"


def _decoder(encoded: EncodedWay, path: Way) -> Callable[[Engine, float], Generator[Any, None, Frame]]:
    """Return what decodes a frame at t in full, in tiles as small as the last frame needed: memory may have run out."""

    def decode(engine: Engine, t: float) -> Generator[Any, None, Frame]:
        nonlocal encoded
        frame: Frame = yield from frame_work(encoded, t, path, "full")(engine)
        encoded = replace(encoded, max_voxels=frame.max_voxels)
        return frame

    return decode


def _add_sampled(desk: Desk, frames: list[Frame], way: SampledWay, name: str) -> Image:
    """Stack sampled frames."""
    if len(frames) < 2:
        raise VqldmError(f"expected two or more sampled frames, got {len(frames)}: wait until more are ready")
    volumes = [frame.volume for frame in frames]
    sizes = [volume.voxel_size_um for volume in volumes]
    if not np.allclose(sizes, sizes[0], rtol=1e-3, atol=0):
        raise ShapeError(
            f"expected frames of one voxel size for one layer, got {sizes[0]} to {sizes[-1]} um: "
            'choose "One voxel size" and sample again, or export to files'
        )
    _check_memory(sum(volume.data.nbytes for volume in volumes))
    ts = [frame.t for frame in frames]
    layer = add_series(
        desk.viewer,
        np.stack([volume.data for volume in volumes]),
        sizes[0],
        name=name,
        limits=way.limits,
        step=_step(ts),
        provenances=[_record(volume) for volume in volumes],
    )
    desk.added(f"Export {name}", [layer])
    return layer


def _check_memory(needed: int) -> None:
    """Refuse a copy of all frames that does not fit beside them."""
    free = available_bytes()
    if free is not None and needed > free:
        raise MemoryLimitError(
            f"expected {needed / 2**30:.1f} GiB of free memory for one layer of all frames, got {free / 2**30:.1f} "
            "GiB: export to files, or sample fewer frames"
        )


def _record(volume: Volume) -> dict[str, Any]:
    return dict(volume.provenance)


def _step(ts: list[float]) -> float:
    """Distance of two frames; places of frames that are not evenly spaced are counted."""
    steps = np.diff(ts)
    return float(steps[0]) if np.allclose(steps, steps[0], rtol=0, atol=2e-3) else 1.0


def _free_folder(folder: Path) -> Path:
    """Return the folder, with a number when it exists: nothing of the user is replaced."""
    number, free = 2, folder
    while free.exists():
        free = folder.with_name(f"{folder.name}-{number}")
        number += 1
    return free
