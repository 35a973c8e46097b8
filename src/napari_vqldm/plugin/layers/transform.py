"""Where a layer lies in the world, and how large its voxels are: what of napari's transforms concerns z, y and x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_vqldm.plugin.layers.info import LayerInfo
from napari_vqldm.volume import Float3

if TYPE_CHECKING:
    from napari.layers import Layer


@dataclass(frozen=True)
class Transform:
    """Where the three spatial axes of a layer lie in the world, in napari's own terms.

    Attributes
    ----------
    scale, translate : tuple of float
        (z, y, x), in ``units``.
    rotate, shear, affine : ndarray
        (3, 3), (3, 3) and (4, 4).
    units, axis_labels : tuple of str
        (z, y, x).
    """

    scale: Float3
    translate: Float3
    rotate: npt.NDArray[np.float64]
    shear: npt.NDArray[np.float64]
    affine: npt.NDArray[np.float64]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    def moved(self, offset: tuple[float, ...], stretch: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Transform:
        """Return the transform of an array that starts at voxel ``offset`` and has voxels ``stretch`` times as large.

        Corners stay in place: the center of the first larger voxel lies ``(stretch - 1) / 2`` voxels further in.
        """
        shift = np.array([o + (s - 1) / 2 for o, s in zip(offset, stretch, strict=True)])
        if not shift.any() and set(stretch) == {1.0}:
            return self
        step = self.rotate @ self.shear @ np.diag(self.scale) @ shift
        return Transform(
            scale=_three(s * k for s, k in zip(self.scale, stretch, strict=True)),
            translate=_three(t + d for t, d in zip(self.translate, step, strict=True)),
            rotate=self.rotate,
            shear=self.shear,
            affine=self.affine,
            units=self.units,
            axis_labels=self.axis_labels,
        )

    def arguments(self) -> dict[str, Any]:
        """Return the keywords of ``viewer.add_image`` that put a layer here."""
        return {
            "scale": self.scale,
            "translate": self.translate,
            "rotate": self.rotate,
            "shear": self.shear,
            "affine": self.affine,
            "units": self.units,
            "axis_labels": self.axis_labels,
        }


def transform_of(layer: Layer, spatial: tuple[int, ...]) -> Transform:
    """Copy the transform of a layer, reduced to its spatial axes."""
    axes = list(spatial)
    # rotate @ shear @ scale is what napari composes; the shear may be its upper triangle or a matrix.
    rotate, scale = np.asarray(layer.rotate, np.float64), np.asarray(layer.scale, np.float64)
    shear = np.asarray(layer.shear, np.float64)
    if shear.ndim == 1:
        full = np.eye(layer.ndim)
        full[np.triu_indices(layer.ndim, 1)] = shear
        shear = full
    affine = np.asarray(layer.affine.affine_matrix, np.float64)
    last = [*axes, layer.ndim]
    return Transform(
        scale=_three(scale[axes]),
        translate=_three(np.asarray(layer.translate)[axes]),
        rotate=rotate[np.ix_(axes, axes)].copy(),
        shear=shear[np.ix_(axes, axes)].copy(),
        affine=affine[np.ix_(last, last)].copy(),
        units=tuple(str(layer.units[axis]) for axis in axes),
        axis_labels=tuple(str(layer.axis_labels[axis]) for axis in axes),
    )


def write_voxel_size(layer: Layer, info: LayerInfo, voxel_size_um: Float3) -> npt.NDArray[np.float64]:
    """Give a layer a voxel size: scale and unit of its spatial axes.

    Parameters
    ----------
    layer : napari layer
        What is computed from it afterwards lies on it.
    info : LayerInfo
        Of the layer.
    voxel_size_um : tuple of float
        (z, y, x).

    Returns
    -------
    ndarray
        How much larger each axis of the layer has become, for what is to stay on it.
    """
    scale, units = list(layer.scale), [str(unit) for unit in layer.units]
    for axis, value in zip(info.spatial_axes, voxel_size_um, strict=True):
        scale[axis], units[axis] = value, "um"
    ratio = np.asarray(scale, np.float64) / np.asarray(layer.scale, np.float64)
    layer.units = units
    layer.scale = scale
    return ratio


def _three(values: Any) -> Float3:
    z, y, x = (float(value) for value in values)
    return z, y, x
