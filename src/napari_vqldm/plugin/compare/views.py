"""From the wish for a view to the view: what it needs is computed first, and again for every frame of a series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_vqldm.plugin.compare.maps import Maps, name_of
from napari_vqldm.plugin.compare.modes import Modes
from napari_vqldm.plugin.compare.pair import Pair
from napari_vqldm.plugin.inference.jobs import Job, Priority
from napari_vqldm.plugin.layers import set_volume
from napari_vqldm.plugin.tabs.reconstruct.work import Derived, read_work

IN_VIEW = "residual in view"  # layer of a series whose voxels follow the time slider; never one that the user asked for


class Views:
    """Opens views of a pair, one at a time: the latest wish counts.

    Parameters
    ----------
    maps : Maps
        Runs the jobs.
    modes : Modes
        The view that is open.
    divider : callable
        Returns where the divider of a wipe belongs, 0 to 1.
    on_changed : callable
        Called when a view starts to wait, and when it waits no more.

    Attributes
    ----------
    waiting : str
        The view that opens when its residual or its voxels are there; empty when none waits.
    """

    def __init__(self, maps: Maps, modes: Modes, divider: Callable[[], float], on_changed: Callable[[], None]) -> None:
        self._maps, self._modes = maps, modes
        self._divider, self._on_changed = divider, on_changed
        self._pair: Pair | None = None
        self._job: Job | None = None
        self._frame: int | None = None  # of what is in view
        self._failed: int | None = None  # not tried again until another frame is in view
        self._ticket = object()  # of the job that counts
        self._is_preparing = False
        self.waiting = ""

    @property
    def note(self) -> str:
        """What the user should know about the view: what it waits for, or what in it is not of this frame."""
        viewer, pair = self._maps.viewer(), self._pair
        if self.waiting:
            return "Reading voxels for the wipe..." if self.waiting == "wipe" else "Computing the residual..."
        if viewer is None or pair is None or not self._follows or self._frame == pair.frame(viewer):
            return ""
        what = "wipe" if self._modes.name == "wipe" else "residual"
        return f"The {what} still shows frame {self._frame}."

    def open(self, pair: Pair | None, name: str) -> None:
        """Open a view by name as soon as it can be; an empty name ends the open view, and no view waits any more."""
        self.stop_waiting()
        self._pair = pair
        if not name or pair is None or not self._maps.is_there(pair):
            self._modes.end()
        elif name == "blink":
            pair.bring_into_view(self._maps.viewer())
            self._modes.blink(pair)
        else:
            self.waiting = name
            self._prepare()
        self._on_changed()

    def stop_waiting(self) -> None:
        """Forget the view that waits, and cancel what was computed for it."""
        self.waiting, self._failed = "", None
        job, self._job = self._job, None
        if job is not None:
            job.cancel()

    def close(self) -> None:
        """End everything."""
        self.stop_waiting()
        self._modes.end()
        self._pair = None

    def settle(self) -> None:
        """Sliders moved, a view ended, or a job ended: compute what is missing now."""
        viewer, pair = self._maps.viewer(), self._pair
        if viewer is None or pair is None or self._job is not None or not self._maps.is_there(pair):
            return
        frame = pair.frame(viewer)
        if frame == self._frame:
            self._failed = None
        if self.waiting or (self._follows and frame not in (self._frame, self._failed)):
            self._prepare()

    @property
    def _follows(self) -> bool:
        """Whether something in the open view is of one frame alone."""
        return self._pair is not None and self._pair.is_series and self._modes.name in ("side", "canvases", "wipe")

    def _prepare(self) -> None:
        """Get what the waiting or open view needs of the frame that the sliders show."""
        viewer, pair = self._maps.viewer(), self._pair
        if viewer is None or pair is None or self._is_preparing:
            return
        frame = pair.frame(viewer)
        self._is_preparing = True  # a job that starts is told, and who hears of it calls `settle`
        try:
            if self._wanted() == "wipe":
                self._read(pair, frame)
            else:
                self._get_residual(pair, frame, viewer)
        finally:
            self._is_preparing = False

    def _get_residual(self, pair: Pair, frame: int, viewer: Any) -> None:
        """Take the residual of a frame that is there, wait for the one that is made, or make it."""
        if pair.is_series:
            known = pair.derived(IN_VIEW, 0, viewer) if pair.frame_in_view == frame else None
            is_on_its_way = False  # that layer is for the user: it stays as it is
        else:
            known, is_on_its_way = pair.derived("residual", frame, viewer), self._maps.makes_residual(pair, frame)
        if known is not None:
            self._show(frame, known)
        elif not is_on_its_way:  # else `settle` comes when it is there
            self._job = self._maps.run_residual(pair, frame, *self._callbacks(frame), self._priority)
            if self._job is None:
                self._give_up(frame)

    def _read(self, pair: Pair, frame: int) -> None:
        """Read both volumes of a frame."""
        sources = self._maps.desk.guarded(lambda: (pair.source(frame), pair.reconstruction_source(frame)))
        if sources is None:
            self._give_up(frame)
        else:
            work, callbacks = read_work(*sources), self._callbacks(frame)
            self._job = self._maps.run("Prepare wipe", work, *callbacks, self._priority)

    def _callbacks(self, frame: int) -> tuple[Callable[[Any], None], Callable[[], None]]:
        """What to do when the job that starts now is done, and when it stopped; nothing once another one started."""
        mine = self._ticket = object()

        def done(result: Any) -> None:
            if self._ticket is mine and self._job is not None:
                self._job, self._failed = None, frame  # until it is shown
                self._arrived(frame, result)

        def stopped() -> None:
            if self._ticket is mine and self._job is not None:
                self._job = None
                self._give_up(frame)

        return done, stopped

    def _arrived(self, frame: int, result: Any) -> None:
        pair = self._pair
        if pair is None or not self._maps.is_there(pair) or not self._wanted():  # it went meanwhile, or its view did
            self.waiting = ""
        elif isinstance(result, Derived):
            self._show(frame, self._residual_layer(pair, frame, result))
        else:
            self._show(frame, result)

    def _residual_layer(self, pair: Pair, frame: int, result: Derived) -> Any:
        """The layer that shows a residual: a new one, or that of the frame before."""
        layer = pair.derived(IN_VIEW, 0, self._maps.viewer()) if pair.is_series else None
        if layer is None:
            noted = (IN_VIEW, 0) if pair.is_series else None
            layer = self._maps.add(pair, frame, "residual", result, noted)
        else:
            self._maps.remember_inputs(result)
            set_volume(layer, result.volume, name=name_of(pair, frame, "residual"))
        pair.frame_in_view = frame
        return layer

    def _show(self, frame: int, what: Any) -> None:
        """Open the view that waits, or show another frame in the open one."""
        pair, name = self._pair, self.waiting
        if pair is None:
            return
        self.waiting, self._frame, self._failed = "", frame, None
        if name:
            pair.bring_into_view(self._maps.viewer())
        if self._wanted(name) == "wipe":
            source, reconstruction = what
            if name:
                self._modes.wipe(pair, reconstruction.data, source.data)
                self._modes.move_wipe(self._divider())
            else:
                self._modes.show_in_wipe(reconstruction.data, source.data)
        elif name == "side":
            self._modes.side_by_side(pair, what)
        elif name == "canvases":
            self._modes.separate_canvases(pair, what)

    def _give_up(self, frame: int) -> None:
        self.waiting, self._failed = "", frame

    def _wanted(self, waiting: str = "") -> str:
        """The view that waits, else the one that is open."""
        return waiting or self.waiting or self._modes.name

    @property
    def _priority(self) -> Priority:
        """A view that opens is a job like others; what follows a slider goes between the steps of other jobs."""
        return Priority.BATCH if self.waiting else Priority.INTERACTIVE
