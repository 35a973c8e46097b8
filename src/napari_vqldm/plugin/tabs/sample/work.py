"""What the Sample tab asks of the inference thread: generators of steps. No Qt, and torch only when they run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.plugin.inference.engine import Engine, ModelSpec
from napari_vqldm.plugin.inference.estimating import TooLarge, check
from napari_vqldm.plugin.inference.jobs import Note, Progress
from napari_vqldm.plugin.layers.add import Limits, limits_of
from napari_vqldm.volume import Float3, Int3, Volume

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model
    from napari_vqldm.config import CameraConfig
    from napari_vqldm.generate import GenerationStep
    from napari_vqldm.plugin.inference.devices import DeviceInfo
    from napari_vqldm.plugin.inference.estimating import Ask
    from napari_vqldm.plugin.layers.source import LayerSource

Work = Callable[[Engine], Generator[Any, None, Any]]
Array = npt.NDArray[np.float32]

PREVIEW_S = 0.25  # between two previews


@dataclass(frozen=True, eq=False)
class Preview:
    """A step with a rough picture of what the volume will be.

    Attributes
    ----------
    index, total : int
        Progress, as of every step.
    volume : Volume
        Without a record.
    limits : tuple of float
        Contrast.
    """

    index: int
    total: int
    volume: Volume
    limits: Limits


@dataclass(frozen=True, eq=False)
class WayKept:
    """How one volume formed.

    Attributes
    ----------
    spec : ModelSpec
        Model that the latents belong to, and how it computes.
    latents : tuple of ndarray
        (C, d, h, w), standardised clean estimate of each step.
    stand_ins : tuple of ndarray
        float16 (Z, Y, X), rough pictures of them.
    volume : Volume
        What came out: the last frame.
    """

    spec: ModelSpec
    latents: tuple[Array, ...]
    stand_ins: tuple[npt.NDArray[np.float16], ...]
    volume: Volume

    @property
    def records(self) -> list[dict[str, Any]]:
        """Record of each frame: what the model believed after which step of which request; of the last, the volume's.

        Estimates are no result that can be asked for again by themselves, so their verb is one of its own.
        """
        record = dict(self.volume.provenance)
        kept = {key: value for key, value in record.items() if key not in ("verb", "request", "voxels_sha256")}
        request = record.get("request", {})
        last = len(self.latents) - 1
        return [*({**kept, "verb": "estimate", "request": {**request, "step": i}} for i in range(last)), record]

    def decode(self, engine: Engine, index: int) -> Generator[Any, None, Array]:
        """Decode one frame (Z, Y, X) as the volume was decoded; runs on the inference thread."""
        if index == len(self.latents) - 1:
            return self.volume.data
        import torch

        from napari_vqldm.coding import decode_latent

        model = yield from engine.use(self.spec)
        latent = torch.from_numpy(self.latents[index]).to(model.device)
        requantize, decoded = model.config.diffusion.requantize, None
        for step in decode_latent(model.space, latent[None], requantize=requantize, precision=engine.precision):
            decoded = step.result if step.result is not None else decoded
            yield Progress(step.index, step.total)
        if decoded is None:  # decode_latent ends with a result or raises
            return np.zeros(self.volume.shape, np.float32)
        return centered(decoded[0, 0].numpy(), self.volume.shape)


@dataclass(frozen=True, eq=False)
class VolumeDone:
    """A step that finished a volume.

    Attributes
    ----------
    index, total : int
        Progress, as of every step.
    volume : Volume
        With its record.
    limits : tuple of float
        Contrast.
    way : WayKept or None
        How it formed, where that was asked for.
    """

    index: int
    total: int
    volume: Volume
    limits: Limits
    way: WayKept | None


@dataclass(frozen=True, eq=False)
class Recorded:
    """What the camera made of a volume, and its contrast."""

    volume: Volume
    limits: Limits


def sample_work(
    spec: ModelSpec,
    request: Mapping[str, Any],
    *,
    ask: Ask | None = None,
    shows_preview: bool = True,
    keeps_way: bool = False,
) -> Work:
    """Return the work that generates volumes.

    Parameters
    ----------
    spec : ModelSpec
        Which model.
    request : mapping
        From `SampleState.to_request`.
    ask : Ask, optional
        Estimates the request before anything is computed; see `napari_vqldm.plugin.inference.estimating.check`.
    shows_preview : bool
        Yield a `Preview` four times a second at most.
    keeps_way : bool
        Attach a `WayKept` to the first volume of every batch.

    Returns
    -------
    callable
        A generator function. It yields notes, `Progress`, `Preview` and one `VolumeDone` for each volume, and returns
        None, or `TooLarge` when nothing was computed.
    """

    def work(engine: Engine) -> Generator[Any, None, TooLarge | None]:
        model = yield from engine.use(spec)
        refusal = yield from check(engine, model, ask)
        if refusal is not None:
            return refusal
        watcher = _Watcher(engine, model, spec, request, shows_preview, keeps_way)
        for step in _steps(model, {**request, "precision": engine.precision}):
            if isinstance(step, Note):
                watcher.forget()
                yield step
            else:
                yield from watcher.see(step)
        return None

    return work


def record_work(source: LayerSource, camera: CameraConfig) -> Work:
    """Return the work that records a noise-free layer with a camera; its result is a `Recorded`."""

    def work(_engine: Engine) -> Generator[Any, None, Recorded]:
        from napari_vqldm.record import record

        yield from ()
        volume = record(source.read(), camera)
        return Recorded(volume, limits_of(volume.data))

    return work


def conditions_work(config: Any) -> Work:
    """Return the work that finds what may be asked of a model: the optics behind one range take a moment."""

    def work(_engine: Engine) -> Generator[Any, None, Any]:
        from napari_vqldm.condition_ranges import allowed_conditions

        yield from ()
        return allowed_conditions(config)

    return work


def devices_work(engine: Engine) -> Generator[Any, None, tuple[DeviceInfo, ...]]:
    """Work that lists the devices; none as long as no job has brought PyTorch."""
    yield from ()
    return engine.devices()


def centered(volume: Array, shape: Int3) -> Array:
    """Return the center of a window (Z, Y, X), as `napari_vqldm.generate` cuts it out."""
    starts = [(size - wanted) // 2 for size, wanted in zip(volume.shape, shape, strict=True)]
    z, y, x = (slice(start, start + wanted) for start, wanted in zip(starts, shape, strict=True))
    return np.ascontiguousarray(volume[z, y, x])


def _steps(model: Model, request: Mapping[str, Any]) -> Iterator[GenerationStep | Note]:
    """Steps of the core. When memory runs out, the volumes that are left are computed in smaller batches."""
    from napari_vqldm.generate import generate_steps
    from napari_vqldm.memory import empty_device_caches, is_out_of_memory

    left = dict(request)
    num_done, num_steps = 0, 0  # before the last restart
    while True:
        size, taken = _batch_size(model, left), 0
        try:
            for step in generate_steps(model, **left):
                taken = step.index + 1
                num_done += len(step.volumes or ())
                yield replace(step, index=step.index + num_steps, total=step.total + num_steps)
            return
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        empty_device_caches()  # here the traceback, which holds tensors, is gone
        left |= {"batch": size // 2, "start": request["start"] + num_done, "count": request["count"] - num_done}
        num_steps += taken
        yield Note(f"Not enough memory for {size} volumes at once: trying {size // 2}.")


def _batch_size(model: Model, request: Mapping[str, Any]) -> int:
    """Volumes that the core computes at once."""
    from napari_vqldm.generate import default_batch

    return min(int(request["batch"] or default_batch(model.device)), int(request["count"]))


class _Watcher:
    """Turns steps of the core into steps of the tab: previews at a bearable rate, and the way where it is kept."""

    def __init__(
        self,
        engine: Engine,
        model: Model,
        spec: ModelSpec,
        request: Mapping[str, Any],
        shows_preview: bool,
        keeps_way: bool,
    ) -> None:
        self.engine, self.model, self.spec, self.request = engine, model, spec, request
        self.shows_preview, self.keeps_way = shows_preview, keeps_way
        self.shape: Int3 = request["shape"]
        self.shown_s = -PREVIEW_S
        self.sizes: dict[int, Float3] = {}
        self.forget()

    def forget(self) -> None:
        """Drop what was kept of a batch."""
        self.latents: list[Array] = []
        self.stand_ins: list[npt.NDArray[np.float16]] = []

    def see(self, step: GenerationStep) -> Iterator[Progress | Preview | VolumeDone]:
        """Yield what the tab gets for one step."""
        if step.volumes:
            for volume in step.volumes:
                yield VolumeDone(step.index, step.total, volume, limits_of(volume.data), self._way(volume))
            return
        is_due = self.shows_preview and monotonic() - self.shown_s >= PREVIEW_S
        if step.preview is None or not (is_due or self.keeps_way):
            yield Progress(step.index, step.total)
            return
        rough = centered(self.engine.preview_decoder(self.model).decode(step.preview), self.shape)
        if self.keeps_way:
            self.latents.append(step.preview)
            self.stand_ins.append(rough.astype(np.float16))
        if not is_due:
            yield Progress(step.index, step.total)
            return
        volume = Volume(rough, self._voxel_size_um(step.volume_index), name=self.model.name)
        yield Preview(step.index, step.total, volume, limits_of(rough))
        self.shown_s = monotonic()

    def _way(self, volume: Volume) -> WayKept | None:
        """The way of the first volume of a batch; the others were not watched."""
        if not self.latents:
            return None
        way = WayKept(self.spec, tuple(self.latents), tuple(self.stand_ins), volume)
        self.forget()
        return way

    def _voxel_size_um(self, index: int) -> Float3:
        """Voxel size that a volume is going to have."""
        from napari_vqldm.conditions import draw_conditions

        if index not in self.sizes:
            drawn = draw_conditions(self.model.config, self.request["seed"], index, self.request["condition"])
            self.sizes = {index: drawn.voxel_size_um}
        return self.sizes[index]


def title_of(names: Sequence[str]) -> str:
    """Title of what a run added: what undo takes back."""
    return f"Generate {names[0]}" if len(names) == 1 else f"Generate {len(names)} volumes"
