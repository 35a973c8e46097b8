"""Diffusion: processes, samplers, guidance. Knows a denoiser only as a callable."""

from napari_vqldm.diffusion.guidance import guided
from napari_vqldm.diffusion.process import EpsilonProcess, FlowProcess, Process, make_process
from napari_vqldm.diffusion.samplers import SAMPLERS, SampleStep, run_sampler

__all__ = [
    "SAMPLERS",
    "EpsilonProcess",
    "FlowProcess",
    "Process",
    "SampleStep",
    "guided",
    "make_process",
    "run_sampler",
]
