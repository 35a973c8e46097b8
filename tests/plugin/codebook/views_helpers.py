"""Counts made by hand, for the views of the Codebook tab."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, Qt

# 12 codes: 3 and 8 dead, 5 on filaments alone, 1 and 9 equally used.
FILAMENT = (0, 4, 7, 0, 90, 12, 0, 2, 0, 4, 1, 0)
BACKGROUND = (5000, 6, 0, 0, 800, 0, 40, 300, 0, 6, 1, 3)
BY_USE = (0, 4, 7, 6, 5, 1, 9, 2, 11, 10, 3, 8)
BY_FILAMENT = (4, 5, 2, 1, 9, 7, 10, 0, 3, 6, 8, 11)
ORDERS = {"index": tuple(range(12)), "use": BY_USE, "filament": BY_FILAMENT}


def usage_of(filament: Any, background: Any) -> Any:
    from napari_vqldm.codebook import CodebookUsage
    from napari_vqldm.quantizers import CodeUsage

    return CodebookUsage(*(CodeUsage(np.array(counts, np.int64)) for counts in (filament, background)))


def code_map_of(codes: Any, size: int) -> Any:
    """A code map without a filament."""
    from napari_vqldm.inside.codes import CodeMap

    codes = np.array(codes, np.int32)
    nothing = np.zeros(codes.shape, bool)
    usage = usage_of(np.zeros(size), np.bincount(codes.ravel(), minlength=size))
    return CodeMap(codes, nothing, nothing, (0.2, 0.1, 0.1), (0.0, 0.0, 0.0), usage, None)  # type: ignore[arg-type]


def found_of(filament: Any = FILAMENT, background: Any = BACKGROUND, **changes: Any) -> Any:
    """Counts of a codebook with random vectors; every used code stands in the code map that was kept."""
    from napari_vqldm.plugin.tabs.codebook.state import Found

    size = len(filament)
    usage = usage_of(filament, background)
    used = np.flatnonzero(usage.everywhere.counts)
    facts: dict[str, Any] = {
        "model_name": "planted",
        "weights_sha256": "a" * 64,
        "usage": usage,
        "contexts": (code_map_of(used.reshape(1, 1, -1), size),),
        "vectors": np.random.default_rng(3).normal(size=(size, 4)).astype(np.float32),
        "is_implicit": False,
        "background_code": int(usage.background.counts.argmax()),
        "what": "layer spindle",
        "num_volumes": 1,
    }
    return Found(**{**facts, **changes})


def many_found(size: int, **changes: Any) -> Any:
    """Counts of many codes, spread over four decades; a fifth are dead."""
    random = np.random.default_rng(0)
    counts = (10 ** random.uniform(0, 4, (2, size))).astype(np.int64)
    counts[:, random.random(size) < 0.2] = 0
    return found_of(*counts, **changes)


def atom_of(code: int, peak: float, shape: tuple[int, int, int] = (4, 8, 8)) -> Any:
    """An atom that is bright in the middle; its darkest voxel is -0.25 of that."""
    from napari_vqldm.inside.atoms import Atom
    from napari_vqldm.volume import Volume

    data = np.zeros(shape, np.float32)
    data[tuple(slice(n // 4, n - n // 4) for n in shape)] = peak
    data[0, 0, 0] = -peak / 4
    return Atom(code, Volume(data, (0.2, 0.1, 0.1), {}, f"atom of code {code}"), 16, 40, 0, (1, 1, 1), True)


def click(qtbot: Any, plot: Any, where: QPoint, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
    qtbot.mouseClick(plot.viewport(), Qt.MouseButton.LeftButton, modifier, where)


def drag(qtbot: Any, plot: Any, start: QPoint, end: QPoint) -> None:
    view, left = plot.viewport(), Qt.MouseButton.LeftButton
    qtbot.mousePress(view, left, pos=start)
    qtbot.mouseMove(view, (start + end) / 2)
    qtbot.mouseMove(view, end)
    qtbot.mouseRelease(view, left, pos=end)


def shown(qtbot: Any, widget: Any, width: int = 320, height: int = 500) -> Any:
    """Show a widget as wide as a narrow dock."""
    qtbot.addWidget(widget)
    widget.resize(width, height)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


def beyond_the_edge(root: Any) -> list[str]:
    """Children that reach beyond the right edge, labels and buttons that are too narrow for their words."""
    from qtpy.QtWidgets import QAbstractButton, QLabel, QWidget

    found = []
    for child in root.findChildren(QWidget):
        if not child.isVisibleTo(root):
            continue
        if child.mapTo(root, QPoint(0, 0)).x() + child.width() > root.width():
            found.append(f"{child.objectName()} {type(child).__name__} is beyond the edge")
        is_cut = isinstance(child, QAbstractButton) and child.text() and child.width() < child.sizeHint().width()
        is_low = isinstance(child, QLabel) and child.wordWrap() and child.height() < child.heightForWidth(child.width())
        if is_cut or is_low:
            found.append(f"{child.objectName()} {child.text()!r} is cut off")
    return found
