"""The views of the codes of a `vq-ldm`, and the work that they ask for: atoms, places, a plane."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.jobs import Priority
from napari_vqldm.plugin.layers import KEY, describe
from napari_vqldm.plugin.tabs.codebook.atom_layer import AtomLayer
from napari_vqldm.plugin.tabs.codebook.atoms import AtomMaker
from napari_vqldm.plugin.tabs.codebook.code_work import PlaneDone, plane_work
from napari_vqldm.plugin.tabs.codebook.details import CodeDetails
from napari_vqldm.plugin.tabs.codebook.gallery import AtomGallery
from napari_vqldm.plugin.tabs.codebook.histogram import UsageHistogram
from napari_vqldm.plugin.tabs.codebook.plane_plot import PlanePlot
from napari_vqldm.plugin.tabs.codebook.shown_maps import ShownMaps
from napari_vqldm.plugin.tabs.codebook.state import CodebookState
from napari_vqldm.plugin.widgets.fold import Fold

if TYPE_CHECKING:
    from napari_vqldm.inside.atoms import Atom
    from napari_vqldm.plugin.layers import LayerSource

EARLIER = (
    "No atom: the counts are of {}, and the code stands in the map of another layer. Count all layers to look at both."
)


class CodesBox(QWidget):
    """Histogram, the chosen code, atoms and plane, each in a fold.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    state : CodebookState
        Counts and choice.
    maps : ShownMaps
        Where codes stand.
    """

    def __init__(self, desk: Desk, state: CodebookState, maps: ShownMaps, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-codebook-codes")
        self._desk, self._state, self._maps = desk, state, maps
        # Before the views: new counts must not ask for atoms of the old ones.
        self.maker = AtomMaker(desk, state, self)
        self.atom_layer = AtomLayer(desk.viewer)
        self.histogram = UsageHistogram(state)
        self.details = CodeDetails(state)
        self.gallery = AtomGallery(state)
        self.plane = PlanePlot(state)
        self._build()
        self.maker.made.connect(self._on_atom)
        self.maker.said.connect(self._on_said)
        self.maker.made_whole.connect(self._on_whole)
        self.maker.said_whole.connect(self._on_said_whole)
        self.details.atom_wanted.connect(self.maker.look)
        self.details.atom_layer_wanted.connect(self.show_atom)
        self.details.place_wanted.connect(lambda by: self.details.set_places(maps.step(by)))
        self.gallery.wanted.connect(self.maker.want)
        self.plane.plane_wanted.connect(self._lay_out)
        # After the views: they show what is known of a code, then comes what was measured.
        state.counted.connect(self._on_counted)
        state.chosen.connect(self._on_chosen)
        self._show_folds()

    def show_atom(self) -> None:
        """Show the atom of the chosen code as a layer, all of it; those of codes chosen later take its place."""
        if self.details.atom is not None:
            self.maker.look_whole(self.details.atom.code)

    def _explain_earlier(self, code: int) -> bool:
        """Say why a code has no atom that stands in an earlier map alone; return whether that is so."""
        found = self._state.found
        if found is None or found.usage.everywhere.counts[code] or not self._maps.count_of(code):
            return False
        self.details.set_atom_text(EARLIER.format(found.what))
        return True

    def _on_whole(self, atom: Atom) -> None:
        if atom.code != self._state.code:
            return
        layer = self.atom_layer.show(atom, self._maps.newest or self._a_stack())
        if layer is not None:
            self._desk.added("Atom", [layer])

    def show_places(self) -> None:
        """Say where the chosen code stands; code maps may have come or gone."""
        if self._state.code is not None:
            self.details.set_places(self._maps.again(), can_step=self._maps.can_step)

    def close_box(self) -> None:
        """Stop what is under way."""
        self.maker.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.details_fold = Fold(
            "Chosen code", "vqldm-codebook-details-fold", self.details, "Where a code stands and what it paints"
        )
        self.gallery_fold = Fold(
            "Atoms", "vqldm-codebook-gallery-fold", self.gallery, "What the most used codes paint, measured when opened"
        )
        self.plane_fold = Fold(
            "Codebook as a plane", "vqldm-codebook-plane-fold", self.plane, "Codes that are alike lie close together"
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.histogram, self.details_fold, self.gallery_fold, self.plane_fold):
            column.addWidget(widget)
        self.details_fold.set_open(True)

    def _show_folds(self) -> None:
        has_counts = self._state.found is not None
        for fold in (self.details_fold, self.gallery_fold, self.plane_fold):
            fold.setVisible(has_counts)

    def _a_stack(self) -> LayerSource | None:
        """A stack to put an atom beside where no code map is shown; None where there is none."""
        for layer in reversed(bare(self._desk.viewer).layers):
            info, record = describe(layer), layer.metadata.get(KEY)
            is_made_here = isinstance(record, dict) and "layer" in record  # an image of cells, or an atom
            if not is_made_here and info.is_usable and info.voxel_size_um is not None:
                return replace(self._desk.snapshot_shown(layer), data=None)
        return None

    def _on_counted(self) -> None:
        self._show_folds()
        found, code = self._state.found, self._state.code
        if found is None or not found.is_complete:
            return
        self.gallery.clear()
        if code is not None:  # chosen before: its atom is that of other counts
            self.details.set_atom_text("")
            if (
                not self._explain_earlier(code)
                and self.details.isVisible()
                and any(context.usage.everywhere.counts[code] for context in found.contexts)
            ):
                self.maker.look(code)

    def _on_chosen(self) -> None:
        self.maker.look_away()
        code = self._state.code
        if code is None:
            return
        self._maps.begin()
        self.show_places()
        self._explain_earlier(code)
        if code in self.maker.atoms:
            self.maker.look(code)

    def _on_atom(self, atom: Atom) -> None:
        self.details.set_atom(atom)
        self.gallery.set_atom(atom)
        if self.details.atom is atom and self.atom_layer.layer is not None:
            self.show_atom()

    def _on_said(self, code: int, text: str) -> None:
        if code == self._state.code:
            self.details.set_atom_text(text)

    def _on_said_whole(self, code: int, text: str) -> None:
        if code == self._state.code:
            self.details.set_layer_text(text)

    def _lay_out(self, method: str) -> None:
        """Lay the codes out in the background."""
        found = self._state.found
        if found is None:
            return

        def show(done: PlaneDone) -> None:
            if self._state.found is not None and self._state.found.weights_sha256 == found.weights_sha256:
                self.plane.set_plane(done.method, done.plane, done.reason)

        def failed(_failure: object = None) -> None:
            self.plane.set_plane(method, None)

        self._desk.run(
            "Codes in a plane",
            plane_work(found, method),
            on_done=show,
            on_failure=failed,
            on_cancelled=failed,
            priority=Priority.INTERACTIVE,
            key="codebook-plane",
        )
