"""Frames that are decoded when they are looked at, as one array-like (T, Z, Y, X) for a 4D layer.

napari reads a frame whenever its slider moves, on the thread that draws. `LazyFrames` answers at once, with the frame
or a rough stand-in, decodes the frame on the inference thread, and has the layer drawn again. Whoever reads from
another thread, or asks for the whole array, waits and gets full frames: nothing that is saved holds a stand-in.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QTimer

from napari_vqldm.errors import ShapeError, VqldmError
from napari_vqldm.plugin.inference.jobs import Done, Failed, Job, Priority
from napari_vqldm.plugin.inference.live import LatestWins

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_vqldm.plugin.desk import Desk
    from napari_vqldm.plugin.inference.engine import Engine
    from napari_vqldm.volume import Int3

Frame = npt.NDArray[np.float32]
Decode = Callable[["Engine", int], Generator[object, None, Frame]]
Preview = Callable[[int], npt.NDArray[Any] | None]

_serials = itertools.count()


class LazyFrames:
    """An array-like of frames (T, Z, Y, X), float32, that are decoded one by one.

    Parameters
    ----------
    num : int
        Frames.
    shape : tuple of int
        Voxels (Z, Y, X) of each.
    decode : callable
        Generator function of engine and index that runs on the inference thread, yields after each step and returns
        the full frame (Z, Y, X).
    preview : callable or None
        Returns a rough stand-in (Z, Y, X) for an index, or None; called where the frame is drawn, so it must be cheap.
        Without one an undecoded frame is all zeros.
    desk : Desk
        Runs the decoding; its ``frames`` cache keeps what was decoded, within its budget.
    title : str
        Of the jobs.
    on_frame : callable, optional
        Called with the index on the GUI thread when a frame that was looked at is decoded.

    Notes
    -----
    Make it on the GUI thread. The layer owns it: whoever else refers to it should do so weakly. `close` it with the
    dock; frames that are decoded stay, the others keep their stand-in.
    """

    def __init__(
        self,
        num: int,
        shape: Int3,
        decode: Decode,
        preview: Preview | None,
        desk: Desk,
        *,
        title: str = "Decode a frame",
        on_frame: Callable[[int], None] | None = None,
    ) -> None:
        if num < 1 or len(shape) != 3 or min(shape) < 1:
            raise ShapeError(f"expected one frame or more of (Z, Y, X) voxels, got {num} of {shape}")
        self._frame_shape = shape
        self.shape = (num, *shape)
        self.dtype = np.dtype(np.float32)
        self.ndim = 4
        self.title = title
        self._decode = decode
        self._preview = preview
        self._desk: Desk | None = desk
        self._on_frame = on_frame
        self._key = f"lazy-frames-{next(_serials)}"
        self._gui_thread = threading.get_ident()
        self._kept: dict[int, Frame] = {}  # the last frame; after `close` all
        self._decoded: set[int] = set()
        self._wanted: int | None = None
        self._is_refreshing = False
        self._layers: list[weakref.ref[Layer]] = []
        self._zeros = np.zeros(shape, np.float32)
        self._zeros.flags.writeable = False
        self._mailbox: LatestWins[int, Frame] = LatestWins(self._start, self._show)

    # --- array-like ---------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Return a part. On the GUI thread undecoded frames come as stand-ins and are decoded in the background.

        Raises
        ------
        VqldmError
            On another thread, if a frame cannot be decoded.
        """
        first, rest = _split(key, self.ndim)
        indices = np.arange(self.shape[0])[first]
        if threading.get_ident() == self._gui_thread:
            missing = [int(i) for i in np.ravel(indices) if not self.is_ready(int(i))]
            self._want(missing)
            frame_of = self._shown
        else:
            frame_of = self.frame
        if np.ndim(indices) == 0:
            return np.asarray(frame_of(int(indices))[rest])
        frames = [frame_of(int(i))[rest] for i in indices]
        return np.stack(frames) if frames else np.empty((0, *self._zeros[rest].shape), self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all frames in full; decodes the missing ones and waits for them, also on the GUI thread.

        Raises
        ------
        VqldmError
            If a frame cannot be decoded.
        """
        if copy is False:
            raise ValueError("frames that are decoded on demand are always copied into an array")
        array = np.empty(self.shape, self.dtype)
        for index in range(len(self)):
            array[index] = self.frame(index)
        return array if dtype is None else array.astype(dtype, copy=False)

    # --- frames -------------------------------------------------------------------------------------------------------

    @property
    def num_ready(self) -> int:
        """Frames that are decoded and still there."""
        return sum(self.is_ready(index) for index in range(len(self)))

    @property
    def is_closed(self) -> bool:
        """True once nothing is decoded any more."""
        return self._desk is None

    def is_ready(self, index: int) -> bool:
        """Tell whether a frame is there in full."""
        return index in self._kept or (self._desk is not None and (self._key, index) in self._desk.frames)

    def ready(self, index: int) -> Frame | None:
        """Return a full frame if it is there."""
        kept = self._kept.get(index)
        if kept is None and self._desk is not None:
            kept = self._desk.frames.get((self._key, index))
        return kept

    def frame(self, index: int) -> Frame:
        """Return a full frame; decode it and wait for it where necessary. Any thread may ask.

        Raises
        ------
        VqldmError
            If the dock was closed before the frame was decoded, or decoding failed.
        """
        frame = self.ready(index)
        if frame is not None:
            return frame
        if self._desk is None:
            raise VqldmError(
                f"frame {index} was not decoded before the dock was closed: open the dock again and make the layer anew"
            )
        engine = self._desk.runner.engine_here
        if engine is None:
            return self._store(index, self._decoded_by_job(self._desk, index))
        with engine.suspended():  # a job of somebody else reads the layer: its settings are not those of the frames
            return self._store(index, _result_of(self._decode(cast("Engine", engine), index)))

    def attach(self, layer: Layer) -> None:
        """Draw a layer again when a frame that it showed as a stand-in is decoded."""
        self._layers.append(weakref.ref(layer))

    def close(self) -> None:
        """Stop decoding; keep the frames that are there, whatever the cache does."""
        if self._desk is None:
            return
        self._mailbox.close()
        self._kept = {i: frame for i in range(len(self)) if (frame := self.ready(i)) is not None}
        self._desk = None
        self._on_frame = None
        if len(self._kept) < len(self):
            for layer in self._live_layers():
                layer.name = f"{layer.name} (some frames are previews)"

    # --- inside -------------------------------------------------------------------------------------------------------

    def _shown(self, index: int) -> npt.NDArray[Any]:
        """Return what can be drawn now: the frame, its stand-in, or zeros."""
        frame: npt.NDArray[Any] | None = self.ready(index)
        if frame is None and self._preview is not None:
            frame = self._preview(index)
        return self._zeros if frame is None else np.asarray(frame, self.dtype)

    def _want(self, missing: list[int]) -> None:
        """Decode the first missing frame soon, but not in the middle of napari's slicing."""
        if self._is_refreshing:  # what the cache dropped again must not be decoded in circles
            missing = [index for index in missing if index not in self._decoded]
        if not missing or self._desk is None:
            return
        is_asked = self._wanted is not None
        self._wanted = missing[0]
        if not is_asked:
            QTimer.singleShot(0, self._ask)

    def _ask(self) -> None:
        index, self._wanted = self._wanted, None
        if index is not None and self._desk is not None:
            self._mailbox.ask(index)

    def _start(self, index: int, done: Callable[[Frame], None], ended: Callable[[], None]) -> Job | None:
        if self._desk is None:
            ended()
            return None
        return self._desk.run(
            self.title,
            self._work(index),
            on_done=done,
            on_cancelled=ended,
            on_failure=lambda _: ended(),
            priority=Priority.INTERACTIVE,
            key=self._key,
            show_progress=False,
        )

    def _work(self, index: int) -> Callable[[Any], Generator[object, None, Frame]]:
        def work(engine: Engine) -> Generator[object, None, Frame]:
            frame = self.ready(index)
            return frame if frame is not None else (yield from self._decode(engine, index))

        return work

    def _decoded_by_job(self, desk: Desk, index: int) -> Frame:
        """Decode on the inference thread and wait: no callback, so that the GUI thread may wait, too."""
        job = Job(self.title, self._work(index), Priority.INTERACTIVE)
        desk.runner.submit(job)
        job.wait()
        while not job.messages.empty():
            message = job.messages.get()
            if isinstance(message, Done):
                return message.result  # type: ignore[return-value]
            if isinstance(message, Failed):
                raise VqldmError(f"{message.failure.cause}: {message.failure.remedy}")
        raise VqldmError(f"decoding frame {index} was cancelled: read the layer again")

    def _store(self, index: int, frame: Frame) -> Frame:
        frame = np.asarray(frame, self.dtype)
        if frame.shape != self._frame_shape:
            raise ShapeError(f"expected a frame of {self._frame_shape} voxels, got {frame.shape}: decode it again")
        self._decoded.add(index)
        if self._desk is None:
            self._kept[index] = frame
        else:
            self._kept = {index: frame}  # the one that is looked at, also where the cache has no room
            self._desk.frames.put((self._key, index), frame)
        return frame

    def _show(self, index: int, frame: Frame) -> None:
        """Keep a frame that was asked for by looking at it, and draw it."""
        self._store(index, frame)
        self._is_refreshing = True
        try:
            for layer in self._live_layers():
                layer.refresh(extent=False)
        finally:
            self._is_refreshing = False
        if self._on_frame is not None:
            self._on_frame(index)

    def _live_layers(self) -> list[Layer]:
        layers = [reference() for reference in self._layers]
        return [layer for layer in layers if layer is not None]


def _split(key: Any, ndim: int) -> tuple[Any, tuple[Any, ...]]:
    """Split an index into that of the frames and that of the voxels (Z, Y, X)."""
    parts = key if isinstance(key, tuple) else (key,)
    if any(part is None for part in parts):
        raise IndexError("new axes are not supported: index frames, z, y and x only")
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if dots:
        fill = (slice(None),) * (ndim - len(parts) + 1)
        parts = (*parts[: dots[0]], *fill, *parts[dots[0] + 1 :])
    if len(parts) > ndim:
        raise IndexError(f"too many indices: {len(parts)} for {ndim} axes")
    return (parts[0] if parts else slice(None)), tuple(parts[1:])


def _result_of(steps: Generator[object, None, Frame]) -> Frame:
    """Run a generator to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
