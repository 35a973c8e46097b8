"""Put volumes into a viewer: in place, with units, fixed contrast and their record. Nothing of the user is replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ShapeError
from napari_vqldm.files.provenance import SeriesAxis, series_record
from napari_vqldm.pictures import contrast_limits, max_projection
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.layers.info import KEY
from napari_vqldm.plugin.layers.source import LayerSource
from napari_vqldm.volume import Float3, Volume

if TYPE_CHECKING:
    from napari.layers import Image

Kind = Literal["volume", "reconstruction", "residual", "uncertainty", "preview"]
Limits = tuple[float, float]

# Black is zero: a residual without structure disappears on the dark canvas. Blue is too low, orange too high.
DIVERGING = ((0.25, 0.65, 1.0), (0.0, 0.0, 0.0), (1.0, 0.55, 0.1))


@dataclass(frozen=True)
class _Look:
    """How one kind of volume is shown."""

    colormap: str
    rendering: str


@dataclass(frozen=True)
class ChannelAxis:
    """Channel axis of an input, for a series that was computed from one of its channels.

    napari meets axes of layers from the last one on: without this axis, the time of the series would lie on the channel
    slider.

    Attributes
    ----------
    is_first : bool
        Whether it comes before time.
    count : int
        Number of channels.
    step, start : float
        Distance of two channels and place of the first.
    unit, label : str
        As napari has them.
    """

    is_first: bool
    count: int
    step: float = 1.0
    start: float = 0.0
    unit: str = "pixel"
    label: str = "c"


_LOOKS: dict[Kind, _Look] = {
    "volume": _Look("gray", "attenuated_mip"),
    "reconstruction": _Look("gray", "attenuated_mip"),
    "residual": _Look("diverging", "mip"),
    "uncertainty": _Look("inferno", "mip"),
    "preview": _Look("gray", "attenuated_mip"),
}
_ATTENUATION = 0.5
_PREVIEW = " (preview)"


def add_volume(
    viewer: Any,
    volume: Volume,
    *,
    name: str | None = None,
    like: LayerSource | None = None,
    limits: Limits | None = None,
    kind: Kind = "volume",
) -> Image:
    """Add a volume as a new layer.

    Parameters
    ----------
    viewer : napari.Viewer
        napari makes the name unique; no layer is replaced.
    volume : Volume
        What to show.
    name : str, optional
        By default that of the volume.
    like : LayerSource, optional
        Layer, or region of one, that the volume was computed from: the new layer lies exactly on it. Volumes of another
        number of voxels share its corners.
    limits : tuple of float, optional
        Contrast; by default robust ones of the volume, which takes a moment: a job may find them before.
    kind : str
        ``"volume"``, ``"reconstruction"``, ``"residual"`` (blue below zero, orange above), ``"uncertainty"`` (from
        zero) or ``"preview"`` (says so in its name).

    Returns
    -------
    napari.layers.Image
        The layer itself, not a proxy.
    """
    label = name or volume.name
    if kind == "preview" and not label.endswith(_PREVIEW):
        label += _PREVIEW
    layer = viewer.add_image(
        volume.data,
        name=label,
        contrast_limits=limits_of(volume.data, kind) if limits is None else limits,
        metadata={KEY: dict(volume.provenance)},
        **_look(kind),
        **placement(volume, like),
    )
    return bare(layer)


def set_volume(layer: Image, volume: Volume, *, name: str | None = None) -> None:
    """Show another volume of the same shape in a layer of ours; contrast, colors and visibility stay.

    Raises
    ------
    ShapeError
        If the shape differs.
    """
    shape = tuple(layer.data.shape)
    if shape != volume.shape:
        raise ShapeError(
            f"expected a volume of {shape} voxels for layer {layer.name!r}, got {volume.shape}: add a new one"
        )
    layer.data = volume.data
    layer.metadata = {**layer.metadata, KEY: dict(volume.provenance)}
    if name is not None:
        layer.name = name


def add_series(
    viewer: Any,
    frames: Any,
    voxel_size_um: Float3,
    *,
    name: str,
    like: LayerSource | None = None,
    limits: Limits | None = None,
    step: float = 1.0,
    step_unit: str = "pixel",
    step_label: str = "t",
    start: float = 0.0,
    provenances: Sequence[Mapping[str, Any]] = (),
    kind: Kind = "volume",
    channels: ChannelAxis | None = None,
) -> Image:
    """Add a series of volumes as one layer: 4D, or 5D with one channel.

    Parameters
    ----------
    viewer : napari.Viewer
        napari makes the name unique.
    frames : array-like
        (T, Z, Y, X): NumPy, or lazy such as dask.
    voxel_size_um : tuple of float
        (z, y, x).
    name : str
        Of the layer.
    like : LayerSource, optional
        Where the volumes lie, as in `add_volume`.
    limits : tuple of float, optional
        Contrast; by default robust ones of the first, middle and last frame (which are computed when lazy).
    step, start : float
        Distance of two frames and place of the first, in ``step_unit``.
    step_unit, step_label : str
        ``"s"`` for time; ``"pixel"`` for positions without a unit.
    provenances : sequence of mapping
        Record of each frame; `snapshot` of one frame returns its own.
    kind : str
        As in `add_volume`.
    channels : ChannelAxis, optional
        Of the input, when it has one. The series gets one channel that is as thick as all of the input: it is seen
        whichever channel of the input is.

    Raises
    ------
    ShapeError
        If ``frames`` does not have 4 axes, or the records are not one per frame.
    """
    shape = tuple(int(n) for n in frames.shape)
    if len(shape) != 4:
        raise ShapeError(f"expected frames (T, Z, Y, X), got shape {shape}")
    if provenances and len(provenances) != shape[0]:
        raise ShapeError(f"expected one record for each of {shape[0]} frames, got {len(provenances)}")
    if limits is None:
        shown = [np.asarray(frames[i]) for i in sorted({0, shape[0] // 2, shape[0] - 1})]
        limits = limits_of(np.concatenate(shown), kind)
    z, y, x = shape[1:]
    place = _placement((z, y, x), voxel_size_um, like)
    if channels is None:
        place = _with_leading_axis(place, step, start, step_unit, step_label)
    else:
        middle = channels.start + channels.step * (channels.count - 1) / 2
        time = (step, start, step_unit, step_label)
        channel = (channels.step * channels.count, middle, channels.unit, channels.label)
        inner, outer = (time, channel) if channels.is_first else (channel, time)
        place = _with_leading_axis(_with_leading_axis(place, *inner), *outer)
        frames = frames[None] if channels.is_first else frames[:, None]  # a view: what is written later is seen
    record = series_record(provenances)
    layer = viewer.add_image(
        frames,
        name=name,
        contrast_limits=limits,
        metadata={KEY: record} if provenances else {},
        **_look(kind),
        **place,
    )
    return bare(layer)


def limits_of(data: npt.NDArray[Any], kind: Kind = "volume") -> Limits:
    """Return fixed, robust contrast limits for a volume (Z, Y, X); never equal, also for constant volumes."""
    finite = np.nan_to_num(data, copy=True, nan=0.0, posinf=0.0, neginf=0.0)
    if kind == "residual":  # symmetric, so that black is zero
        high = float(np.percentile(np.abs(finite), 99.8))
        return (-high, high) if high > 0 else (-1.0, 1.0)
    bottom, top = contrast_limits(max_projection(finite, 0))
    if kind == "uncertainty":
        return 0.0, top if top > 0 else 1.0
    return bottom, top


def placement(volume: Volume, like: LayerSource | None = None) -> dict[str, Any]:
    """Return scale, translate, units, axis labels and, from ``like``, rotation, shear and affine, for ``add_image``."""
    return _placement(volume.shape, volume.voxel_size_um, like)


def series_placement(volume: Volume, axis: SeriesAxis) -> dict[str, Any]:
    """Return the same for a series of such volumes along an axis."""
    return _with_leading_axis(placement(volume), axis.step, axis.start, axis.unit, axis.label)


def shown_axis(axis: SeriesAxis) -> SeriesAxis:
    """Return the axis of a file with a unit that napari knows: an unknown one would keep the file from opening."""
    import pint

    registry = pint.get_application_registry()  # type: ignore[no-untyped-call]
    return axis if axis.unit.isidentifier() and axis.unit in registry else replace(axis, unit="pixel")


def _placement(shape: tuple[int, int, int], voxel_size_um: Float3, like: LayerSource | None) -> dict[str, Any]:
    if like is None:
        return {"scale": voxel_size_um, "units": ("um",) * 3, "axis_labels": ("z", "y", "x")}
    stretch = tuple(old / new for old, new in zip(like.shape, shape, strict=True))
    return like.transform.moved(like.offset, stretch).arguments()


def _with_leading_axis(place: dict[str, Any], step: float, start: float, unit: str, label: str) -> dict[str, Any]:
    """Put an axis for time or position before z, y and x; it is neither rotated nor sheared."""
    wide = dict(place)
    wide["scale"] = (step, *place["scale"])
    wide["translate"] = (start, *place.get("translate", (0.0, 0.0, 0.0)))
    wide["units"] = (unit, *place["units"])
    wide["axis_labels"] = (label, *place["axis_labels"])
    for key in ("rotate", "shear", "affine"):
        if key in place:
            matrix = np.asarray(place[key])
            wide[key] = np.eye(len(matrix) + 1)
            wide[key][1:, 1:] = matrix
    return wide


def _look(kind: Kind) -> dict[str, Any]:
    """Keywords of ``add_image`` for one kind of volume."""
    from napari.utils.colormaps import Colormap

    look = _LOOKS[kind]
    colormap: Any = look.colormap
    if colormap == "diverging":
        colormap = Colormap(colors=[(*color, 1.0) for color in DIVERGING], name="blue-black-orange")
    return {
        "colormap": colormap,
        "rendering": look.rendering,
        "attenuation": _ATTENUATION,
        "blending": "translucent_no_depth",
    }
