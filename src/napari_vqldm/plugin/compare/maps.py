"""The layers that are computed from a pair: its residual and its uncertainty map."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import CheckpointError, VqldmError
from napari_vqldm.plugin.compare.pair import MadeWith, Pair
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.estimating import TooLarge, uncertainty_ask
from napari_vqldm.plugin.inference.jobs import Priority
from napari_vqldm.plugin.layers import add_volume
from napari_vqldm.plugin.state.reconstruct import ReconstructState
from napari_vqldm.plugin.tabs.reconstruct.work import Derived, Work, residual_work, uncertainty_work

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.engine import Engine, ModelSpec
    from napari_vqldm.plugin.inference.estimating import Ask
    from napari_vqldm.plugin.inference.jobs import Job
    from napari_vqldm.plugin.widgets.estimate_box import EstimateBox


class Maps:
    """Jobs on a pair, and the layers that they give.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    state : ReconstructState
        Draws, kind and seed of the uncertainty map.
    on_changed : callable
        Called when a job starts and when it ends.
    """

    def __init__(self, desk: Desk, state: ReconstructState, on_changed: Callable[[], None]) -> None:
        self.desk, self.state = desk, state
        self._num_jobs = 0
        self._residuals: list[tuple[Pair, int]] = []
        self._on_changed = on_changed
        self._last: Callable[[], Any] = lambda: None

    @property
    def is_busy(self) -> bool:
        """Whether a job that the user waits for runs or is queued."""
        return self._num_jobs > 0

    @property
    def last_layer(self) -> Any:
        """The reconstruction or map that was added last; None when it is gone."""
        return self._last()

    def note(self, pair: Pair) -> None:
        """Take the reconstruction of a new pair for the last layer."""
        self._last = lambda: pair.reconstruction

    # --- residual -----------------------------------------------------------------------------------------------------

    def make_residual(self, pair: Pair) -> None:
        """Add a layer of input minus reconstruction, of the frame in view."""
        if not self.is_there(pair):
            return
        entry = (pair, pair.frame(self.viewer()))

        def done(result: Derived) -> None:
            self._residuals.remove(entry)
            self.add(pair, entry[1], "residual", result)

        self._residuals.append(entry)
        job = self.run_residual(*entry, done, lambda: self._residuals.remove(entry))
        if job is None:
            self._residuals.remove(entry)

    def makes_residual(self, pair: Pair, frame: int) -> bool:
        """Whether the layer of `make_residual` is on its way."""
        return any(which is pair and number == frame for which, number in self._residuals)

    def run_residual(
        self,
        pair: Pair,
        frame: int,
        done: Callable[[Derived], None],
        stopped: Callable[[], None],
        priority: Priority = Priority.BATCH,
    ) -> Job | None:
        """Compute a residual without adding it; None when its layers cannot be read."""
        sources = self.desk.guarded(lambda: (pair.source(frame), pair.reconstruction_source(frame)))
        if sources is None:
            return None
        return self.run(f"Residual of {sources[0].name}", residual_work(*sources), done, stopped, priority)

    # --- uncertainty --------------------------------------------------------------------------------------------------

    def make_uncertainty(self, pair: Pair, estimate: EstimateBox, *, is_forced: bool = False) -> None:
        """Add a layer of the standard deviation over draws, if that fits in the free memory or is forced.

        Model, intensity scale and tiles are those of the reconstruction; device and threads are the chosen ones.
        """
        if not self.is_there(pair):
            return
        frame, made = pair.frame(self.viewer()), pair.made
        source = pair.source(frame)
        request = self.state.to_uncertainty_request()

        def done(result: Derived | TooLarge) -> None:
            if isinstance(result, TooLarge):
                estimate.refuse(result, lambda: self.make_uncertainty(pair, estimate, is_forced=True))
            else:
                self.add(pair, frame, "uncertainty", result)

        estimate.clear_refusal()
        ask = None if is_forced else uncertainty_ask(source.shape, source.voxel_size_um, request, made.request)
        spec = replace(self.desk.model.spec(), path=made.spec.path)
        work = uncertainty_work(spec, source, request, made.request, ask=ask)
        self.run(f"Uncertainty of {source.name}", _with_weights_of(made, spec, work), done)

    def why_no_uncertainty(self, pair: Pair) -> str:
        """Return why no uncertainty map of a pair can be made; empty when it can."""
        return self.state.why_no_uncertainty(pair.made.family)

    def uncertainty_hint(self, pair: Pair) -> str:
        """Say with which model the map is made, when another one is open."""
        if self._is_open(pair.made):
            return ""
        return f"The uncertainty map is made with {pair.made.model_name}, as this reconstruction was."

    def uncertainty_ask(self, pair: Pair | None) -> Ask | None:
        """What the uncertainty map would take; None when nothing can be mapped, or its model is not the open one."""
        if pair is None or self.why_no_uncertainty(pair) or not self._is_open(pair.made):
            return None
        source = pair.source(pair.frame(self.viewer()))
        request = self.state.to_uncertainty_request()
        return uncertainty_ask(source.shape, source.voxel_size_um, request, pair.made.request)

    def _is_open(self, made: MadeWith) -> bool:
        header = self.desk.model.header
        return header is not None and header.card.weights_sha256 == made.weights_sha256

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def run(
        self,
        title: str,
        work: Work,
        done: Callable[[Any], None],
        stopped: Callable[[], None] | None = None,
        priority: Priority = Priority.BATCH,
    ) -> Job:
        """Run a job; ``done`` gets its result, ``stopped`` is called when it failed or was cancelled."""
        counted = 1 if priority is Priority.BATCH else 0

        has_ended = False

        def ended(result: Any = None) -> None:
            nonlocal has_ended
            if has_ended:  # what `done` raises comes back as a failure of the job
                return
            has_ended = True
            self._num_jobs -= counted
            try:
                if result is not None:
                    done(result)
                elif stopped is not None:
                    stopped()
            finally:
                self._on_changed()

        self._num_jobs += counted
        job = self.desk.run(
            title,
            work,
            on_done=ended,
            on_cancelled=ended,
            on_failure=lambda _failure: ended(),
            priority=priority,
        )
        self._on_changed()
        return job

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

    def add(self, pair: Pair, frame: int, kind: Any, result: Derived, noted: tuple[str, int] | None = None) -> Any:
        """Add a map as a layer, noted as that of its kind and frame or as something else; None without its pair."""
        if not self.is_there(pair):
            return None
        self.remember_inputs(result)
        layer = add_volume(
            self.viewer(),
            result.volume,
            name=name_of(pair, frame, kind),
            like=pair.source(frame),
            limits=result.limits,
            kind=kind,
        )
        noted_kind, noted_frame = noted or (str(kind), frame)
        pair.add_derived(noted_kind, noted_frame, layer)
        self._last = weakref.ref(layer)
        self.desk.added(f"{kind.capitalize()} of {pair.source(frame).name}", [layer])
        return layer

    def remember_inputs(self, result: Derived) -> None:
        """Note in which files the inputs of a map lie."""
        for fingerprint, file in result.inputs.items():
            self.desk.remember_input(fingerprint, file)


def name_of(pair: Pair, frame: int, kind: str) -> str:
    """Name of a layer that is computed from a pair."""
    return f"{pair.source(frame).name} ({f'{kind}, frame {frame}' if pair.is_series else kind})"


def _with_weights_of(made: MadeWith, spec: ModelSpec, work: Work) -> Work:
    """Return the work, refused when the file of its model holds other weights by now."""

    def checked(engine: Engine) -> Generator[Any, None, Any]:
        model = yield from engine.use(spec)
        if model.weights_sha256 != made.weights_sha256:
            raise CheckpointError(
                f"{made.model_name} holds other weights than when the volume was reconstructed: reconstruct it again"
            )
        steps: Any = work(engine)  # a generator: what it returns is the result
        result = yield from steps
        return result

    return checked
