"""What training minimizes: the terms of both stages, and one task per stage that adds them up."""

from napari_vqldm.training.losses.critics import Critics, make_critics
from napari_vqldm.training.losses.denoising import DenoiserTask
from napari_vqldm.training.losses.tasks import AutoencoderTask

__all__ = ["AutoencoderTask", "Critics", "DenoiserTask", "make_critics"]
