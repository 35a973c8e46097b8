"""Projections and small figures of volumes, without torch: numpy for the pixels, Pillow for text and PNG.

Gray on black, one physical scale in all three directions, a scale bar in micrometres: what a microscopist expects.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from napari_vqldm.errors import ShapeError
from napari_vqldm.volume import Volume

Gray = npt.NDArray[np.uint8]
Limits = tuple[float, float]

GAP = 3  # pixels between the three projections
GAP_GRAY = 38  # a visible but quiet seam
PLAIN = str.maketrans({"µ": "u", "×": "x", "³": "3", "²": "2"})  # Pillow's own font lacks these
BAR_STEPS_UM = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


@dataclass(frozen=True)
class Panel:
    """One picture of a contact sheet: gray pixels (H, W), a title and caption lines."""

    image: Gray
    title: str
    lines: tuple[str, ...] = ()


def max_projection(data: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Return the maximum of a volume (Z, Y, X) along one axis: 0 looks along z, 1 along y, 2 along x."""
    if data.ndim != 3:
        raise ShapeError(f"expected a volume (Z, Y, X) to project, got shape {data.shape}")
    return np.asarray(data.max(axis=axis))


def contrast_limits(data: npt.NDArray[Any], low: float = 0.5, high: float = 99.8) -> Limits:
    """Return robust display limits: two percentiles, never equal.

    Pass the projection that is shown, not the volume: the maximum over many noisy planes has a floor of its own.
    """
    bottom, top = (float(v) for v in np.percentile(data, (low, high)))
    if top <= bottom:  # nearly empty: fall back to the full range, then to a unit
        bottom, top = float(data.min()), float(data.max())
    return (bottom, top) if top > bottom else (bottom, bottom + 1.0)


def to_gray(image: npt.NDArray[Any], limits: Limits | None = None, gamma: float = 1.0) -> Gray:
    """Map intensities to 0..255: ``limits`` become black and white, values beyond them saturate."""
    bottom, top = limits if limits is not None else contrast_limits(image)
    scaled = np.clip((np.asarray(image, np.float64) - bottom) / (top - bottom), 0.0, 1.0)
    return np.asarray(np.rint(scaled**gamma * 255.0), np.uint8)


def orthogonal_projections(
    volume: Volume, *, width: int = 256, limits: Limits | None = None, gamma: float = 1.0, scale_bar: bool = True
) -> Gray:
    """Draw the maximum projections along z, x and y at one physical scale.

    Parameters
    ----------
    volume : Volume
        What to show; its voxel size sets the aspect ratio.
    width : int
        Width of the z projection in pixels; everything else follows from the micrometres.
    limits : tuple of float, optional
        Intensities shown as black and white; by default robust limits of the z projection.
    gamma : float
        Exponent after scaling; below 1 lifts dim structures.
    scale_bar : bool
        Draw a bar with its length into the z projection.

    Returns
    -------
    ndarray
        uint8, (H, W): z projection (Y down, X right), beside it the x projection (Y down, Z right), below it the
        y projection (Z down, X right).
    """
    extent_z, extent_y, extent_x = volume.extent_um
    pixels_per_um = width / extent_x
    height, depth = (max(1, round(extent * pixels_per_um)) for extent in (extent_y, extent_z))
    top_view = max_projection(volume.data, 0)
    limits = limits if limits is not None else contrast_limits(top_view)

    def draw(projection: npt.NDArray[Any], rows: int, columns: int) -> Gray:
        return resize(to_gray(projection, limits, gamma), rows, columns)

    xy = draw(top_view, height, width)
    if scale_bar:
        xy = draw_scale_bar(xy, pixels_per_um)
    canvas = np.zeros((height + GAP + depth, width + GAP + depth), np.uint8)
    canvas[height : height + GAP] = GAP_GRAY
    canvas[:, width : width + GAP] = GAP_GRAY
    canvas[:height, :width] = xy
    canvas[:height, width + GAP :] = draw(max_projection(volume.data, 2).T, height, depth)
    canvas[height + GAP :, :width] = draw(max_projection(volume.data, 1), depth, width)
    return canvas


def resize(image: Gray, rows: int, columns: int) -> Gray:
    """Resize gray pixels (H, W), averaging when shrinking."""
    if image.shape == (rows, columns):
        return image
    return np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BICUBIC), np.uint8)


def scale_bar_um(width_um: float) -> float:
    """Return the longest round length that covers at most a third of the picture."""
    return max((step for step in BAR_STEPS_UM if step <= width_um / 3), default=BAR_STEPS_UM[0])


def draw_scale_bar(image: Gray, pixels_per_um: float) -> Gray:
    """Return a copy of gray pixels with a white bar and its length at the lower left."""
    rows, columns = image.shape
    length_um = scale_bar_um(columns / pixels_per_um)
    bar = max(1, round(length_um * pixels_per_um))
    margin, thickness = max(3, columns // 40), max(2, rows // 100)
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    bottom = rows - margin
    pen.rectangle((margin, bottom - thickness, margin + bar - 1, bottom - 1), fill=255)
    if columns >= 96:  # a label needs room to be readable
        pen.text(
            (margin, bottom - thickness - 2),
            f"{length_um:g} um",
            fill=255,
            font=_font(max(9, columns // 22)),
            anchor="ls",
            stroke_width=1,
            stroke_fill=0,
        )
    return np.asarray(picture, np.uint8)


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Panel]]], *, title: str = "", margin: int = 18, text: int = 13
) -> Gray:
    """Arrange labeled panels in titled rows on one light sheet.

    Parameters
    ----------
    rows : sequence of (str, sequence of Panel)
        Heading and panels of every row; rows without panels show their heading alone.
    title : str
        Heading of the sheet.
    margin, text : int
        Pixels between panels; font size of captions.

    Returns
    -------
    ndarray
        uint8, (H, W), black text on white.
    """
    line, heading = round(text * 1.45), round(text * 1.35)
    layout: list[tuple[int, str, Sequence[Panel]]] = []
    top, widest = margin + (2 * heading if title else 0), 0
    for name, panels in rows:
        layout.append((top, name, panels))
        block = max((p.image.shape[0] + line * (1 + len(p.lines)) + 6 for p in panels), default=0)
        top += 2 * heading + block + margin
        widest = max(widest, margin + sum(p.image.shape[1] + margin for p in panels))
    names = [title, *(name for name, _ in rows)]
    widest = max(widest, *(round(_font(heading).getlength(name)) + 2 * margin for name in names))

    sheet = Image.new("L", (widest, top), 255)
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((margin, margin), title, fill=0, font=_font(round(heading * 1.25)))
    for top, name, panels in layout:
        pen.text((margin, top), name, fill=0, font=_font(heading))
        left = margin
        for panel in panels:
            high, wide = panel.image.shape
            below = top + 2 * heading
            sheet.paste(Image.fromarray(panel.image), (left, below))
            for index, words in enumerate((panel.title, *panel.lines)):
                place = (left, below + high + 6 + index * line)
                pen.text(
                    place, _shorten(words, wide + margin - 6, text), fill=0 if index == 0 else 90, font=_font(text)
                )
            left += wide + margin
    return np.asarray(sheet, np.uint8)


def png_bytes(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode gray (H, W) or RGB (H, W, 3) pixels as PNG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _shorten(words: str, width: int, size: int) -> str:
    """Cut words that would run into the next panel."""
    font, words = _font(size), words.translate(PLAIN)
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "...") > width:
        words = words[:-1]
    return words + "..."
