"""The lower half of the Reconstruct tab: numbers, views and maps of one reconstruction and its input."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compare.controls import NOTHING, CompareControls
from napari_vqldm.plugin.compare.maps import Maps
from napari_vqldm.plugin.compare.modes import Modes
from napari_vqldm.plugin.compare.pair import Pair
from napari_vqldm.plugin.compare.plots import ComparisonPlots
from napari_vqldm.plugin.compare.views import Views
from napari_vqldm.plugin.compare.words import ceiling_text, numbers_text, series_text
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.state.reconstruct import ReconstructState
from napari_vqldm.plugin.widgets import CopyButton, SeedBox
from napari_vqldm.plugin.widgets.estimate_box import EstimateBox
from napari_vqldm.plugin.widgets.fold import Fold
from napari_vqldm.plugin.widgets.forms import make_form

if TYPE_CHECKING:
    from napari_vqldm.compare import Comparison


class ComparePanel(QWidget):
    """Compare the reconstruction that was made, or selected, last with its input.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    state : ReconstructState
        Draws, kind and seed of the uncertainty map, and how volumes are coded.

    Attributes
    ----------
    pair : Pair or None
        What is compared.
    modes : Modes
        The view that is open.
    maps : Maps
        What computes layers from the pair.
    """

    def __init__(self, desk: Desk, state: ReconstructState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-compare")
        self.desk, self.state = desk, state
        self.pairs: list[Pair] = []
        self.pair: Pair | None = None
        self._shown: Comparison | None = None
        self.maps = Maps(desk, state, self._show_state)
        viewer = bare(desk.viewer)
        self.modes = Modes(viewer, self._show_state)
        self.controls = CompareControls()
        self.views = Views(self.maps, self.modes, lambda: self.controls.divider_share, self._show_state)
        self._watched: weakref.WeakSet[Any] = weakref.WeakSet()
        self._build()
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active)
        viewer.dims.events.point.connect(self._on_point)
        desk.model_changed.connect(self._show_state)
        state.events.kind.connect(self._show_state)
        state.events.connect(self._on_state)
        self._show_pair()

    # --- pairs --------------------------------------------------------------------------------------------------------

    def add_pair(self, pair: Pair) -> None:
        """Compare a new reconstruction from now on."""
        self.pairs.append(pair)
        self.maps.note(pair)
        for layer in (pair.source_layer, pair.reconstruction):
            if layer not in self._watched:
                layer.events.data.connect(self._on_data)
                self._watched.add(layer)
        self.choose(pair)

    def choose(self, pair: Pair | None) -> None:
        """Compare another pair; None compares nothing."""
        if pair is not self.pair:
            self.views.close()
        self.pair = pair
        self.estimate.refresh()
        self._show_pair()

    def pair_of(self, layer: Any) -> Pair | None:
        """Return the newest pair that a layer belongs to."""
        layer = bare(layer)
        return next((pair for pair in reversed(self.pairs) if pair.holds(layer)), None)

    def close_panel(self) -> None:
        """End every view and let go of viewer, layers and state."""
        self.views.close()
        viewer = self.maps.viewer()
        if viewer is not None:
            viewer.layers.events.removed.disconnect(self._on_removed)
            viewer.layers.selection.events.active.disconnect(self._on_active)
            viewer.dims.events.point.disconnect(self._on_point)
        self.desk.model_changed.disconnect(self._show_state)
        self.state.events.kind.disconnect(self._show_state)
        self.state.events.disconnect(self._on_state)
        self.estimate.close_box()
        self.form.disconnect_state()
        for layer in self._watched:
            layer.events.data.disconnect(self._on_data)
        self._watched.clear()
        self.pairs, self.pair = [], None

    # --- views --------------------------------------------------------------------------------------------------------

    def open_view(self, name: str) -> None:
        """Open a view by name as soon as what it shows is there, or end the open one with an empty name."""
        try:
            self.views.open(self.pair, name)
        except Exception as error:  # noqa: BLE001 - a button must not raise: whatever the view met is told
            self.desk.show_error(error)
        self._show_state()

    def side_by_side(self) -> None:
        """Show input, reconstruction and residual in one row of the canvas."""
        self.open_view("side")

    def separate_canvases(self) -> None:
        """Show reconstruction and residual in canvases of their own."""
        self.open_view("canvases")

    def blink(self) -> None:
        """Show input and reconstruction in turn; called again, stop."""
        self.open_view("" if self.modes.name == "blink" else "blink")

    def wipe(self) -> None:
        """Show the reconstruction left of a divider and the input right of it."""
        self.open_view("wipe")

    # --- maps ---------------------------------------------------------------------------------------------------------

    def make_residual(self) -> None:
        """Add a layer of input minus reconstruction."""
        if self.pair is not None:
            self.maps.make_residual(self.pair)

    def make_uncertainty(self) -> None:
        """Add a layer of the standard deviation over draws, if that fits in the free memory."""
        if self.pair is not None:
            self.maps.make_uncertainty(self.pair, self.estimate)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.controls.view_wanted.connect(self.open_view)
        self.controls.switch_wanted.connect(self.modes.switch)
        self.controls.divider_moved.connect(self.modes.move_wipe)
        self.controls.residual_wanted.connect(self.make_residual)
        self.controls.uncertainty_wanted.connect(self.make_uncertainty)
        self.copy = CopyButton(
            lambda: self.desk.python_of(self._copied_layer()),
            lambda: self.desk.command_of(self._copied_layer()),
            text="Copy result",
        )
        self.copy.failed.connect(self.desk.show_error)
        self.form = make_form(self.state, ("draws", "kind"))
        self.seed = SeedBox(self.state.seed)
        self.seed.seed_changed.connect(self._on_seed)
        self.seed.keep_box.hide()  # a map uses the seed that is shown until another one is drawn
        self.plots = ComparisonPlots()
        self.plots.plane_chosen.connect(self._go_to_plane)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self.estimate = EstimateBox(
            self.desk, "uncertainty", lambda: self.maps.uncertainty_ask(self.pair), prefix="Uncertainty map"
        )
        column.addWidget(self.controls)
        column.addWidget(self.estimate)
        options = QWidget()
        inner = QVBoxLayout(options)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(self.form)
        inner.addWidget(self.seed)
        column.addWidget(
            Fold(
                "Options of the uncertainty map",
                "vqldm-uncertainty-options",
                options,
                "How many draws, of what, from which seed",
            )
        )
        self.plots_fold = Fold("Plots", "vqldm-plots", self.plots, "PSNR per plane, and power over frequency")
        self.plots_fold.set_open(True)
        column.addWidget(self.plots_fold)
        column.addWidget(self.copy)

    def _on_state(self, *_: object) -> None:
        self.estimate.refresh()

    def _show_pair(self) -> None:
        if self.pair is None:
            self._shown = None
            self.controls.show_numbers(NOTHING, "")
            self.controls.series.setText("")
            self.plots.show_comparison(None)
        else:
            self._show_frame(self.pair)
            self.controls.series.setText(series_text(self.pair.comparisons))
        self._show_state()

    def _show_frame(self, pair: Pair) -> None:
        comparison = pair.comparisons[pair.frame(self.maps.viewer())]
        if comparison is not self._shown:
            self._shown = comparison
            self.controls.show_numbers(numbers_text(comparison), ceiling_text(comparison))
            self.plots.show_comparison(comparison, pair.cutoff_per_um)
            self._mark_plane(pair)

    def _show_state(self, *_: object) -> None:
        self.views.settle()
        pair = self.pair
        self.controls.show_state(
            self.modes.name,
            has_pair=pair is not None,
            is_busy=self.maps.is_busy,
            uncertainty_reason="" if pair is None else self.maps.why_no_uncertainty(pair),
            waiting=self.views.waiting,
            uncertainty_hint="" if pair is None else self.maps.uncertainty_hint(pair),
        )
        self.copy.setEnabled(self.maps.last_layer is not None)
        self._show_note()

    def _show_note(self) -> None:
        """Say what in the view is not what the sliders show."""
        viewer, pair = self.maps.viewer(), self.pair
        elsewhere = "" if viewer is None or pair is None else pair.elsewhere(viewer)
        text = self.views.note or elsewhere
        if text != self.controls.note.text():
            self.controls.note.setText(text)

    def _copied_layer(self) -> Any:
        layer = self.maps.last_layer
        if layer is None:
            raise VqldmError("expected a result to copy, got none: reconstruct a volume first")
        return layer

    def _on_removed(self, _event: Any = None) -> None:
        self.pairs = [pair for pair in self.pairs if self.maps.is_there(pair)]
        if self.pair is not None and self.pair not in self.pairs:
            self.choose(self.pairs[-1] if self.pairs else None)

    def _on_data(self, event: Any) -> None:
        """Other voxels: what was compared is no longer what is seen."""
        stale = [pair for pair in self.pairs if event.source in (pair.source_layer, pair.reconstruction)]
        for pair in stale:
            pair.mark_stale()
        if stale:
            self._on_removed()
            self.desk.noticed.emit(f"The voxels of {event.source.name!r} were replaced: its comparison ended.")

    def _on_active(self, _event: Any = None) -> None:
        """Follow the selected layer to the comparison that it belongs to."""
        viewer = self.maps.viewer()
        if viewer is None or self.modes.name:
            return
        pair = self.pair_of(viewer.layers.selection.active)
        if pair is not None and pair is not self.pair:
            self.choose(pair)

    def _on_point(self, _event: Any = None) -> None:
        viewer, pair = self.maps.viewer(), self.pair
        if viewer is None or pair is None or not pair.is_in(viewer):
            return
        self._show_frame(pair)
        self._mark_plane(pair)
        self.views.settle()
        self._show_note()

    def _mark_plane(self, pair: Pair) -> None:
        """Mark the plane in view."""
        layer, point = pair.reconstruction, bare(self.desk.viewer).dims.point
        if layer is not None and len(point) >= layer.ndim:
            self.plots.mark_plane(round(float(layer.world_to_data(point[-layer.ndim :])[-3])))

    def _go_to_plane(self, z: int) -> None:
        viewer, pair = self.maps.viewer(), self.pair
        if viewer is None or pair is None or not pair.is_in(viewer):
            return
        layer = pair.reconstruction
        position = [(n - 1) / 2 for n in layer.data.shape]
        position[-3] = z
        viewer.dims.set_point(viewer.dims.ndim - 3, layer.data_to_world(position)[-3])

    def _on_seed(self, seed: int) -> None:
        self.state.seed = seed
