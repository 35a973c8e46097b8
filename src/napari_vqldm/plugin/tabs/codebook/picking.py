"""A click in the viewer chooses the code of the cell that is clicked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare

if TYPE_CHECKING:
    from napari_vqldm.plugin.desk import Desk
    from napari_vqldm.plugin.tabs.codebook.map_layer import CodeMapLayer
    from napari_vqldm.plugin.tabs.codebook.state import CodebookState

CLICK_PX = 4.0  # a hand trembles: below this a press and its release are one click
LEFT = 1  # button


class Picker:
    """Follows clicks in the viewer; drags, other buttons and other tools stay what they are.

    In 2D the cell under the pointer counts. In 3D, of the cells behind the pointer, the first that is lit; else the
    first of those that are seen while nothing is chosen. A click on nothing leaves the choice.

    Parameters
    ----------
    desk : Desk
        Of the dock; its viewer is listened to.
    maps : callable
        Returns the code maps there are.
    state : CodebookState
        Gets the choice.
    """

    def __init__(self, desk: Desk, maps: Callable[[], Sequence[CodeMapLayer]], state: CodebookState) -> None:
        self._desk, self._maps, self._state = desk, maps, state
        bare(desk.viewer).mouse_drag_callbacks.append(self._on_press)

    def close(self) -> None:
        """Listen no longer; safe to call twice."""
        with suppress(VqldmError, ValueError):  # the viewer is gone, or it is done
            bare(self._desk.viewer).mouse_drag_callbacks.remove(self._on_press)

    def pick(self, position: Sequence[float], direction: npt.ArrayLike | None, displayed: Sequence[int]) -> int | None:
        """Return the code at a place; None where there is none.

        Parameters
        ----------
        position : sequence of float
            In the world of the viewer, all axes.
        direction : array-like or None
            Of the view, all axes; None in 2D.
        displayed : sequence of int
            Axes that are shown.
        """
        layers = list(bare(self._desk.viewer).layers)
        found = [(layers.index(one.layer), one) for one in self._maps() if one.layer is not None]
        for _, one in sorted(found, key=lambda entry: -entry[0]):  # the top one first
            layer = one.layer
            if not layer.visible or not layer.opacity:
                continue
            start = one.to_cells(position)
            if direction is None or len(displayed) < 3:
                cells = cells_along(one.code_map.codes.shape, start, np.zeros(3))
                seen = np.ones(len(cells), bool)
            else:
                step = one.to_cells(np.asarray(position) + np.asarray(direction)) - start
                cells = cells_along(one.code_map.codes.shape, start, step)
                seen = one.is_seen(one.code_map.codes[tuple(cells.T)])
            codes = one.code_map.codes[tuple(cells.T)]
            for wanted in (np.isin(codes, self._state.codes), seen):
                if wanted.any():
                    return int(codes[np.argmax(wanted)])
        return None

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        """Wait for the release: napari goes on here with every move of the mouse."""
        active = viewer.layers.selection.active
        is_tool = active is not None and active.mode != "pan_zoom"  # the user paints, draws or transforms
        if event.button != LEFT or event.modifiers or is_tool:
            return
        pressed = np.array(event.pos, float)
        place = tuple(event.position), event.view_direction, list(event.dims_displayed)
        yield
        is_click = True
        while event.type == "mouse_move":
            is_click = is_click and bool(np.abs(np.array(event.pos, float) - pressed).max() <= CLICK_PX)
            yield
        if is_click and (code := self.pick(*place)) is not None:
            self._state.choose(code)


def cells_along(
    shape: Sequence[int], point: npt.NDArray[np.float64], direction: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Return the cells (n, 3) that a straight line crosses, in its direction.

    Parameters
    ----------
    shape : sequence of int
        Cells (d, h, w); each reaches half a cell to both sides of its number.
    point : ndarray
        (3,), any point of the line, in cells.
    direction : ndarray
        (3,); all zero: the cell at the point alone.
    """
    size = np.asarray(shape, np.float64)
    moves = direction != 0.0
    if not moves.any():
        ends = np.zeros(2)
    else:
        # Where the line passes a face between cells, from the one end of the grid to the other.
        faces = [(np.arange(n + 1) - 0.5 - p) / d for n, p, d in zip(shape, point, direction, strict=True) if d]
        first = max(float(axis.min()) for axis in faces)
        last = min(float(axis.max()) for axis in faces)
        if first >= last:
            return np.empty((0, 3), np.intp)
        passed = np.concatenate(faces)
        ends = np.unique(np.concatenate([[first, last], passed[(passed > first) & (passed < last)]]))
    middles = (ends[:-1] + ends[1:]) / 2
    cells = np.floor(point + middles[:, None] * direction + 0.5)
    inside = ((cells >= 0) & (cells < size)).all(axis=1)
    return np.asarray(cells[inside], np.intp)
