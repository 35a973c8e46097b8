"""The layers that are computed from a pair: its residual and its uncertainty map."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compare.pair import Pair
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.estimating import TooLarge, uncertainty_ask
from napari_vqldm.plugin.layers import add_volume
from napari_vqldm.plugin.state.reconstruct import ReconstructState
from napari_vqldm.plugin.tabs.reconstruct.work import Derived, residual_work, uncertainty_work

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.estimating import Ask
    from napari_vqldm.plugin.widgets.estimate_box import EstimateBox


class Maps:
    """Jobs on a pair, one at a time, and the layers that they give.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    state : ReconstructState
        Draws, kind and seed of the uncertainty map, and how volumes are coded.
    on_changed : callable
        Called when a job starts and when it ends.

    Attributes
    ----------
    is_busy : bool
        Whether a job runs.
    """

    def __init__(self, desk: Desk, state: ReconstructState, on_changed: Callable[[], None]) -> None:
        self.desk, self.state = desk, state
        self.is_busy = False
        self._on_changed = on_changed
        self._last: Callable[[], Any] = lambda: None

    @property
    def last_layer(self) -> Any:
        """The reconstruction or map that was added last; None when it is gone."""
        return self._last()

    def note(self, pair: Pair) -> None:
        """Take the reconstruction of a new pair for the last layer."""
        self._last = lambda: pair.reconstruction

    def make_residual(self, pair: Pair, then: Callable[[Any], None] | None = None) -> None:
        """Add a layer of input minus reconstruction; ``then`` is called with it."""
        if not self.is_there(pair):
            return
        frame = pair.frame(self.viewer())
        sources = self.desk.guarded(lambda: (pair.source(frame), pair.reconstruction_source(frame)))
        if sources is None:
            return

        def done(result: Derived) -> None:
            layer = self._add(pair, frame, "residual", result)
            if layer is not None and then is not None:
                then(layer)

        self.run(f"Residual of {sources[0].name}", residual_work(*sources), done)

    def make_uncertainty(self, pair: Pair, estimate: EstimateBox, *, is_forced: bool = False) -> None:
        """Add a layer of the standard deviation over draws, if that fits in the free memory or is forced."""
        if not self.is_there(pair):
            return
        frame = pair.frame(self.viewer())
        source = pair.source(frame)
        requests = self.desk.guarded(lambda: (self.state.to_uncertainty_request(), self.state.to_request()))
        if requests is None:
            return

        def done(result: Derived | TooLarge) -> None:
            if isinstance(result, TooLarge):
                estimate.refuse(result, lambda: self.make_uncertainty(pair, estimate, is_forced=True))
            else:
                self._add(pair, frame, "uncertainty", result)

        estimate.clear_refusal()
        ask = None if is_forced else uncertainty_ask(source.shape, source.voxel_size_um, *requests)
        work = uncertainty_work(self.desk.model.spec(), source, *requests, ask=ask)
        self.run(f"Uncertainty of {source.name}", work, done)

    def uncertainty_ask(self, pair: Pair | None) -> Ask | None:
        """What the uncertainty map would take; None when there is nothing to map."""
        header = self.desk.model.header
        if pair is None or header is None or self.state.why_no_uncertainty(header.config.family):
            return None
        source = pair.source(pair.frame(self.viewer()))
        return uncertainty_ask(
            source.shape, source.voxel_size_um, self.state.to_uncertainty_request(), self.state.to_request()
        )

    def run(self, title: str, work: Any, done: Callable[[Any], None]) -> None:
        """Run a job; one at a time is enough for a person."""

        def stopped(_failure: object = None) -> None:
            self.is_busy = False
            self._on_changed()

        def finished(result: Any) -> None:
            self.is_busy = False
            if result is not None:
                done(result)
            self._on_changed()

        self.is_busy = True
        self.desk.run(title, work, on_done=finished, on_cancelled=stopped, on_failure=stopped)
        self._on_changed()

    def is_there(self, pair: Pair) -> bool:
        """Whether both layers of a pair are in the viewer."""
        viewer = self.viewer()
        return viewer is not None and pair.is_in(viewer)

    def viewer(self) -> Any:
        """Return the viewer, None when it is gone."""
        try:
            return bare(self.desk.viewer)
        except VqldmError:
            return None

    def _add(self, pair: Pair, frame: int, kind: Any, result: Derived) -> Any:
        """Add a map as a layer; None when its pair is gone."""
        if not self.is_there(pair):
            return None
        for fingerprint, file in result.inputs.items():
            self.desk.remember_input(fingerprint, file)
        source = pair.source(frame)
        which = f"{kind}, frame {frame}" if pair.is_series else kind
        layer = add_volume(
            self.viewer(), result.volume, name=f"{source.name} ({which})", like=source, limits=result.limits, kind=kind
        )
        pair.add_derived(kind, frame, layer)
        self._last = weakref.ref(layer)
        self.desk.added(f"{kind.capitalize()} of {source.name}", [layer])
        return layer
