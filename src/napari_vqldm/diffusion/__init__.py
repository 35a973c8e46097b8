"""Diffusion: processes, samplers, guidance. Knows a denoiser only as a callable."""

from napari_vqldm.diffusion.base import Process
from napari_vqldm.diffusion.discrete import DiscreteProcess, EpsilonProcess, VelocityProcess
from napari_vqldm.diffusion.flow import FlowProcess
from napari_vqldm.diffusion.guidance import guided
from napari_vqldm.diffusion.process import make_process
from napari_vqldm.diffusion.samplers import SAMPLERS, SampleStep, run_sampler

__all__ = [
    "SAMPLERS",
    "DiscreteProcess",
    "EpsilonProcess",
    "FlowProcess",
    "Process",
    "SampleStep",
    "VelocityProcess",
    "guided",
    "make_process",
    "run_sampler",
]
