"""Wipe: the reconstruction left of a divider, the input right of it, as one temporary layer in 2D and in 3D."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QTimer

from napari_vqldm.errors import ShapeError
from napari_vqldm.plugin.compare.looks import VisibleOnly, look_of
from napari_vqldm.plugin.compare.marks import Divider
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.layers.transform import transform_of

NAME = "wipe"
REST_MS = 40  # between two moves of the divider: in 3D each one sends the whole volume to the graphics card


class WipedArray:
    """Two volumes cut together along x.

    Parameters
    ----------
    left, right : ndarray
        (Z, Y, X), same shape.

    Raises
    ------
    ShapeError
        If the shapes differ.
    """

    def __init__(self, left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> None:
        if left.shape != right.shape:
            raise ShapeError(
                f"expected input and reconstruction of one shape, got {right.shape} and {left.shape}: reconstruct again"
            )
        self._left, self._right = left, right
        self.data = np.array(right, dtype=np.float32, order="C")
        self.divider = 0

    def move(self, divider: int) -> None:
        """Put the divider at a voxel of x, 0 (all of ``right``) to X (all of ``left``); rewrite only what changes."""
        new = min(max(int(divider), 0), self.data.shape[-1])
        old, self.divider = self.divider, new
        if new > old:
            self.data[..., old:new] = self._left[..., old:new]
        elif new < old:
            self.data[..., new:old] = self._right[..., new:old]


class Wipe:
    """Show the wiped layer alone until it is ended.

    Parameters
    ----------
    viewer : napari.Viewer
        All its other layers are hidden meanwhile.
    source, reconstruction : Image
        The layers behind the arrays; the wiped layer lies where ``reconstruction`` lies and looks like ``source``.
    left, right : ndarray
        Voxels of reconstruction and input, (Z, Y, X), same shape.
    on_ended : callable, optional
        Called once, also when one of the layers was deleted.

    Attributes
    ----------
    layer : Image or None
        The wiped layer; None after the end.
    divider : Divider or None
        The line between the two.
    """

    def __init__(
        self,
        viewer: Any,
        source: Any,
        reconstruction: Any,
        left: npt.NDArray[np.float32],
        right: npt.NDArray[np.float32],
        on_ended: Callable[[], None] | None = None,
    ) -> None:
        viewer, source, reconstruction = bare(viewer), bare(source), bare(reconstruction)
        self.array = WipedArray(left, right)
        self._viewer = weakref.ref(viewer)
        self._parents = (weakref.ref(source), weakref.ref(reconstruction))
        self._on_ended = on_ended
        self._wanted: float | None = None
        self._rest = QTimer()
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._move_to_wanted)
        self.layer: Any = None
        self.divider: Divider | None = None
        self._visible: VisibleOnly | None = VisibleOnly(viewer, [])
        try:
            n = reconstruction.ndim  # a series lends the transform of its last three axes
            self.layer = viewer.add_image(
                self.array.data,
                name=_free_name(viewer),
                **transform_of(reconstruction, (n - 3, n - 2, n - 1)).arguments(),
                **look_of(source),
            )
            self.divider = Divider(viewer, self.layer)
        except Exception:  # nobody holds a view that was not made: the layers must not stay hidden
            self._put_back()
            raise
        viewer.layers.events.removed.connect(self._on_removed)

    def move(self, share: float) -> None:
        """Put the divider at a share of the width, 0 to 1; of shares that come faster than pictures the last counts."""
        self._wanted = share
        if not self._rest.isActive():
            self._move_to_wanted()

    def show_voxels(self, left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> None:
        """Show other voxels of the same shape, such as those of another frame; the divider stays."""
        if self._visible is None:
            return
        array = WipedArray(left, right)
        array.move(self.array.divider)
        self.array, self.layer.data = array, array.data

    def end(self) -> None:
        """Remove the layer and put the visibility back; safe to call twice."""
        if self._visible is None:
            return
        self._put_back()
        if self._on_ended is not None:
            self._on_ended()

    def _move_to_wanted(self) -> None:
        share, self._wanted = self._wanted, None
        if self._visible is None or self.divider is None or share is None:
            return
        self.array.move(round(share * self.array.data.shape[-1]))
        self.divider.move(self.array.divider)
        self.layer.refresh(thumbnail=False, extent=False)
        self._rest.start()

    def _put_back(self) -> None:
        """Take away what was added, and show what was hidden."""
        visible, self._visible = self._visible, None
        layer, self.layer = self.layer, None
        self._rest.stop()
        if self.divider is not None:
            self.divider.close()
        viewer = self._viewer()
        if viewer is None:
            return
        viewer.layers.events.removed.disconnect(self._on_removed)
        if layer is not None and layer in viewer.layers:
            viewer.layers.remove(layer)
        if visible is not None:
            visible.close()

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer or any(ref() is event.value for ref in self._parents):
            self.end()


def _free_name(viewer: Any) -> str:
    taken = {layer.name for layer in viewer.layers}
    return next(name for n in range(len(taken) + 1) if (name := NAME if n == 0 else f"{NAME} {n}") not in taken)
