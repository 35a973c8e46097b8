"""Simulated microtubule volumes with exact truth: worm-like filaments, a computed microscope, a camera.

The names are loaded on first use: optics and tiers are wanted where torch is not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_vqldm.simulate.camera import camera_in_filament_units, noisy_in_filament_units, render_camera
    from napari_vqldm.simulate.instances import label_filaments
    from napari_vqldm.simulate.optics import psf
    from napari_vqldm.simulate.presets import preset
    from napari_vqldm.simulate.simulator import SampleParameters, Scene, SimulatedBatch, Simulator
    from napari_vqldm.simulate.tiers import tier

_HOME = {
    "SampleParameters": "simulator",
    "Scene": "simulator",
    "SimulatedBatch": "simulator",
    "Simulator": "simulator",
    "camera_in_filament_units": "camera",
    "label_filaments": "instances",
    "noisy_in_filament_units": "camera",
    "preset": "presets",
    "psf": "optics",
    "render_camera": "camera",
    "tier": "tiers",
}

__all__ = [
    "SampleParameters",
    "Scene",
    "SimulatedBatch",
    "Simulator",
    "camera_in_filament_units",
    "label_filaments",
    "noisy_in_filament_units",
    "preset",
    "psf",
    "render_camera",
    "tier",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
