"""The process of a configuration."""

from __future__ import annotations

from napari_vqldm.config import DiffusionConfig
from napari_vqldm.diffusion.base import Process
from napari_vqldm.diffusion.discrete import EpsilonProcess, VelocityProcess
from napari_vqldm.diffusion.flow import FlowProcess

__all__ = ["Process", "make_process"]


def make_process(config: DiffusionConfig) -> Process:
    """Build the process of a configuration."""
    if config.objective == "flow":
        return FlowProcess(config)
    return EpsilonProcess(config) if config.objective == "epsilon" else VelocityProcess(config)
