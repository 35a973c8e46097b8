"""Small parts of the views: labels, buttons, lists to choose from, and the words for what was counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from qtpy.QtWidgets import QComboBox, QFrame, QPushButton, QWidget

from napari_vqldm.plugin.tabs.codebook.state import Found
from napari_vqldm.plugin.widgets import HelpLabel

NAMED = 10  # codes in words, where nothing can be drawn


def make_line(parent: QWidget, name: str) -> HelpLabel:
    """Return a line of text that wraps; ``name`` is its ``objectName``."""
    label = HelpLabel(parent=parent)
    label.setObjectName(name)
    return label


def make_button(text: str, name: str, tip: str) -> QPushButton:
    """Return a button with help; ``name`` is its ``objectName``."""
    button = QPushButton(text)
    button.setObjectName(name)
    button.setToolTip(tip)
    return button


def make_choice(name: str, called: str, tip: str, entries: Sequence[tuple[str, str]]) -> QComboBox:
    """Return a list to choose from, that fits into a narrow dock; ``entries`` are pairs of text and value."""
    choice = QComboBox()
    choice.setObjectName(name)
    choice.setAccessibleName(called)
    choice.setToolTip(tip)
    choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    choice.setMinimumContentsLength(6)
    for text, value in entries:
        choice.addItem(text, value)
    return choice


def make_patch(color: str) -> QFrame:
    """Return a small square: which bars a line belongs to."""
    patch = QFrame()
    patch.setFixedSize(10, 10)
    patch.setStyleSheet(f"background: {color}")
    return patch


def order_of(found: Found, sort: str) -> npt.NDArray[np.int64]:
    """Return the codes (K,) in order: ``"index"``, ``"use"`` or ``"filament"``, most used first, equal use by index."""
    if sort == "index":
        return np.arange(found.num_codes)
    usage = found.usage.filament if sort == "filament" else found.usage.everywhere
    return np.argsort(-usage.counts, kind="stable")


def title_of(found: Found) -> str:
    """Say what was counted, how far, what was left out, and whether a table is learned at all."""
    kind = "implicit codes (FSQ: no table is learned)" if found.is_implicit else "codes"
    volumes = f"{found.num_volumes} volume{'' if found.num_volumes == 1 else 's'} so far"
    left_out = f" ({len(found.problems)} left out)" if found.problems else ""
    return f"{found.what}{left_out}: {found.num_codes} {kind}" + ("" if found.is_complete else f", {volumes}")


def most_used_text(found: Found) -> str:
    """Name the most used codes, where no bars can be drawn."""
    counts = found.usage.everywhere.counts
    most = [code for code in order_of(found, "use")[:NAMED].tolist() if counts[code]]
    named = ", ".join(f"{code} ({counts[code]} cells)" for code in most) or "none"
    return f"Most used codes: {named}. To see all as bars: pip install pyqtgraph."


def cells_text(found: Found, code: int) -> str:
    """Say how many cells a code has, of filaments and of background."""
    up, down = (int(part.counts[code]) for part in (found.usage.filament, found.usage.background))
    return f"{up} filament cells, {down} background cells" if up or down else "dead: no counted cell has it"
