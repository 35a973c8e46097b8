"""The figure of one preset: real images above simulated ones, spectra and intensities below."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from preset_images import Picture
from preset_measures import FloatArray, Measured, to_range

from napari_vqldm.pictures import draw_scale_bar, resize

GAP, COLUMNS = 4, 5
TILES = {"spindle": 132, "interphase": 168}  # edges, pixels: four rows, or two
HEAD, CHART = 20, 210  # heights of a heading and of the charts
GRAYS = 28  # levels: small files
REAL_INK, SIMULATED_INK = (60, 60, 60), (200, 60, 60)
REAL_BAND, SIMULATED_EDGE = (210, 210, 210), (235, 150, 140)
# Shown: the clearest stacks, all tiles. All are BSD-2-Clause, CC BY 4.0 or MIT.
SHOWN = {
    "spindle": (
        "spindle3d_R1E_mESC_zeiss40x",
        "spindle3d_multidna2",
        "spindle_morph_dimdna",
        "spindle_morph_homogenous",
        "spindle_morph_volume00",
    )
}

Canvas = ImageDraw.ImageDraw


def figure(
    preset: str,
    real: Sequence[Picture],
    simulated: Sequence[Picture],
    measured: tuple[Sequence[Measured], Sequence[Measured]],
    comparison: dict[str, Any],
) -> bytes:
    """Draw it; returns a PNG with a palette."""
    shown = [p for p in real if p.name in SHOWN.get(preset, [p.name])][:COLUMNS]
    every = max(1, len(simulated) // COLUMNS)
    rows: list[tuple[str, Sequence[Picture], bool]] = []
    if preset == "spindle":
        rows += [("real: maximum projections", shown, True), ("real: one plane", shown, False)]
        rows += [("simulated: maximum projections", simulated[::every][:COLUMNS], True)]
        rows += [("simulated: one plane", simulated[::every][:COLUMNS], False)]
    else:
        rows += [("real: one plane", shown, False), ("simulated: one plane", simulated[::every][:COLUMNS], False)]
    edge = TILES[preset]
    width = COLUMNS * (edge + GAP) + GAP
    height = len(rows) * (HEAD + edge + GAP) + CHART
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    top = 0
    for heading, pictures, project in rows:
        pen.text((GAP, top + 4), heading, fill=(0, 0, 0), font=ImageFont.load_default(12))
        for column, picture in enumerate(pictures):
            bar = column == 0
            sheet.paste(Image.fromarray(_tile(picture, project, bar, edge)), (GAP + column * (edge + GAP), top + HEAD))
        top += HEAD + edge + GAP
    spectra = list(comparison["spectra"].items())
    part = width // (len(spectra) + 1)
    for k, (name, s) in enumerate(spectra):
        x = np.asarray(s["frequency_per_um"])
        band = s["real_low_db"], s["real_high_db"]
        edges = [(s[f"simulated_{end}_db"], SIMULATED_EDGE) for end in ("low", "high")]
        lines = [*edges, (s["real_mean_db"], REAL_INK), (s["simulated_mean_db"], SIMULATED_INK)]
        _chart(pen, (k * part, top, part, CHART), x, lines, band, f"{name} spectrum, dB over cycles/um")
    at = np.linspace(0.0, 1.0, 101)
    real_curves, simulated_curves = (np.array([_share_below(m.intensity, at) for m in group]) for group in measured)
    band = real_curves.min(axis=0), real_curves.max(axis=0)
    edges = [(end(simulated_curves, axis=0), SIMULATED_EDGE) for end in (np.min, np.max)]
    lines = [*edges, (real_curves.mean(axis=0), REAL_INK), (simulated_curves.mean(axis=0), SIMULATED_INK)]
    place = (len(spectra) * part, top, part, CHART)
    _chart(pen, place, at, lines, band, "share of voxels below an intensity")
    _legend(pen, len(spectra) * part + part // 4, top + 120)
    stream = io.BytesIO()
    sheet.quantize(palette=_palette(), dither=Image.Dither.NONE).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _palette() -> Image.Image:
    """Few grays, and the inks of the simulated."""
    grays = [(round(k * 255 / (GRAYS - 1)),) * 3 for k in range(GRAYS)]
    holder = Image.new("P", (1, 1))
    holder.putpalette([value for ink in (*grays, SIMULATED_INK, SIMULATED_EDGE) for value in ink])
    return holder


def _tile(picture: Picture, project: bool, bar: bool, edge: int) -> npt.NDArray[np.uint8]:
    """Gray square: the maximum along z, or the plane that has most of what is bright."""
    data = to_range(picture.data)
    if project:
        image = data.max(axis=0)
    else:
        image = data[int((data > 0.3).sum(axis=(1, 2)).argmax())]
    gray = resize(np.asarray(np.rint(image**0.8 * 255.0), np.uint8), edge, edge)
    return draw_scale_bar(gray, edge / (image.shape[1] * picture.voxel_size_um[2])) if bar else gray


def _share_below(intensity: npt.NDArray[np.float32], at: FloatArray) -> FloatArray:
    ordered = np.sort(intensity, axis=None)
    return np.asarray(np.searchsorted(ordered, at, side="right") / ordered.size)


def _chart(
    pen: Canvas,
    place: tuple[int, int, int, int],
    x: FloatArray,
    lines: Sequence[tuple[Any, tuple[int, int, int]]],
    band: tuple[Any, Any],
    title: str,
) -> None:
    """Lines over the band of the real ones (low, high) in a frame, with five ticks per axis."""
    left, top, width, height = place
    font = ImageFont.load_default(11)
    x0, x1, y0, y1 = left + 36, left + width - 12, top + height - 26, top + 30
    low, high = (
        float(end([end(values) for values in (*band, *(line for line, _ in lines))])) for end in (np.min, np.max)
    )

    def at(u: float, v: float) -> tuple[float, float]:
        return (
            x0 + (u - float(x[0])) / float(x[-1] - x[0]) * (x1 - x0),
            y0 - (v - low) / (high - low) * (y0 - y1),
        )

    pen.text((x0, top + 10), title, fill=(0, 0, 0), font=font)
    outline = [at(u, v) for u, v in zip(x, band[1], strict=True)]
    outline += [at(u, v) for u, v in zip(x[::-1], band[0][::-1], strict=True)]
    pen.polygon(outline, fill=REAL_BAND)
    for values, ink in lines:
        thick = 1 if ink == SIMULATED_EDGE else 2
        pen.line([at(u, v) for u, v in zip(x, values, strict=True)], fill=ink, width=thick)
    pen.rectangle((x0, y1, x1, y0), outline=(120, 120, 120))
    for k in range(5):
        u, v = float(x[0] + k / 4 * (x[-1] - x[0])), low + k / 4 * (high - low)
        pen.text((at(u, low)[0], y0 + 4), f"{u:.2g}", fill=(0, 0, 0), font=font, anchor="ma")
        pen.text(
            (x0 - 4, at(float(x[0]), v)[1]),
            f"{v:.0f}" if high > 2 else f"{v:.2f}",
            fill=(0, 0, 0),
            font=font,
            anchor="rm",
        )


def _legend(pen: Canvas, left: int, top: int) -> None:
    for k, (name, ink) in enumerate((("real", REAL_INK), ("simulated", SIMULATED_INK))):
        pen.line((left, top + 16 * k + 6, left + 18, top + 16 * k + 6), fill=ink, width=2)
        pen.text((left + 24, top + 16 * k), f"{name}: mean, range", fill=(0, 0, 0), font=ImageFont.load_default(11))
