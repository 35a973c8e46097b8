"""One code closely: its use, the codes next to it, where it stands, what it paints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QEvent, Qt, QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_vqldm.inside.table import nearest_codes, rank_codes
from napari_vqldm.pictures import GAP, orthogonal_projections
from napari_vqldm.plugin.tabs.codebook.parts import cells_text, make_button, make_line
from napari_vqldm.plugin.tabs.codebook.state import CodebookState, Found
from napari_vqldm.plugin.widgets.thumbnails import pixmap_of

if TYPE_CHECKING:
    from napari_vqldm.inside.atoms import Atom

PICTURE = 200  # pixels of all three projections: they fit into a dock as napari opens it, the bar beside it counted
NEIGHBOURS, COLUMNS = 8, 4
WAIT_MS = 250  # before an atom is asked for: who walks along the codes does not want all of them
HOW = "Choose a code: click a bar, a point, an atom, or a voxel of the code map."
AS_LAYER = "Show atom as layer"
NOWHERE = "No atom: this code stands in no code map that was kept."


class CodeDetails(QWidget):
    """Words, pictures and buttons for the chosen code; for several, their cells together.

    Attributes
    ----------
    atom : Atom or None
        What is shown.
    """

    atom_wanted = Signal(int)  # the atom of this code is looked at: answer with `set_atom` or `set_atom_text`
    place_wanted = Signal(int)  # +1: the next place of the code, -1: the one before
    atom_layer_wanted = Signal()  # show the atom in the viewer

    def __init__(self, state: CodebookState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-codebook-details")
        self.state = state
        self.atom: Atom | None = None
        self._shown: int | None = None
        self._build()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(WAIT_MS)
        self._timer.timeout.connect(self._ask)
        state.counted.connect(self._show_state)
        state.chosen.connect(self._show_state)
        self._show_state()

    def set_atom(self, atom: Atom) -> None:
        """Show the atom of the chosen code; that of another one is dropped."""
        if atom.code != self.state.code:
            return
        self._timer.stop()
        self.atom = atom
        low, high = float(atom.volume.data.min()), float(atom.volume.data.max())
        self.atom_text.setText(f"{atom.text}. Brightest {high:+.2f}, darkest {low:+.2f} of a filament's peak.")
        self._paint_atom()

    def set_layer_text(self, text: str) -> None:
        """Say on the button how far the volume for the layer is; empty when it has ended."""
        self.layer_button.setText(text or AS_LAYER)
        self.layer_button.setEnabled(not text and self.atom is not None)

    def set_atom_text(self, text: str) -> None:
        """Say that the atom is being made, or why there is none; an empty text lets it be asked for again."""
        self.atom = None
        self.atom_text.setText(text)
        self._paint_atom()

    def set_places(self, text: str, *, can_step: bool = True) -> None:
        """Say where the code stands, or which of its places the viewer shows, and whether there is one to go to."""
        self.places.setText(text)
        for button in (self.previous, self.next):
            button.setEnabled(can_step)

    def showEvent(self, event: QShowEvent) -> None:
        """Ask for the atom now that somebody looks."""
        super().showEvent(event)
        self._timer.start()

    def changeEvent(self, event: QEvent) -> None:
        """Draw again for a screen with other pixels."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and self.atom is not None:
            self._paint_atom()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.title = make_line(self, "vqldm-code-title")
        self.cells = make_line(self, "vqldm-code-cells")
        self.neighbours_text = make_line(self, "vqldm-code-neighbours")
        self._grid_box = QWidget()
        self._grid = QGridLayout(self._grid_box)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self.neighbours: list[QPushButton] = []
        for number in range(NEIGHBOURS):
            button = QPushButton()
            button.setObjectName(f"vqldm-code-neighbour-{number}")
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.clicked.connect(lambda _checked=False, at=number: self._choose_neighbour(at))
            self._grid.addWidget(button, number // COLUMNS, number % COLUMNS)
            self.neighbours.append(button)
        self.places = make_line(self, "vqldm-code-places")
        self.previous = make_button("Previous place", "vqldm-code-previous", "Move the view to the place before")
        self.previous.clicked.connect(lambda _checked=False: self.place_wanted.emit(-1))
        self.next = make_button("Next place", "vqldm-code-next", "Move the view to the next place of this code")
        self.next.clicked.connect(lambda _checked=False: self.place_wanted.emit(1))
        self._ways = QWidget()
        row = QHBoxLayout(self._ways)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.previous)
        row.addWidget(self.next)
        self.picture = QLabel()
        self.picture.setObjectName("vqldm-code-atom")
        self.picture.setAlignment(Qt.AlignmentFlag.AlignLeft)
        self.picture.setToolTip("Brightest along z; beside it along x; below it along y")
        self.atom_text = make_line(self, "vqldm-code-atom-text")
        self.layer_button = make_button(
            AS_LAYER,
            "vqldm-code-atom-layer",
            "Add the whole receptive field to the viewer, as a small volume; the picture is its middle",
        )
        self.layer_button.clicked.connect(lambda _checked=False: self.atom_layer_wanted.emit())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.title, self.cells, self.neighbours_text, self._grid_box, self.places, self._ways):
            column.addWidget(widget)
        for widget in (self.picture, self.atom_text, self.layer_button):
            column.addWidget(widget)

    def _show_state(self) -> None:
        """Show the chosen code, or codes, or how to choose one."""
        found, code = self.state.found, self.state.code
        if found is not None and code is not None:
            self._show_code(found, code)
        else:
            self._shown = None
            self.title.setText("" if found is None else _several(found, self.state.codes))
            for text in (self.cells, self.neighbours_text, self.places):
                text.setText("")
            self.set_atom_text("")
        for widget in (self._grid_box, self._ways, self.layer_button):
            widget.setVisible(code is not None)

    def _show_code(self, found: Found, code: int) -> None:
        counts = found.usage.everywhere.counts
        rank, share = int(rank_codes(counts)[code]), counts[code] / max(int(counts.sum()), 1)
        self.title.setText(f"Code {code} · rank {rank} of {found.num_codes} · {share:.2%} of all cells")
        said = cells_text(found, code)
        is_background = code == found.background_code
        self.cells.setText(f"{said}; the commonest code of the background" if is_background else said)
        self._show_neighbours(found, code)
        num_places = _num_places(found, code)
        self._timer.start()
        if code == self._shown and num_places:  # counting goes on: what is shown of it stays
            return
        self._shown = code
        where = f"{num_places} cells" if num_places != 1 else "1 cell"
        said = f"Stands in {where} of the code map." if num_places else "Stands nowhere in the code map."
        self.set_places(said, can_step=num_places > 0)
        self.set_atom_text("" if num_places else NOWHERE)

    def _show_neighbours(self, found: Found, code: int) -> None:
        near = nearest_codes(found.vectors, code, NEIGHBOURS)
        self.neighbours_text.setText("Nearest codes, with their distance:" if near else "")
        for number, button in enumerate(self.neighbours):
            button.setVisible(number < len(near))
            if number < len(near):
                one = near[number]
                button.setText(f"{one.code}\n{one.distance:.3g}")
                button.setProperty("code", one.code)
                button.setAccessibleName(f"Code {one.code}, distance {one.distance:.3g}")
                button.setToolTip(f"Choose code {one.code}: its vector lies {one.distance:.3g} from that of {code}")

    def _choose_neighbour(self, number: int) -> None:
        self.state.choose(int(self.neighbours[number].property("code")))

    def _ask(self) -> None:
        """Ask for the atom of the chosen code, if somebody looks and there is one."""
        found, code = self.state.found, self.state.code
        if found is None or code is None or not self.isVisible() or not found.is_complete:
            return
        if not self.atom_text.text():  # nothing is shown, under way, or known to fail
            self.atom_wanted.emit(code)

    def _paint_atom(self) -> None:
        """Draw the three projections; a faint atom is drawn as faint."""
        self.set_layer_text("")
        self.picture.setVisible(self.atom is not None)
        if self.atom is None:
            self.picture.clear()
            return
        from napari_vqldm.report.codebook_page import FAINT  # PyTorch comes with it, as it did with the atom

        volume, sharp = self.atom.middle, self.devicePixelRatioF()
        depth, height, wide = volume.extent_um
        most = min(1 / (1 + depth / wide), 1 / (height / wide + depth / wide))  # all of it inside a square
        width = max(8, round((PICTURE * sharp - GAP) * most))
        peak = max(float(volume.data.max()), FAINT)
        picture = pixmap_of(orthogonal_projections(volume, width=width, limits=(0.0, peak)))
        picture.setDevicePixelRatio(sharp)
        self.picture.setPixmap(picture)
        self.picture.setAccessibleName(f"Atom of code {self.atom.code}, brightest along z, x and y")


def _num_places(found: Found, code: int) -> int:
    return sum(int(context.usage.everywhere.counts[code]) for context in found.contexts)


def _several(found: Found, codes: tuple[int, ...]) -> str:
    if not codes:
        return HOW
    index = np.array(codes, np.int64)
    up, down = (int(part.counts[index].sum()) for part in (found.usage.filament, found.usage.background))
    return f"{len(codes)} codes: {up} filament cells, {down} background cells together."
