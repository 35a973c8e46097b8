"""Wipe: the reconstruction left of a divider, the input right of it, as one temporary layer in 2D and in 3D."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ShapeError
from napari_vqldm.plugin.compare.looks import VisibleOnly, look_of
from napari_vqldm.plugin.compare.marks import Divider
from napari_vqldm.plugin.compat import bare

NAME = "wipe"


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
    divider : Divider
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
        self._visible: VisibleOnly | None = VisibleOnly(viewer, [])
        placed = reconstruction.ndim - 3  # a series lends the transform of its last three axes
        self.layer = viewer.add_image(
            self.array.data,
            name=_free_name(viewer),
            scale=reconstruction.scale[placed:],
            translate=reconstruction.translate[placed:],
            rotate=np.asarray(reconstruction.rotate)[placed:, placed:],
            units=tuple(reconstruction.units)[placed:],
            axis_labels=tuple(reconstruction.axis_labels)[placed:],
            **look_of(source),
        )
        self.divider = Divider(viewer, self.layer)
        viewer.layers.events.removed.connect(self._on_removed)

    def move(self, share: float) -> None:
        """Put the divider at a share of the width, 0 to 1."""
        if self._visible is None:
            return
        self.array.move(round(share * self.array.data.shape[-1]))
        self.divider.move(self.array.divider)
        self.layer.refresh(thumbnail=False, extent=False)

    def end(self) -> None:
        """Remove the layer and put the visibility back; safe to call twice."""
        if self._visible is None:
            return
        visible, self._visible = self._visible, None
        viewer = self._viewer()
        layer, self.layer = self.layer, None
        self.divider.close()
        if viewer is not None:
            viewer.layers.events.removed.disconnect(self._on_removed)
            if layer in viewer.layers:
                viewer.layers.remove(layer)
            visible.close()
        if self._on_ended is not None:
            self._on_ended()

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer or any(ref() is event.value for ref in self._parents):
            self.end()


def _free_name(viewer: Any) -> str:
    taken = {layer.name for layer in viewer.layers}
    return next(name for n in range(len(taken) + 1) if (name := NAME if n == 0 else f"{NAME} {n}") not in taken)
