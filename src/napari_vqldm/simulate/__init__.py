"""Simulated microtubule volumes with exact truth: worm-like filaments, a computed microscope, a camera."""

from napari_vqldm.simulate.camera import camera_in_filament_units, noisy_in_filament_units, render_camera
from napari_vqldm.simulate.instances import label_filaments
from napari_vqldm.simulate.optics import psf
from napari_vqldm.simulate.presets import preset
from napari_vqldm.simulate.simulator import SampleParameters, Scene, SimulatedBatch, Simulator
from napari_vqldm.simulate.tiers import tier

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
