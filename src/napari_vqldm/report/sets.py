"""Sets of volumes that are compared: a tier of MT-Sim v1, a folder of files, samples of a model.

Everything is brought to filament units and to windows of 32 x 128 x 128 voxels of 0.2 x 0.1 x 0.1 um: features,
traces and spectra of volumes of different size cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate.mt_sim import TIERS, BenchmarkVolume, Split, mt_sim_split
from napari_vqldm.volume import Float3, Int3

Array = npt.NDArray[np.float32]
Track = Literal["simulated", "files"]

WINDOW: Int3 = (32, 128, 128)
VOXEL_SIZE_UM: Float3 = (0.2, 0.1, 0.1)


@dataclass(frozen=True)
class VolumeSet:
    """Volumes (Z, Y, X) in filament units with the noise of a camera, all of one shape and voxel size.

    Attributes
    ----------
    name : str
        What they are, for the report.
    volumes : list of ndarray
        What is compared.
    track : str
        ``simulated`` or ``files``: results of the two are never mixed in one table.
    clean : list of ndarray
        Noise-free expectations, where they are known.
    simulated : list of BenchmarkVolume
        Volumes of MT-Sim with all of their truth, where that is what they are.
    notes : tuple of str
        What happened on the way here that a reader must know.
    """

    name: str
    volumes: list[Array]
    track: Track
    clean: list[Array] = field(default_factory=list)
    simulated: list[BenchmarkVolume] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def as_set(name: str, volumes: Sequence[BenchmarkVolume]) -> VolumeSet:
    """Return simulated volumes as a set, compared as recorded by the tier's one camera."""
    return VolumeSet(name, [v.recorded for v in volumes], "simulated", [v.clean for v in volumes], list(volumes))


def parse_against(text: str) -> Split | Path:
    """Return what ``--against`` names: a tier, a tier and a split as ``hard:val``, or a folder.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    name, _, split = text.partition(":")
    if name in TIERS:
        return mt_sim_split(name, split or "test")
    folder = Path(text)
    if folder.is_dir():
        return folder
    raise ConfigError(
        f"--against {text}: expected a tier of MT-Sim v1 ({', '.join(TIERS)}; with a split as in standard:val), or a "
        "folder of volumes"
    )
