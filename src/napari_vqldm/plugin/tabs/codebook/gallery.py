"""Pictures of the atoms, most used code first: what the codes paint, one beside the other with one contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QSize, Qt, Signal
from qtpy.QtGui import QIcon, QPixmap, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QListView,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_vqldm.inside.table import rank_codes
from napari_vqldm.pictures import max_projection, resize, to_gray
from napari_vqldm.plugin.tabs.codebook.parts import make_button, make_choice, make_line, order_of
from napari_vqldm.plugin.tabs.codebook.plots import ink_of
from napari_vqldm.plugin.tabs.codebook.state import CodebookState, Found
from napari_vqldm.plugin.widgets.thumbnails import pixmap_of

if TYPE_CHECKING:
    from napari_vqldm.inside.atoms import Atom

PICTURE = 84  # pixels, the longer edge
CELL = QSize(124, 116)  # pixels of picture and caption: two stand side by side in a narrow dock
LONG_IDS = 100  # so many codes need two lines for a caption
HEIGHT = 262  # pixels of the list: two rows
AT_ONCE = 12  # atoms that are asked for, and more with each press of a button
# Most cells are background, and what background codes paint is next to nothing: filaments first.
SORTS = (("By filament use", "filament"), ("By use", "use"))
EMPTY = "Count the codes of a layer to see what each of them paints."
COUNTING = "The atoms are made when counting is done."
NO_MAP = "No code map was kept: an atom is measured where its code stands. Count the codes of a layer."
NONE_LEFT = "No code but that of the background is used here."
_CODE = Qt.ItemDataRole.UserRole


class AtomGallery(QWidget):
    """Atoms as small pictures; those that nobody looks at are not made.

    Attributes
    ----------
    codes : tuple of int
        Shown, in this order: used in the code maps that were kept, the code of the background left out.
    """

    wanted = Signal(object)  # tuple of codes whose atoms are missing, in the order shown; it replaces earlier wishes

    def __init__(self, state: CodebookState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-codebook-gallery")
        self.state = state
        self.codes: tuple[int, ...] = ()
        self._most = AT_ONCE
        self._of = ""  # weights that the atoms belong to
        self._views: dict[int, npt.NDArray[np.float32]] = {}  # (Y, X) by code: brightest along z
        self._tips: dict[int, str] = {}
        self._limit = 0.0  # filament units that are white
        self.sort = make_choice("vqldm-codebook-atom-sort", "Order of the atoms", "Which atoms come first", SORTS)
        self.sort.currentIndexChanged.connect(lambda _index: self._restart())
        self.more = make_button("More", "vqldm-codebook-more", f"Show the next {AT_ONCE} atoms")
        self.more.clicked.connect(lambda _checked=False: self._show_more())
        self.text = make_line(self, "vqldm-codebook-gallery-text")
        self.list = _list()
        self.list.itemSelectionChanged.connect(self._on_selected)
        self._top = QWidget()
        row = QHBoxLayout(self._top)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.sort, 1)
        row.addWidget(self.more)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self._top, self.text, self.list):
            column.addWidget(widget)
        state.counted.connect(self._show_counts)
        state.chosen.connect(self._show_chosen)
        self._paint_frame()
        self._show_counts()

    def set_atom(self, atom: Atom) -> None:
        """Show an atom that was made."""
        from napari_vqldm.report.codebook_page import FAINT  # PyTorch comes with it, as it did with the atom

        view = np.asarray(max_projection(atom.middle.data, 0), np.float32)
        self._views[atom.code], self._tips[atom.code] = view, atom.text
        limit = max(FAINT, *(float(one.max()) for one in self._views.values()))
        if limit != self._limit:  # one contrast for all: a faint atom is seen as faint
            self._limit = limit
            for item in self._items():
                self._paint(item)
        else:
            for item in self._items():
                if item.data(_CODE) == atom.code:
                    self._paint(item)

    def clear(self) -> None:
        """Forget all atoms, and ask for them again."""
        self._forget()
        self._restart()

    def showEvent(self, event: QShowEvent) -> None:
        """Ask for what is missing now that somebody looks."""
        super().showEvent(event)
        self._ask()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self._paint_frame()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _paint_frame(self) -> None:
        """Frame chosen atoms in the color of text."""
        name, ink = self.list.objectName(), ink_of(self).name()
        style = (
            f"#{name}::item {{ border: 2px solid transparent; }}"
            f"#{name}::item:selected {{ border: 2px solid {ink}; background: transparent; color: {ink}; }}"
            f"#{name}:focus {{ border: 1px solid {ink}; }}"
        )
        if self.list.styleSheet() != style:
            self.list.setStyleSheet(style)

    def _forget(self) -> None:
        self._views.clear()
        self._tips.clear()
        self._limit = 0.0

    def _show_counts(self) -> None:
        found = self.state.found
        of = "" if found is None else found.weights_sha256
        if of != self._of:
            self._of, self._most = of, AT_ONCE
            self._forget()
        self._fill()

    def _restart(self) -> None:
        self._most = AT_ONCE
        self._fill()

    def _show_more(self) -> None:
        self._most += AT_ONCE
        self._fill()

    def _fill(self) -> None:
        """List the codes whose atoms are shown, or say why there are none."""
        found = self.state.found
        can_be_shown = () if found is None else codes_of(found, self.sort.currentData())
        self.codes = can_be_shown[: self._most]
        self.text.setText(_why_none(found, can_be_shown))
        self._top.setVisible(bool(can_be_shown))
        self.list.setVisible(bool(can_be_shown))
        left = len(can_be_shown) - len(self.codes)
        self.more.setEnabled(left > 0)
        self.more.setText(f"More ({left} left)" if left else "All shown")
        ranks = np.zeros(0, np.int64) if found is None else rank_codes(found.usage.everywhere.counts)
        listed = [item.data(_CODE) for item in self._items()]
        line = self.fontMetrics().height()
        self.list.setGridSize(CELL if len(ranks) <= LONG_IDS else CELL + QSize(0, line))
        self.list.blockSignals(True)
        if listed != list(self.codes[: len(listed)]):
            self.list.clear()
            listed = []
        for code in self.codes[len(listed) :]:
            item = QListWidgetItem()
            item.setData(_CODE, code)
            self.list.addItem(item)
        for item in self._items():
            between = " · " if len(ranks) <= LONG_IDS else "\n"
            item.setText(f"code {item.data(_CODE)}{between}rank {ranks[item.data(_CODE)]}")
            self._paint(item)
        self.list.blockSignals(False)
        self._show_chosen()
        self._ask()

    def _ask(self) -> None:
        missing = tuple(code for code in self.codes if code not in self._views)
        if missing and self.isVisible():
            self.wanted.emit(missing)

    def _items(self) -> list[QListWidgetItem]:
        items = (self.list.item(row) for row in range(self.list.count()))
        return [item for item in items if item is not None]

    def _paint(self, item: QListWidgetItem) -> None:
        """Draw the picture of a code; an empty square where its atom is not made yet."""
        view = self._views.get(item.data(_CODE))
        sharp = self.devicePixelRatioF()
        side = round(PICTURE * sharp)
        if view is None:
            picture = QPixmap(side, side)
            picture.fill(Qt.GlobalColor.black)
        else:
            rows, columns = view.shape
            longer = max(rows, columns)
            gray = to_gray(view, (0.0, self._limit))
            picture = pixmap_of(resize(gray, max(1, rows * side // longer), max(1, columns * side // longer)))
        picture.setDevicePixelRatio(sharp)
        icon = QIcon()
        for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):  # Qt would tint the chosen one
            icon.addPixmap(picture, mode)
        item.setIcon(icon)
        item.setToolTip(self._tips.get(item.data(_CODE), "This atom is not made yet"))

    def _on_selected(self) -> None:
        self.state.choose([item.data(_CODE) for item in self.list.selectedItems()])

    def _show_chosen(self) -> None:
        """Frame the chosen ones."""
        self.list.blockSignals(True)
        chosen = set(self.state.codes)
        for item in self._items():
            item.setSelected(item.data(_CODE) in chosen)
            if item.data(_CODE) == self.state.code:
                self.list.setCurrentItem(item)  # scrolls there
        self.list.blockSignals(False)


def codes_of(found: Found, sort: str) -> tuple[int, ...]:
    """Return the codes that have an atom to show, most used first (``"use"`` or ``"filament"``), equal use by index.

    An atom is measured where its code stands: a code that stands in no code map that was kept has none.
    """
    if not found.is_complete or not found.contexts:
        return ()
    by = (found.usage.filament if sort == "filament" else found.usage.everywhere).counts
    kept = np.sum([context.usage.everywhere.counts for context in found.contexts], axis=0)
    order = order_of(found, sort).tolist()
    return tuple(code for code in order if by[code] and kept[code] and code != found.background_code)


def _why_none(found: Found | None, codes: tuple[int, ...]) -> str:
    if codes:
        return ""
    if found is None:
        return EMPTY
    if not found.is_complete:
        return COUNTING
    return NONE_LEFT if found.contexts else NO_MAP


def _list() -> QListWidget:
    """A list of pictures that fills the width."""
    pictures = QListWidget()
    pictures.setObjectName("vqldm-codebook-atoms")
    pictures.setAccessibleName("Atoms")
    pictures.setAccessibleDescription("What each code paints; choose one to look at it closely")
    pictures.setViewMode(QListView.ViewMode.IconMode)
    pictures.setResizeMode(QListView.ResizeMode.Adjust)
    pictures.setMovement(QListView.Movement.Static)
    pictures.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
    pictures.setUniformItemSizes(True)
    pictures.setWordWrap(True)
    pictures.setIconSize(QSize(PICTURE, PICTURE))
    pictures.setGridSize(CELL)
    pictures.setFixedHeight(HEIGHT)
    pictures.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return pictures
