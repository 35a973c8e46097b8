"""The Reconstruct tab: a layer, or a part of one, through the model and back; then compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compare.panel import ComparePanel
from napari_vqldm.plugin.compare.words import cutoff_of
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.estimating import TooLarge, reconstruction_ask
from napari_vqldm.plugin.layers import Box, LayerInfo, LayerSource, describe, provenance_of, shown_time, snapshot
from napari_vqldm.plugin.opening.dialog import OpenVolume
from napari_vqldm.plugin.state.reconstruct import ReconstructState
from napari_vqldm.plugin.tabs.reconstruct.input import InputForm, chosen_box
from napari_vqldm.plugin.tabs.reconstruct.result import ResultLayer
from napari_vqldm.plugin.tabs.reconstruct.work import FrameDone, reconstruct_work
from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.plugin.widgets.estimate_box import EstimateBox

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.estimating import Ask


class ReconstructTab(QWidget):
    """Send volumes through encoder and decoder, and compare what comes out with what went in.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    """

    title = "Reconstruct"

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-reconstruct")
        self.desk = desk
        self.state = ReconstructState()
        self._is_closed = False
        self._job: Any = None
        self._result: ResultLayer | None = None
        self.open_volume = OpenVolume(desk)
        self.input = InputForm(desk, self.state)
        self.compare_panel = ComparePanel(desk, self.state)
        self._build()
        desk.model_changed.connect(self._show_state)
        self.state.events.connect(self._on_state)
        self._show_state()

    # --- for the dock -------------------------------------------------------------------------------------------------

    def start(self, then: Callable[[], None] | None = None, *, is_forced: bool = False) -> None:
        """Reconstruct what is chosen, if it fits in the free memory or is forced.

        Parameters
        ----------
        then : callable, optional
            Called when the result is there.
        is_forced : bool
            Run whatever the estimate says.
        """
        self._show_state()
        if not self.button.isEnabled():
            return
        layer, info = self.input.layer, self.input.info
        if layer is None or info is None:
            return
        plan = self.desk.guarded(lambda: (self._sources(layer, info), self.state.to_request()))
        if plan is None:
            return
        sources, request = plan
        result = ResultLayer(self.desk, layer, sources, request)
        self.estimate.clear_refusal()
        ask = None if is_forced else _ask_for(sources[0], len(sources), request)
        work = reconstruct_work(self.desk.model.spec(), sources, request, ask=ask)

        cutoff = self._cutoff()  # of this model, whichever is open when the job ends

        def done(refusal: TooLarge | None) -> None:
            self._ended()
            if refusal is not None:
                result.discard()
                self.estimate.refuse(refusal, lambda: self.start(then, is_forced=True))
                return
            pair = result.finish(cutoff)
            if pair is not None:
                self.compare_panel.add_pair(pair)
                if then is not None:
                    then()

        def show(step: object) -> None:
            if isinstance(step, FrameDone) and not result.add(step) and self._job is not None:
                self._job.cancel()

        def stopped(_failure: object = None) -> None:
            result.discard()
            self._ended()

        self._result = result
        self._job = self.desk.run(
            f"Reconstruct {sources[0].name}",
            work,
            on_step=show,
            on_done=done,
            on_cancelled=stopped,
            on_failure=stopped,
        )
        self._show_state()

    def compare(self, layer: Any) -> None:
        """Show a layer beside its reconstruction; it is reconstructed first when it was not."""
        layer = bare(layer)
        pair = self.compare_panel.pair_of(layer)
        if pair is not None:
            self.compare_panel.choose(pair)
            self.compare_panel.side_by_side()
            return
        record = provenance_of(layer) or {}
        if record.get("verb") in ("decode", "residual", "uncertainty"):
            error = VqldmError(
                f"{layer.name!r} is a result whose input is not known here: choose the input and reconstruct it again"
            )
            self.desk.show_error(error)
            return
        info = describe(layer)
        if not info.is_usable:
            self.desk.show_error(VqldmError(info.reason))
            return
        self.input.choose(layer)
        self.start(then=self.compare_panel.side_by_side)

    def blink(self) -> None:
        """Show input and reconstruction in turn; called again, stop."""
        self.compare_panel.blink()

    def close_tab(self) -> None:
        """End every view and let go of viewer, layers and state; safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self.desk.model_changed.disconnect(self._show_state)
        self.state.events.disconnect(self._on_state)
        self.compare_panel.close_panel()
        self.input.close_input()
        self.estimate.close_box()
        if self._result is not None:
            self._result.discard()
            self._result = None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.input.changed.connect(self._on_input)
        self.open_volume.opened.connect(self.input.choose)
        self.button = QPushButton("Reconstruct")
        self.button.setObjectName("vqldm-reconstruct-start")
        self.button.clicked.connect(lambda _checked=False: self.start())
        self.reason = HelpLabel()
        self.reason.setObjectName("vqldm-reconstruct-reason")
        self.estimate = EstimateBox(self.desk, "reconstruct", self._ask)
        column = QVBoxLayout(self)
        for widget in (self.open_volume, self.input, self.reason, self.button, self.estimate):
            column.addWidget(widget)
        column.addWidget(self.compare_panel)
        column.addStretch(1)

    def _sources(self, layer: Any, info: LayerInfo) -> list[LayerSource]:
        """What to read: one volume, or every frame of a series.

        A voxel size that was typed is written to the layer first: results lie on their input, and have its size.
        """
        box = self._box(layer)  # in the world as it was when it was drawn
        if self.state.uses_typed:
            self.input.write_size()
            info = describe(layer)
        return [self._source(layer, info, time, box) for time in self._times(layer, info)]

    def _times(self, layer: Any, info: LayerInfo) -> Sequence[int | None]:
        """Which frames: all, the one in view, or the only one."""
        if self.state.takes_all_frames(info):
            return range(info.num_times)
        return (shown_time(bare(self.desk.viewer), layer, info) if info.num_times > 1 else None,)

    def _box(self, layer: Any) -> Box | None:
        return chosen_box(self.state.region, bare(self.desk.viewer), layer, self.input.shapes_layer)

    def _source(self, layer: Any, info: LayerInfo, time: int | None, box: Box | None) -> LayerSource:
        """What to read of one frame."""
        size = self.state.voxel_size_um(info)
        channel = self.state.channel if info.num_channels > 1 else None
        return snapshot(layer, time=time, channel=channel, box=box, voxel_size_um=size)

    def _ask(self) -> Ask | None:
        """What is to be estimated; None when nothing is chosen, or what is chosen cannot be used."""
        layer, info = self.input.layer, self.input.info
        if layer is None or info is None or not info.is_usable or self.desk.model.header is None:
            return None
        times = self._times(layer, info)
        return _ask_for(self._source(layer, info, times[0], self._box(layer)), len(times), self.state.to_request())

    def _cutoff(self) -> float | None:
        header = self.desk.model.header
        simulation = header.config.simulation if header is not None else None
        return cutoff_of(getattr(simulation, "optics", None))

    def _ended(self) -> None:
        self._job, self._result = None, None
        self._show_state()

    def _on_input(self) -> None:
        self.estimate.refresh()
        self._show_state()

    def _on_state(self, *_: object) -> None:
        self.estimate.refresh()
        self._show_state()

    def _show_state(self, *_: object) -> None:
        viewer = self._viewer()
        num_layers = 0 if viewer is None else len(viewer.layers)
        reason = self.state.why_not(
            has_model=self.desk.model.header is not None,
            info=self.input.info,
            num_layers=num_layers,
            is_running=self._job is not None,
        )
        self.reason.setText(reason)
        self.button.setEnabled(not reason)
        self.button.setToolTip(reason or "Send the volume through the model and back, and compare the result with it")

    def _viewer(self) -> Any:
        """The viewer; None when it is gone."""
        try:
            return bare(self.desk.viewer)
        except VqldmError:
            return None


def _ask_for(source: LayerSource, frames: int, request: dict[str, Any]) -> Ask:
    """The question what so many volumes like this one take."""
    return reconstruction_ask(source.shape, source.voxel_size_um, frames, request, is_compared=True)
