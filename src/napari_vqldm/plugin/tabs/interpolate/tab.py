"""The Interpolate tab: two ends, the way between them under a slider, and its export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_vqldm.config import SAMPLERS_OF
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.estimating import TooLarge, ends_ask, frames_ask
from napari_vqldm.plugin.inference.jobs import Job
from napari_vqldm.plugin.layers import LayerSource
from napari_vqldm.plugin.state.interpolate import InterpolateState
from napari_vqldm.plugin.tabs.interpolate.ends import EndsBox
from napari_vqldm.plugin.tabs.interpolate.output import OutputBox
from napari_vqldm.plugin.tabs.interpolate.parts import EncodedWay, EndRequest, Frame, SampledFrame, Way
from napari_vqldm.plugin.tabs.interpolate.play import PlayRow
from napari_vqldm.plugin.tabs.interpolate.way_layer import WayLayer
from napari_vqldm.plugin.tabs.interpolate.ways import LiveWay, SampledWay
from napari_vqldm.plugin.tabs.interpolate.work import encode_work, sample_work
from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.plugin.widgets.estimate_box import EstimateBox
from napari_vqldm.plugin.widgets.fold import Fold
from napari_vqldm.plugin.widgets.forms import make_form

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.estimating import Ask

_SAMPLED_BY = ("num_frames", "same_voxel_size", "steps", "sampler", "guidance_scale")
_SHOWN_ONLY = ("t", "fps", "is_ping_pong")


class InterpolateTab(QWidget):
    """Walk between two volumes in the latent space of the model, or between two seeds.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    """

    title = "Interpolate"

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-interpolate")
        self.desk = desk
        self.state = InterpolateState()
        self.way: LiveWay | SampledWay | None = None
        self.view: WayLayer | None = None
        self._job: Job | None = None
        self._is_closed = False
        self._build()
        self.ends.changed.connect(self._on_ends)
        self.ends.renamed.connect(self._show_state)
        self.play.moved.connect(self._on_moved)
        self.play.settled.connect(self._on_settled)
        self.play.playing_changed.connect(self._on_playing)
        self.state.events.connect(self._on_state)
        desk.model_changed.connect(self._on_model)
        self._on_model()

    # --- for the dock -------------------------------------------------------------------------------------------------

    def start(self, *, is_forced: bool = False) -> None:
        """Encode both ends, or sample frames between two seeds; then the slider moves.

        Nothing runs that does not fit in the free memory, unless it is forced.
        """
        self.ends.read()
        self._show_state()
        if not self.button.isEnabled():
            return
        requests: tuple[EndRequest, EndRequest] | None = self.desk.guarded(self.ends.requests)
        if requests is None:
            return
        self._drop_way()
        self.estimate.clear_refusal()
        ask = None if is_forced else self._ask()
        spec = self.desk.model.spec()
        name = f"{self.state.a.label} to {self.state.b.label}"
        like = next((end.source for end in requests if end.source is not None), None)
        if self.state.mode == "seeds":
            work = sample_work(spec, self.state.to_request(self.desk.model.header), self.state.num_frames, ask=ask)
            sampled = SampledWay(self._show, self)
            sampled.ask(self.state.t, is_moving=False)  # the slider may stand anywhere
            self._open(sampled, name, None)
        else:
            work = encode_work(spec, requests[0], requests[1], self._path(), ask=ask)
        self._job = self.desk.run(
            f"Interpolate {name}",
            work,
            on_step=self._on_step,
            on_done=lambda result: self._on_done(result, name, like),
            on_cancelled=self._on_stopped,
            on_failure=lambda _: self._on_stopped(),
        )
        self._show_state()

    def close_tab(self) -> None:
        """Stop everything and let go of viewer, layers and state; safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._drop_way()
        self.desk.model_changed.disconnect(self._on_model)
        self.state.events.disconnect(self._on_state)
        self.estimate.close_box()
        self.ends.close_box()
        self.output.close_box()
        self.play.close_row()
        for form in (self.way_form, self.seed_form, self.advanced_form):
            form.disconnect_state()

    def showEvent(self, event: QShowEvent) -> None:
        """Draw the thumbnails that were not drawn while nobody saw them."""
        super().showEvent(event)
        self.ends.draw_pictures()

    # --- building -----------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.ends = EndsBox(self.desk, self.state)
        self.way_form = make_form(self.state, ["kind", "snap"])
        self.seed_form = make_form(self.state, ["num_frames", "same_voxel_size"])
        self.advanced_form = make_form(self.state, ["steps", "sampler", "guidance_scale"])
        self.advanced = Fold(
            "Advanced", "vqldm-interpolate-advanced", self.advanced_form, "How a volume is sampled from a seed"
        )
        self.reason = HelpLabel()
        self.reason.setObjectName("vqldm-interpolate-reason")
        self.button = QPushButton()
        self.button.setObjectName("vqldm-interpolate-start")
        self.button.clicked.connect(lambda _checked=False: self.start())
        self.estimate = EstimateBox(self.desk, "interpolate", self._ask)
        self.play = PlayRow(self.state)
        self.output = OutputBox(self.desk, self.state)
        column = QVBoxLayout(self)
        for widget in (self.ends, self.way_form, self.seed_form, self.advanced, self.reason, self.button):
            column.addWidget(widget)
        column.addWidget(self.estimate)
        column.addWidget(self.play)
        column.addWidget(self.output)
        column.addStretch(1)

    # --- the way ------------------------------------------------------------------------------------------------------

    def _ask(self) -> Ask | None:
        """What is to be estimated; None when nothing can be computed."""
        header, state = self.desk.model.header, self.state
        if header is None or state.problem(header):
            return None
        if state.mode == "seeds":
            return frames_ask(state.num_frames, state.to_request(header))
        layer = state.b if state.a.is_seed else state.a
        size = state.voxel_size_of(layer)
        if layer.shape is None or size is None:
            return None
        return ends_ask(layer.shape, size, state.seed_request(header) if state.mode == "mixed" else None)

    def _path(self) -> Way:
        return Way(self.state.kind, self.state.snap)  # type: ignore[arg-type]

    def _open(self, way: LiveWay | SampledWay, name: str, like: LayerSource | None) -> None:
        """Take a way: from here on the slider moves along it."""
        self.way, self.view = way, WayLayer(self.desk, name, like, self._on_layer_removed)
        self.output.set_way(way, self.view)
        self.play.set_source(lambda: way.ts, lambda: isinstance(way, LiveWay) and way.frames.is_busy)

    def _drop_way(self) -> None:
        """Stop what computes and let go of the way; its layer stays."""
        if self._job is not None:
            self._job.cancel()
            self._job = None
        if self.way is not None:
            self.way.close()
        self.play.stop()
        if self.way is not None:
            self.way.deleteLater()
            self.way = None
        if self.view is not None:
            self.view.close()
            self.view = None
        self.output.set_way(None, None)
        self.play.set_source(list, bool)
        self.play.shown.setText("")
        self.play.codes.setText("")

    def _on_step(self, step: object) -> None:
        if not isinstance(step, SampledFrame) or not isinstance(self.way, SampledWay) or self.view is None:
            return
        self.way.add(step)
        if step.picture is not None and self.way.limits is not None:  # an end: now the contrast is known better
            self.view.set_limits(self.way.limits)
            (self.ends.b if step.frame.t else self.ends.a).show_picture(step.picture)
        self._show_state()

    def _on_done(self, result: object, name: str, like: LayerSource | None) -> None:
        self._job = None
        if isinstance(result, TooLarge):
            self._drop_way()
            self.estimate.refuse(result, lambda: self.start(is_forced=True))
        if isinstance(result, EncodedWay):
            for end in (result.a, result.b):
                self.desk.remember_input(end.voxels_sha256, end.file)
            self.ends.show_pictures(result.a.picture, result.b.picture)
            way = LiveWay(self.desk, result, self._path(), self._show, self)
            self._open(way, name, like)
            way.ask(self.state.t, is_moving=False)
        self._show_state()

    def _on_stopped(self) -> None:
        """Cancelled or failed: sampled frames that are ready stay."""
        self._job = None
        self._show_state()

    def _show(self, frame: Frame) -> None:
        if self.view is None or self.way is None or self.way.limits is None:
            return
        self.view.show(frame, self.way.limits)
        self.ends.output = self.view.layer
        self.play.shown.setText(self._words_for(frame))
        change = frame.change if self.state.snap else None
        self.play.codes.setText(
            ""
            if change is None
            else f"{change.num_changed_from_a:,} of {change.num_cells:,} cells have another code than A, "
            f"{change.num_changed_from_b:,} another than B"
        )

    def _words_for(self, frame: Frame) -> str:
        if frame.quality == "preview":
            return f"shown: t = {frame.t:.2f}, preview; the full frame follows when the slider rests"
        if abs(frame.t - self.state.t) >= 0.005:
            return f"shown: t = {frame.t:.2f}, asked {self.state.t:.2f}"
        return f"shown: t = {frame.t:.2f}"

    def _on_layer_removed(self) -> None:
        """The user deleted the layer: stop; the next move of the slider adds it again."""
        if self.way is not None:
            self.way.interrupt()  # before the player stops, which asks for the last frame in full
        self.play.stop()
        self.play.shown.setText("The layer was deleted; move the slider to show it again.")

    def _on_moved(self, t: float) -> None:
        if self.way is not None:
            self.way.ask(t, is_moving=True)

    def _on_settled(self) -> None:
        if self.way is not None:
            self.way.settle()

    def _on_playing(self, is_playing: bool) -> None:
        if self.way is not None:
            self.way.set_playing(is_playing)

    # --- state --------------------------------------------------------------------------------------------------------

    def _on_ends(self) -> None:
        """Another end: what was computed belongs to the old ones."""
        if not self._is_closed:
            self._drop_way()
            self.estimate.refresh()
            self._show_state()

    def _on_state(self, info: Any) -> None:
        """A choice changed: encoded ends go another way at once, sampled frames are of the old one."""
        name = info.signal.name
        if name in ("kind", "snap") and isinstance(self.way, LiveWay):
            self.way.set_path(self._path())
        elif isinstance(self.way, SampledWay) and name in (*_SAMPLED_BY, "kind", "snap"):
            self._drop_way()
        if name not in _SHOWN_ONLY:
            self.estimate.refresh()
            self._show_state()

    def _on_model(self) -> None:
        """Another model or device: latents belong to weights, bits to a device."""
        self._drop_way()
        header = self.desk.model.header
        if header is not None:
            diffusion = header.config.diffusion
            self.advanced_form.set_choices("sampler", SAMPLERS_OF[diffusion.objective])
            self.advanced_form.set_default_text("steps", f"model's default: {diffusion.steps}")
            self.advanced_form.set_default_text("sampler", f"model's default: {diffusion.sampler}")
            self.advanced_form.set_default_text("guidance_scale", f"model's default: {diffusion.guidance_scale:g}")
        self._show_state()

    def _show_state(self) -> None:
        """Show what can be done now, and why not."""
        if self._is_closed:
            return
        header, mode, action = self.desk.model.header, self.state.mode, self.state.action()
        reason = self.state.problem(header) or ("" if self._job is None else "Running; cancel it in the row below.")
        self.button.setText(action)
        self.button.setEnabled(not reason)
        self.button.setToolTip(reason or "Then the slider moves between both ends")
        self.reason.setText(reason or ("" if self.way is not None else f"{action}: then the slider moves."))
        self.seed_form.setVisible(mode == "seeds")
        self.advanced.setVisible(mode != "layers")
        is_vq = header is not None and header.config.family == "vq-ldm"
        self.way_form.set_enabled("snap", is_vq, "Only vq-ldm models have codes")
        self.play.setEnabled(self.way is not None and bool(self.way.ts))
        self.output.show_ready(self.reason.text())
