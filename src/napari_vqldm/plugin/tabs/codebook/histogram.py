"""How often each code is used: one bar up for filament cells, one down for background cells, all of them to click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.inside.table import rank_codes
from napari_vqldm.plugin.tabs.codebook.parts import (
    cells_text,
    make_button,
    make_choice,
    make_line,
    make_patch,
    most_used_text,
    order_of,
    title_of,
)
from napari_vqldm.plugin.tabs.codebook.plots import (
    BACKGROUND_COLOR,
    FILAMENT_COLOR,
    Area,
    PlotInput,
    ink_of,
    make_plot,
    paint_frame,
)
from napari_vqldm.plugin.tabs.codebook.scale import Scale
from napari_vqldm.plugin.tabs.codebook.state import CodebookState, Found
from napari_vqldm.plugin.widgets import HelpLabel

HEIGHT = 210  # pixels of the plot
SORTS = (("Sort by index", "index"), ("Sort by use", "use"), ("Sort by use on filaments", "filament"))
AXES = {"index": "code", "use": "rank by use", "filament": "rank by use on filaments"}
PARTS = (("filament", "Filament cells"), ("background", "Background cells"), ("everywhere", "All cells"))
COLORS = {"filament": FILAMENT_COLOR, "background": BACKGROUND_COLOR}
HELP = (
    "Click a bar, or walk with the arrow keys: its code is chosen. Drag, or Shift and the arrow keys: several are. "
    "Escape chooses none. Ctrl and the wheel, or + and -, zoom; 0 shows all."
)
_ALPHA = 0.4  # of the columns over chosen bars
_BESIDE = 0.03  # of all bars: empty space on each side, to click on for none
_PAGE = 10  # a page up or down is this part of all bars


class UsageHistogram(QWidget):
    """Bars of all codes, what each part of the cells uses, and buttons that choose dead codes.

    Attributes
    ----------
    order : ndarray
        (K,): the codes as they stand from left to right.
    plot : pyqtgraph.PlotWidget or None
        None before the first counts, and where pyqtgraph is not installed: then the text names the most used codes.
    """

    def __init__(self, state: CodebookState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-codebook-histogram")
        self.state = state
        self.order: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.plot: Any = None
        self.input: PlotInput | None = None
        self._bars: dict[str, Any] = {}  # made once: a scene must not lose items while it is painted
        self._cursor, self._anchor = -1, 0  # positions: where the keys are, where they began to extend; -1: nowhere
        self._is_walking = False
        self._is_tried = False
        self._build()
        state.counted.connect(self._show_counts)
        state.chosen.connect(self._on_chosen)
        self._show_counts()

    def counts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return filament cells (K,) and background cells (K,) in the order shown."""
        found = self.state.found
        if found is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return found.usage.filament.counts[self.order], found.usage.background.counts[self.order]

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and self.plot is not None:
            self._paint()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.title = make_line(self, "vqldm-codebook-what")
        self.sort = make_choice("vqldm-codebook-sort", "Order of the bars", "In which order the codes stand", SORTS)
        self.sort.setCurrentIndex(1)
        self.sort.currentIndexChanged.connect(lambda _index: self._show_counts())
        self.is_log = QCheckBox("Log scale")
        self.is_log.setObjectName("vqldm-codebook-log")
        self.is_log.setToolTip(
            "Rare codes are seen beside common ones, one scale for both colors. "
            "Off: filament cells and background cells have a scale each"
        )
        self.is_log.setChecked(True)
        self.is_log.toggled.connect(lambda _checked: self._draw())
        self.axis = QLabel(self)
        self.axis.setObjectName("vqldm-codebook-axis")
        self.axis.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.axis.hide()
        self.text = make_line(self, "vqldm-codebook-text")
        self._top, self._lines = QWidget(), QWidget()
        row = QHBoxLayout(self._top)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.sort, 1)
        row.addWidget(self.is_log)
        grid = QGridLayout(self._lines)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        self.lines: dict[str, HelpLabel] = {}
        self.dead_buttons: dict[str, QPushButton] = {}
        for number, (part, _) in enumerate(PARTS):
            if part in COLORS:
                grid.addWidget(make_patch(COLORS[part]), number, 0)
            self.lines[part] = make_line(self._lines, f"vqldm-codebook-{part}")
            self.dead_buttons[part] = self._dead_button(part)
            grid.addWidget(self.lines[part], number, 1)
            grid.addWidget(self.dead_buttons[part], number, 2)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.title, self._top, self.axis, self.text, self._lines):
            self._column.addWidget(widget)

    def _dead_button(self, part: str) -> QPushButton:
        button = make_button("", f"vqldm-codebook-dead-{part}", "")
        button.clicked.connect(lambda _checked=False: self._choose_dead(part))
        return button

    def _show_counts(self) -> None:
        """Show what was counted, in the chosen order."""
        found = self.state.found
        for widget in (self._top, self._lines):
            widget.setVisible(found is not None)
        self.title.setText("" if found is None else title_of(found))
        if found is not None:
            self._show_lines(found)
            self._make_plot()
        self.order = np.zeros(0, np.int64) if found is None else order_of(found, self.sort.currentData())
        self.text.setText("" if found is None or self.plot is not None else most_used_text(found))
        self._draw(is_anew=True)
        self._on_chosen()

    def _show_lines(self, found: Found) -> None:
        for part, numbers in found.usage.to_dict().items():
            called, dead = dict(PARTS)[part], numbers["dead_codes"]
            used = f"{numbers['codes_used']} of {found.num_codes} codes used, {dead} dead"
            self.lines[part].setText(f"{called}: {used}, perplexity {numbers['perplexity']:.1f}")
            button = self.dead_buttons[part]
            button.setText(f"{dead} dead")
            button.setEnabled(dead > 0)
            button.setAccessibleName(f"Choose the {dead} dead codes of {called.lower()}")
            where = "that no cell has" if part == "everywhere" else f"that no {part} cell has"
            button.setToolTip(f"Choose all codes {where}")

    def _choose_dead(self, part: str) -> None:
        if self.state.found is not None:
            usage = self.state.found.usage
            counts = {"filament": usage.filament, "background": usage.background}.get(part, usage.everywhere).counts
            self.state.choose(np.flatnonzero(counts == 0).tolist())

    # --- drawing ------------------------------------------------------------------------------------------------------

    def _make_plot(self) -> None:
        if self._is_tried:
            return
        self._is_tried = True
        self.plot = make_plot("vqldm-codebook-bars", "Use of the codes", HELP, HEIGHT)
        if self.plot is None:
            return
        import pyqtgraph

        for name in (*COLORS, "chosen"):
            self._bars[name] = pyqtgraph.BarGraphItem(x=[], height=[], width=1.0)
            self.plot.addItem(self._bars[name], ignoreBounds=True)
        self._bars["zero"] = pyqtgraph.InfiniteLine(0, angle=0)
        self.plot.addItem(self._bars["zero"], ignoreBounds=True)
        self.input = PlotInput(self.plot, self._tip_at, whole_height=True)
        self.input.clicked.connect(self._on_click)
        self.input.brushed.connect(self._on_brush)
        self.input.pressed.connect(self._on_key)
        self._column.insertWidget(2, self.plot)

    @property
    def _first(self) -> int:
        """Where the first bar stands: codes count from 0, ranks from 1."""
        return 0 if self.sort.currentData() == "index" else 1

    def _draw(self, is_anew: bool = False) -> None:
        """Draw all bars; anew: all of them are seen."""
        if self.plot is None or self.input is None:
            return
        up, down = self.counts()
        self.plot.setVisible(len(up) > 0)
        scale = Scale.of(up, down, self.is_log.isChecked())
        for name, counts, heights in (("filament", up, scale.up(up)), ("background", down, -scale.down(down))):
            shown = np.flatnonzero(counts)
            self._bars[name].setOpts(x=shown + self._first, height=heights[shown], width=0.8)
        self.plot.getAxis("left").setTicks([scale.ticks()])
        self.axis.setText(AXES[self.sort.currentData()])
        self.axis.setVisible(len(up) > 0)
        left, beside = self._first - 0.5, max(0.5, _BESIDE * len(up))
        whole = Area(left - beside, left + max(len(up), 1) + beside, -1.05, 1.05)
        if is_anew and whole != self.input.whole:
            self.input.show_whole(whole)
        self._paint()

    def _paint(self) -> None:
        """Give everything the colors of the theme."""
        import pyqtgraph

        ink = ink_of(self)
        faint = QColor(ink)
        faint.setAlphaF(_ALPHA)
        paint_frame(self.plot, ink)
        for name, edge, fill in (*((name, color, color) for name, color in COLORS.items()), ("chosen", ink, faint)):
            # The edge is one pixel at least: also bars of 16384 codes are seen.
            self._bars[name].setOpts(pen=pyqtgraph.mkPen(edge), brush=pyqtgraph.mkBrush(fill))
        self._bars["zero"].setPen(pyqtgraph.mkPen(ink))

    def _on_chosen(self) -> None:
        """Mark the chosen bars."""
        places = np.flatnonzero(np.isin(self.order, self.state.codes))
        if not self._is_walking:
            self._cursor = self._anchor = int(places[0]) if len(places) else -1
        if self.plot is None or self.input is None:
            return
        self._bars["chosen"].setOpts(x=places + self._first, y0=np.full(len(places), -1.05), height=2.1, width=1.0)
        if len(places):
            self.input.bring_into_view(float(self._cursor + self._first))
        many = f"{len(places)} codes are chosen." if len(places) else ""
        said = self._about(int(places[0])) if len(places) == 1 else many
        self.plot.setAccessibleDescription(f"{said} {HELP}".strip())

    # --- mouse and keys -----------------------------------------------------------------------------------------------

    def _on_click(self, x: float, y: float) -> None:
        position = self._position_at(x, y)
        self.state.choose(() if position is None else int(self.order[position]))

    def _on_brush(self, area: Area) -> None:
        """Choose the bars whose column is touched."""
        left, right = (round(edge) - self._first for edge in (area.left, area.right))
        self.state.choose(self.order[max(left, 0) : max(right + 1, 0)].tolist())

    def _on_key(self, key: Qt.Key, has_shift: bool) -> None:
        if key == Qt.Key.Key_Escape:
            self.state.choose(())
        last, page = len(self.order) - 1, max(len(self.order) // _PAGE, 1)
        steps: dict[Qt.Key, Callable[[int], int]] = {
            Qt.Key.Key_Left: lambda at: at - 1,
            Qt.Key.Key_Right: lambda at: at + 1,
            Qt.Key.Key_Home: lambda at: 0,
            Qt.Key.Key_End: lambda at: last,
            Qt.Key.Key_PageUp: lambda at: at - page,
            Qt.Key.Key_PageDown: lambda at: at + page,
        }
        if key not in steps or last < 0:
            return
        self._cursor = min(max(steps[key](self._cursor), 0), last)
        if not has_shift or self._anchor < 0:
            self._anchor = self._cursor
        low, high = sorted((self._anchor, self._cursor))
        self._is_walking = True
        self.state.choose(self.order[low : high + 1].tolist())
        self._is_walking = False

    def _position_at(self, x: float, y: float) -> int | None:
        """Position of the bar whose column holds a place of the plot; dead codes have a column, too."""
        position = round(x) - self._first
        return position if 0 <= position < len(self.order) and abs(y) <= 1.1 else None

    def _tip_at(self, x: float, y: float) -> str:
        position = self._position_at(x, y)
        return HELP if position is None else self._about(position)

    def _about(self, position: int) -> str:
        """Code, rank and cells of a bar."""
        code, found = int(self.order[position]), self.state.found
        if found is None:
            return ""
        rank = int(rank_codes(found.usage.everywhere.counts)[code])
        return f"code {code} · rank {rank} of {found.num_codes}\n{cells_text(found, code)}"
