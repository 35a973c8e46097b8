"""Numbers of latent cells as layers: every cell lies on the voxels that it was encoded from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_vqldm.files.provenance import NAMESPACE, to_jsonable
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.layers import KEY, LayerSource, Transform, add_volume, limits_of
from napari_vqldm.plugin.layers.add import DIVERGING

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_vqldm.inside.cells import CellImage
    from napari_vqldm.inside.quantization import QuantizationError
    from napari_vqldm.reconstruct import Latent
    from napari_vqldm.volume import Float3, Volume

Look = Literal["from zero", "about zero"]


def cell_transform(cell_size_um: Float3, translate_um: Float3, source: LayerSource) -> Transform:
    """Return where the cells of a latent lie in the world.

    Parameters
    ----------
    cell_size_um, translate_um : tuple of float
        (z, y, x), as in `napari_vqldm.inside.cells.CellImage`.
    source : LayerSource
        The layer, or region of one, that was encoded: its units, rotation, shear and affine hold for the cells too.
    """
    stretch = tuple(cell / own for cell, own in zip(cell_size_um, source.voxel_size_um, strict=True))
    axes = zip(source.offset, translate_um, source.voxel_size_um, stretch, strict=True)
    # `moved` keeps corners: undo that, because the first cell may begin before the stack, in its padding.
    corner = tuple(first + shift / own - (k - 1) / 2 for first, shift, own, k in axes)
    return source.transform.moved(corner, stretch)


def record_of_cells(what: str, latent: Latent | None, source: LayerSource) -> dict[str, Any]:
    """Say what a layer shows, of which stack and model. It has no verb: no script of ours makes it again."""
    record: dict[str, Any] = {"software": NAMESPACE, "layer": what, "stack": source.name}
    if latent is not None:
        record |= {
            "model": latent.model_name,
            "weights_sha256": latent.weights_sha256,
            "encoded": to_jsonable(dict(latent.provenance)),
        }
    return record


def add_cells(
    viewer: Any,
    image: CellImage,
    source: LayerSource,
    *,
    look: Look = "from zero",
    limits: tuple[float, float] | None = None,
    latent: Latent | None = None,
    visible: bool = True,
) -> Image:
    """Add one number for every cell as a new layer, exactly over the stack.

    Parameters
    ----------
    viewer : napari.Viewer
        napari makes the name unique.
    image : CellImage
        (d, h, w).
    source : LayerSource
        What was encoded.
    look : str
        ``"from zero"`` (inferno) or ``"about zero"`` (blue below, black at zero, orange above).
    limits : tuple of float, optional
        Contrast; by default robust ones that begin at zero, or lie evenly about it.
    latent : Latent, optional
        What the numbers belong to, for the record.
    visible : bool
        Whether it is shown at once.

    Returns
    -------
    napari.layers.Image
        Named "<stack> (<name of the image>)"; its voxels are the cells.
    """
    from napari.utils.colormaps import Colormap

    is_diverging = look == "about zero"
    colormap: Any = "inferno"
    if is_diverging:
        colormap = Colormap(colors=[(*color, 1.0) for color in DIVERGING], name="blue-black-orange")
    layer = bare(viewer).add_image(
        np.asarray(image.data, np.float32),
        name=f"{source.name} ({image.name})",
        contrast_limits=limits or limits_of(image.data, "residual" if is_diverging else "uncertainty"),
        colormap=colormap,
        rendering="mip",
        blending="translucent_no_depth",
        interpolation2d="nearest",
        interpolation3d="nearest",  # else a cell would seem to reach into its neighbours
        visible=visible,
        metadata={KEY: record_of_cells(image.name, latent, source)},
        **cell_transform(image.cell_size_um, image.translate_um, source).arguments(),
    )
    return bare(layer)


def add_channels(
    viewer: Any, channels: Sequence[CellImage], source: LayerSource, latent: Latent | None = None
) -> list[Image]:
    """Add every channel of a latent as a layer, with common limits about zero. They cover each other: one is shown.

    Returns
    -------
    list of Image
        In the order of the channels, the first of which is shown.
    """
    if not channels:
        return []
    limits = limits_of(np.stack([channel.data for channel in channels]), "residual")
    return [
        add_cells(viewer, channel, source, look="about zero", limits=limits, latent=latent, visible=number == 0)
        for number, channel in enumerate(channels)
    ]


def add_quantization(viewer: Any, error: QuantizationError, source: LayerSource) -> list[Image]:
    """Add what quantization costs: both reconstructions, their difference, and how far every cell was moved.

    Returns
    -------
    list of Image
        Snapped and unsnapped (on one scale), snapped minus unsnapped, the heat map. They cover each other: the heat
        map is shown.
    """
    viewer = bare(viewer)
    limits = limits_of(error.snapped.data)
    # Of these no script of ours would make the same: their record says what they are, and no more.
    unsnapped = _described(error.unsnapped, "unsnapped", error.latent, source)
    difference = _described(error.difference, "snapped minus unsnapped", error.latent, source)
    layers = [
        add_volume(
            viewer, error.snapped, name=f"{source.name} (snapped)", like=source, limits=limits, kind="reconstruction"
        ),
        add_volume(
            viewer, unsnapped, name=f"{source.name} (unsnapped)", like=source, limits=limits, kind="reconstruction"
        ),
        add_volume(viewer, difference, name=f"{source.name} (snapped minus unsnapped)", like=source, kind="residual"),
    ]
    for layer in layers:
        layer.visible = False
    return [*layers, add_cells(viewer, error.distance, source, latent=error.latent)]


def _described(volume: Volume, what: str, latent: Latent, source: LayerSource) -> Volume:
    record: Mapping[str, Any] = record_of_cells(what, latent, source)
    return replace(volume, provenance=record)
