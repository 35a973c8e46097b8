"""Pictures of a run: rows of maximum projections on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_vqldm.config import Float3
from napari_vqldm.pictures import Panel, contact_sheet, orthogonal_projections
from napari_vqldm.volume import Volume

SheetRow = tuple[str, Sequence[tuple[str, npt.NDArray[np.float32]]]]
LIMITS = (-0.2, 2.5)  # filament units, the same in every picture, so that steps can be compared


def volumes_sheet(
    rows: Sequence[SheetRow], voxel_size_um: Float3, title: str, width: int = 192
) -> npt.NDArray[np.uint8]:
    """Draw volumes (Z, Y, X) in filament units as labeled projections; values that are no numbers become 0."""
    sheet = []
    for heading, volumes in rows:
        panels = []
        for name, data in volumes:
            volume = Volume(np.nan_to_num(data), voxel_size_um)
            panels.append(Panel(orthogonal_projections(volume, width=width, limits=LIMITS), name))
        sheet.append((heading, panels))
    return contact_sheet(sheet, title=title)
