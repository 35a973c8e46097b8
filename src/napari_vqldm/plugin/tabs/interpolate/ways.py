"""Frames between two ends as a slider asks for them: decoded on the spot, or the nearest of those sampled before."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_vqldm.plugin.inference.jobs import Job, Priority
from napari_vqldm.plugin.inference.live import LatestWins
from napari_vqldm.plugin.layers.add import Limits
from napari_vqldm.plugin.state.interpolate import (
    IDLE_MS,
    LIVE_S,
    NEIGHBOR,
    PLAY_STEPS,
    REST_MS,
    Quality,
    even_ts,
    nearest,
    quality_for,
    rounded_t,
)
from napari_vqldm.plugin.tabs.interpolate.parts import EncodedWay, Frame, SampledFrame, Way
from napari_vqldm.plugin.tabs.interpolate.work import fill_work, frame_work
from napari_vqldm.volume import Volume

if TYPE_CHECKING:
    from napari_vqldm.interpolate import CodeChange
    from napari_vqldm.plugin.desk import Desk

Show = Callable[[Frame], None]


@dataclass(frozen=True)
class FrameRequest:
    """One frame that the slider asks for."""

    t: float
    path: Way
    quality: Quality


@dataclass(frozen=True, eq=False)
class _Facts:
    """What is kept of a frame besides its voxels, which the cache may drop."""

    provenance: dict[str, Any]
    name: str
    change: CodeChange | None


class LiveWay(QObject):
    """Frames between two encoded ends.

    While the slider moves it gets previews where the decoder is too slow to follow; when it rests, the full frame, and
    then its neighbors are decoded before anybody asks. The last frame shown is the last one asked for.

    Parameters
    ----------
    desk : Desk
        Runs the decoding, keeps frames.
    way : EncodedWay
        The ends.
    path : Way
        Line and snapping; may be changed at any time, see `set_path`.
    show : callable
        Gets each `Frame` on the GUI thread.
    parent : QObject, optional
        Qt owner.

    Attributes
    ----------
    full_s : float
        Seconds of the last full decode.
    frames : LatestWins
        Counts what was asked, computed and shown.
    """

    def __init__(self, desk: Desk, way: EncodedWay, path: Way, show: Show, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.desk, self.way, self.path = desk, way, path
        self.limits: Limits = way.limits
        self.full_s = way.full_s
        self._show = show
        self._facts: dict[FrameRequest, _Facts] = {}
        self._ahead: Job | None = None
        self._filling: Job | None = None
        self._is_playing = False
        self._last: float | None = None
        self._rest = _timer(self, REST_MS, self.settle)
        self._idle = _timer(self, IDLE_MS, self._decode_ahead)
        self.frames: LatestWins[FrameRequest, Frame] = LatestWins(self._start, self._on_frame, self._ready)
        for frame in way.frames:
            self.keep(path, frame)

    @property
    def ts(self) -> list[float]:
        """Where the player goes."""
        return even_ts(PLAY_STEPS + 1)

    def ask(self, t: float, is_moving: bool) -> None:
        """Want the frame at ``t``: at once and rough while the slider moves, in full soon after it stopped."""
        self._last = rounded_t(t)
        quality = quality_for(is_moving, self.full_s)
        self._stop_ahead()
        running = self.frames.running
        if quality == "preview" and running is not None and running.quality == "full":
            self.frames.interrupt()  # a slow decode that nobody waits for any more
        self.frames.ask(FrameRequest(self._last, self.path, quality))
        if self._is_playing:
            return
        if quality == "preview":
            self._rest.start()
        else:
            self._rest.stop()
        self._idle.start()

    def settle(self) -> None:
        """The slider rests or was released: want its frame in full."""
        if self._last is not None:
            self.ask(self._last, is_moving=False)

    def set_path(self, path: Way) -> None:
        """Go another way; the frame that is shown follows."""
        if path != self.path:
            self.path = path
            self.settle()

    def set_playing(self, is_playing: bool) -> None:
        """Play: frames are not refined one by one; where the decoder is slow all are decoded beside, as a job."""
        self._is_playing = is_playing
        self._rest.stop()
        self._idle.stop()
        if not is_playing:
            if self._filling is not None:
                self._filling.cancel()
                self._filling = None
            self.settle()
            return
        requests = [FrameRequest(rounded_t(t), self.path, "full") for t in self.ts]
        missing = [request.t for request in requests if self.cached(request) is None]
        fits = len(requests) * self.way.frames[0].volume.data.nbytes <= self.desk.frames.budget_bytes
        if missing and fits and self.full_s > LIVE_S:
            path = self.path
            self._filling = self.desk.run(
                "Decode the frames of the player",
                fill_work(self.way, missing, path),
                on_step=lambda step: self.keep(path, step.frame) if isinstance(step, SampledFrame) else None,
            )

    def keep(self, path: Way, frame: Frame) -> None:
        """Put a frame into the cache."""
        if frame.max_voxels is not None and frame.max_voxels < (self.way.max_voxels or math.inf):
            self.way = replace(self.way, max_voxels=frame.max_voxels)  # the next frame need not find out again
        request = FrameRequest(frame.t, path, frame.quality)
        self._facts[request] = _Facts(dict(frame.volume.provenance), frame.volume.name, frame.change)
        self.desk.frames.put((self.way.key, request), frame.volume.data)

    def cached(self, request: FrameRequest) -> Frame | None:
        """Return the frame of a request if it is in the cache."""
        facts, data = self._facts.get(request), self.desk.frames.get((self.way.key, request))
        if facts is None or data is None:
            return None
        volume = Volume(data, self.way.a.latent.voxel_size_um, facts.provenance, facts.name)
        return Frame(request.t, volume, request.quality, 0.0, facts.change)

    def record_at(self, t: float) -> dict[str, Any]:
        """Return the record that the full frame at ``t`` will have, but for the fingerprint of its voxels."""
        record = dict(self.way.frames[0].volume.provenance)
        record.pop("voxels_sha256", None)
        asked = {"t": t, "kind": self.path.kind, "snap": self.path.snap, "max_voxels": self.way.max_voxels}
        return {**record, "request": {**record["request"], **asked}}

    def interrupt(self) -> None:
        """Stop decoding; the next `ask` starts again."""
        self._rest.stop()
        self._idle.stop()
        self._last = None
        self._stop_ahead()
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None
        self.frames.interrupt()

    def close(self) -> None:
        """Stop for good."""
        self.interrupt()
        self.frames.close()

    def _start(self, request: FrameRequest, done: Show, ended: Callable[[], None]) -> Job:
        return self.desk.run(
            f"Decode t = {request.t:.2f}",
            frame_work(self.way, request.t, request.path, request.quality),
            on_done=done,
            on_cancelled=ended,
            on_failure=lambda _: ended(),
            priority=Priority.INTERACTIVE,
            show_progress=False,
        )

    def _ready(self, request: FrameRequest) -> Frame | None:
        full = FrameRequest(request.t, request.path, "full")
        return self.cached(full) or (self.cached(request) if request != full else None)

    def _on_frame(self, request: FrameRequest, frame: Frame) -> None:
        if frame.seconds > 0:
            self.keep(request.path, frame)
            if frame.quality == "full":
                self.full_s = frame.seconds
        self._show(frame)

    def _decode_ahead(self) -> None:
        """Decode a neighbor of the frame that is shown, when there is nothing else to do; then the next one."""
        if self._last is None or self.frames.is_busy or self.desk.runner.is_busy:
            return
        for t in (self._last + NEIGHBOR, self._last - NEIGHBOR):
            request = FrameRequest(rounded_t(t), self.path, "full")
            if 0.0 <= t <= 1.0 and self.cached(request) is None:
                self._start_ahead(request)
                return

    def _start_ahead(self, request: FrameRequest) -> None:
        self._ahead = self.desk.run(
            f"Decode t = {request.t:.2f} ahead",
            frame_work(self.way, request.t, request.path, "full"),
            on_done=lambda frame: self._keep_ahead(request.path, frame),
            priority=Priority.INTERACTIVE,
            show_progress=False,
        )

    def _keep_ahead(self, path: Way, frame: Frame) -> None:
        self.keep(path, frame)
        if self.cached(FrameRequest(frame.t, path, "full")) is not None:  # else the cache has no room
            self._idle.start()

    def _stop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None


class SampledWay(QObject):
    """Frames between two seeds: those that are sampled so far, the nearest one shown.

    Parameters
    ----------
    show : callable
        Gets each `Frame`.
    parent : QObject, optional
        Qt owner.

    Attributes
    ----------
    frames : dict
        t to `Frame`.
    limits : tuple of float or None
        Contrast that fits the ends; None before the first frame.
    """

    def __init__(self, show: Show, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.frames: dict[float, Frame] = {}
        self.limits: Limits | None = None
        self._show = show
        self._last: float | None = None

    @property
    def ts(self) -> list[float]:
        """Where the player goes: what is ready."""
        return sorted(self.frames)

    def add(self, step: SampledFrame) -> None:
        """Take a frame; it is shown when it is the nearest to what was asked last."""
        self.frames[step.frame.t] = step.frame
        if self.limits is None:
            self.limits = step.limits
        elif step.frame.t in (0.0, 1.0):
            self.limits = min(self.limits[0], step.limits[0]), max(self.limits[1], step.limits[1])
        asked = 0.0 if self._last is None else self._last
        if nearest(asked, self.frames) == step.frame.t:
            self._show(step.frame)

    def ask(self, t: float, is_moving: bool) -> None:
        """Show the ready frame that is nearest to ``t``."""
        self._last = t
        ready = nearest(t, self.frames)
        if ready is not None:
            self._show(self.frames[ready])

    def settle(self) -> None:
        """Nothing is refined: every frame is full."""

    def set_playing(self, is_playing: bool) -> None:
        """Nothing is decoded beside."""

    def interrupt(self) -> None:
        """Nothing is decoded here."""

    def close(self) -> None:
        """Let go of the frames."""
        self.frames.clear()


def _timer(parent: QObject, milliseconds: int, action: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(action)
    return timer
