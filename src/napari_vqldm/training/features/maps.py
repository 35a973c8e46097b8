"""Where filaments are and how they bend, cell by cell: what a volume teaches beyond its few labels.

A persistence length is one number a volume, and a noisy one: a network that is asked for nothing else learns nothing
from it in minutes. The curvature of each piece of filament is hundreds of numbers a volume.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_vqldm.config_base import Float3, Int3
from napari_vqldm.metrics.bending import STEP_UM, local_curvature
from napari_vqldm.metrics.polylines import arc_um, check_lines, pieces_between
from napari_vqldm.simulate import Scene

CELL: Int3 = (4, 8, 8)  # voxels: 0.8 um along every axis, one cell of the third stage of the network
STAGE = 2  # of `FeatureNet`, whose cells these are
MAPS = ("length_um", "bent_um", "bend")  # of filament; of filament whose curvature is known; its integral
TARGET_MAPS = ("log_length", "log_curvature")
LEAST_BENT_UM = 0.3  # of filament in a cell whose curvature is asked for
LENGTH_UNIT_UM = 0.2
LEAST_CURVATURE_PER_UM = 0.01
CURVATURE_MEAN, CURVATURE_SD = -1.5, 0.8  # of the logarithm: standardization, not a measurement

FloatArray = npt.NDArray[np.float32]


def map_shape(shape: Int3) -> tuple[int, int, int, int]:
    """Return the shape of the maps of a volume; voxels beyond the last whole cell belong to none."""
    d, h, w = (n // c for n, c in zip(shape, CELL, strict=True))
    return len(MAPS), d, h, w


def scene_maps(scene: Scene, shape: Int3, voxel_size_um: Float3) -> FloatArray:
    """Return the maps (3, D / 4, H / 8, W / 8) of a scene, see `MAPS`."""
    maps = np.zeros(map_shape(shape), np.float64)
    cell_um = np.asarray(CELL) * np.asarray(voxel_size_um)
    lines = check_lines(scene.centre_lines())

    def add(row: int, points: npt.NDArray[np.float64], amounts: npt.NDArray[np.float64]) -> None:
        cells = np.floor(points / cell_um).astype(np.int64)
        inside = ((cells >= 0) & (cells < maps.shape[1:])).all(axis=1)
        np.add.at(maps[row], tuple(cells[inside].T), amounts[inside])

    add(0, *pieces_between(lines, STEP_UM))
    for points, bend in local_curvature(lines):
        step = float(arc_um(points)[-1]) / max(len(points) - 1, 1) if len(points) > 1 else STEP_UM
        add(1, points, np.full(len(points), step))
        add(2, points, bend * step)
    return maps.astype(np.float32)


def map_targets(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return targets and weights (B, 2, d, h, w), see `TARGET_MAPS`, for maps (B, 3, d, h, w).

    Each target has a weight of 1 in all, spread over the cells that can be asked for it.
    """
    length, bent, bend = maps.unbind(1)
    curvature = (bend / bent.clamp_min(1e-6)).clamp_min(LEAST_CURVATURE_PER_UM)
    targets = torch.stack([torch.log1p(length / LENGTH_UNIT_UM), (curvature.log() - CURVATURE_MEAN) / CURVATURE_SD], 1)
    asked = bent * (bent >= LEAST_BENT_UM)
    return targets, torch.stack([torch.ones_like(length), asked], 1)
