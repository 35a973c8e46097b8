"""The atom of the chosen code as one small layer beside its stack."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_vqldm.files.provenance import NAMESPACE
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.layers import LayerSource, add_volume, placement, set_volume

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_vqldm.inside.atoms import Atom
    from napari_vqldm.volume import Volume

LIMITS = (-1.0, 1.0)  # one filament's peak: with fixed limits a faint atom is faint
GAP = 0.1  # between stack and atom, of the width of the stack


class AtomLayer:
    """Shows one atom at a time.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer when the first atom is shown; it is referenced weakly, as the layer is.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = weakref.ref(bare(viewer))
        self._layer: Any = lambda: None

    @property
    def layer(self) -> Image | None:
        """The layer; None when there is none, or the user deleted it."""
        layer, viewer = self._layer(), self._viewer()
        return layer if layer is not None and viewer is not None and layer in viewer.layers else None

    def show(self, atom: Atom, near: LayerSource | None) -> Image | None:
        """Show an atom in the layer there is, or in a new one where that has another shape.

        Parameters
        ----------
        atom : Atom
            Blue where its code darkens the volume, black where it changes nothing, orange where it brightens.
        near : LayerSource or None
            Its stack: the atom lies to the right of it, halfway up and halfway deep, at the same scale.

        Returns
        -------
        napari.layers.Image or None
            The layer, when it was added now; None when it was there, or the viewer is gone.
        """
        viewer = self._viewer()
        if viewer is None:
            return None
        name, layer = f"Atom of code {atom.code}", self.layer
        record = {"software": NAMESPACE, "layer": "atom", "code": atom.code, "mean": atom.text}
        volume = replace(atom.volume, provenance=record)
        place = _beside(volume, near)
        if layer is None or layer.data.shape != volume.shape:
            layer = add_volume(viewer, volume, name=name, limits=LIMITS, kind="residual", like=place)
            self._layer = weakref.ref(layer)
            return layer
        set_volume(layer, volume, name=name)
        for key, value in placement(volume, place).items():
            setattr(layer, key, value)
        return None


def _beside(volume: Volume, near: LayerSource | None) -> LayerSource | None:
    """Return what the atom lies on: a box beside the stack, in voxels of the size of the atom."""
    if near is None:
        return None
    ratios = [own / theirs for own, theirs in zip(volume.voxel_size_um, near.voxel_size_um, strict=True)]
    sizes = [n * k for n, k in zip(volume.shape, ratios, strict=True)]  # of the atom, in voxels of the stack
    z, y, x = ((n - size) / 2 for n, size in zip(near.shape, sizes, strict=True))
    x = near.shape[2] * (1 + GAP)
    corner = tuple(first + own for first, own in zip(near.offset, (z, y, x), strict=True))
    box = tuple((0, n) for n in volume.shape)
    stretch = (ratios[0], ratios[1], ratios[2])
    return replace(near, box=box, transform=near.transform.moved(corner, stretch))  # type: ignore[arg-type]
