"""The images of the comparison of presets: real ones, cut to the extent of the preset, and simulated ones like them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from scipy.ndimage import gaussian_filter

from napari_vqldm.config import Float3, SimulationConfig
from napari_vqldm.errors import FileError
from napari_vqldm.files import read_volume
from napari_vqldm.simulate import Simulator, preset

SPINDLES = (  # confocal stacks, BSD-2-Clause
    "spindle3d_R1E_mESC_zeiss40x",
    "spindle3d_multidna2",
    "spindle3d_multidna3_lowres",
    *(f"spindle_morph_{name}" for name in ("dimdna", "homogenous", "length9p5", "volume00", "volume01", "volume02")),
    *(f"spindle_morph_{name}" for name in ("width5p5", "width8p5")),
)
PLANES = {  # pixel size, um; the second holds 9 raw frames of structured illumination, their mean is a widefield image
    "neubias_cell_microtubules_2d": 0.1325,  # CC BY 4.0
    "rdlsim_MT_raw9": 0.0626,  # MIT
}


@dataclass(frozen=True)
class Picture:
    """A volume (Z, Y, X), or a plane (1, Y, X) whose axial voxel size means nothing."""

    name: str
    data: npt.NDArray[np.float32]
    voxel_size_um: Float3


def extent_um(config: SimulationConfig) -> Float3:
    """Extent of the volumes of a preset (z, y, x)."""
    z, y, x = (n * size for n, size in zip(config.shape, config.voxel_size_um, strict=True))
    return z, y, x


def real_spindles(folder: Path) -> Iterator[Picture]:
    """Every stack, cut to the extent of the preset around its spindle."""
    extent = extent_um(preset("spindle"))
    for name in SPINDLES:
        volume = read_volume(_existing(folder, name))
        yield Picture(name, around_brightest(volume.data, volume.voxel_size_um, extent), volume.voxel_size_um)


def around_brightest(data: npt.NDArray[Any], voxel_size_um: Float3, extent: Float3) -> npt.NDArray[np.float32]:
    """Cut a window around the centre of what is brighter than the middle between median and peak, inside the data."""
    smooth = gaussian_filter(np.asarray(data, np.float64), [1.0 / size for size in voxel_size_um])
    weight = np.clip(smooth - 0.5 * (np.percentile(smooth, 99.9) + np.percentile(smooth, 50)), 0.0, None)
    window = []
    for axis, size in enumerate(voxel_size_um):
        across = weight.sum(axis=tuple(k for k in range(3) if k != axis))
        centre = float((across * np.arange(len(across))).sum() / across.sum())
        count = min(round(extent[axis] / size), len(across))
        first = int(np.clip(round(centre - count / 2), 0, len(across) - count))
        window.append(slice(first, first + count))
    return np.asarray(data[tuple(window)], np.float32)


def real_planes(folder: Path) -> Iterator[Picture]:
    """Every plane, in as many tiles of the lateral extent of the preset as fit, around its middle."""
    side = extent_um(preset("interphase"))[1]
    for name, pixel in PLANES.items():
        data = tifffile.imread(_existing(folder, name)).astype(np.float32)
        plane = data if data.ndim == 2 else data.mean(axis=0)
        edge = min(round(side / pixel), *plane.shape)
        rows, columns = (length // edge for length in plane.shape)
        top, left = ((length - count * edge) // 2 for length, count in zip(plane.shape, (rows, columns), strict=True))
        for k in range(rows * columns):
            y, x = top + k // columns * edge, left + k % columns * edge
            yield Picture(f"{name}, tile {k + 1}", plane[None, y : y + edge, x : x + edge], (0.2, pixel, pixel))


def like(name: str, real: list[Picture], count: int, seed: int) -> Iterator[Picture]:
    """Simulate ``count`` recordings of a preset per real image, at its voxel size and of the extent of the preset.

    Volumes are numbered on, so that no scene occurs twice. For planes: the brightest plane of a volume.
    """
    config = preset(name)
    extent = extent_um(config)
    for number, picture in enumerate(real):
        is_plane = picture.data.shape[0] == 1
        size = (config.voxel_size_um[0], *picture.voxel_size_um[1:]) if is_plane else picture.voxel_size_um
        shape = tuple(round(e / s) for e, s in zip(extent, size, strict=True))
        simulator = Simulator(config.model_copy(update={"shape": shape, "voxel_size_um": size}))
        for index in range(number * count, (number + 1) * count):
            noisy = simulator.sample(seed, [index]).noisy
            assert noisy is not None
            data = noisy[0, 0].numpy()
            if is_plane:
                brightest = int(np.argmax(data.mean(axis=(1, 2))))
                data = data[brightest : brightest + 1]
            yield Picture(f"{name} {index}", data, size)


REAL: dict[str, Callable[[Path], Iterator[Picture]]] = {"spindle": real_spindles, "interphase": real_planes}


def _existing(folder: Path, name: str) -> Path:
    path = folder / f"{name}.tif"
    if not path.is_file():
        raise FileError(f"expected {path.name} in the folder of real stacks: download it first")
    return path
