"""Reading the volumes that a verb takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_vqldm.volume import Volume


def read_input(path: Path, box: Any = None, **choices: Any) -> Volume:
    """Read one volume, and cut a box out of it where one is given; ``choices`` are those of `read_volume`."""
    from napari_vqldm.crop import crop
    from napari_vqldm.files import read_volume

    volume = read_volume(path, **choices)
    return volume if box is None else crop(volume, box)
